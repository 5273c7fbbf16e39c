"""Who empties an outbox: one process, by a lock that dies with it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from firestate.forking import ForkSafe

if TYPE_CHECKING:
    from pathlib import Path


class SenderLock(ForkSafe):
    """The lock beside an outbox file; with the path None there is nobody to share with."""

    def __init__(self, outbox: Path | None) -> None:
        """Take the outbox's own path."""
        super().__init__()
        self._path = outbox and _beside(outbox)
        self._handle: int | None = None

    def acquire(self) -> bool:
        """Take the lock if nobody has it; tell whether this process has it now.

        Raises OSError where the file cannot be made.
        """
        if self._path is None or self._has_it(self._path):
            return True
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return False  # its folder is gone, until the outbox is opened anew
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._handle = handle
        return True

    def _has_it(self, path: Path) -> bool:
        """Whether this process has the lock: on the very file that others see."""
        if self._handle is None:
            return False
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(self._handle), path.stat()):
                return True
        self.release()  # the folder has vanished, or was replaced
        return False

    def release(self) -> None:
        """Let others have it."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def after_fork(self) -> None:
        """Leave it to the parent: closing the child's handle does not unlock it."""
        handle, self._handle = self._handle, None
        if handle is not None:
            with contextlib.suppress(OSError):
                os.close(handle)


def is_sending(outbox: Path) -> bool:
    """Whether some process empties an outbox now. Makes nothing, and keeps nothing.

    Raises OSError where that cannot be found out.
    """
    try:
        handle = os.open(_beside(outbox), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two that look do not take each other for a sender. A sender that begins
        # in this very moment tries again within its next look.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _beside(outbox: Path) -> Path:
    return outbox.with_name(f"{outbox.name}.lock")
