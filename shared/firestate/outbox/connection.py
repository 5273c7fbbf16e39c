"""Whether the way to the cloud is open: known from what was tried, told once a change."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from firestate.forking import ForkSafe

if TYPE_CHECKING:
    from collections.abc import Callable

_LOG = logging.getLogger("firestate.connection")


@dataclass(frozen=True, slots=True)
class LinkState:
    """How one way is: `open` is None where nothing has been tried yet."""

    open: bool | None = None
    since: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Connection:
    """What an agent's process knows of the cloud: can it publish, can it read, what waits.

    `waiting` counts the messages in the outbox, the oldest of which has been there since
    `waiting_since`. `refused` counts the messages of this folder that are known to wait in
    quarantine, up to a thousand: they can never succeed as they are.
    """

    publishing: LinkState
    reading: LinkState
    waiting: int
    waiting_since: datetime | None
    refused: int = 0

    @property
    def up(self) -> bool:
        """Whether neither way is known to be closed."""
        return self.publishing.open is not False and self.reading.open is not False


class Link(ForkSafe):
    """One way, as those who use it find it."""

    def __init__(self, what: str) -> None:
        """Say `what` it is, for the log."""
        super().__init__()
        self._what = what
        self._listeners: list[Callable[[LinkState], None]] = []
        self.after_fork()

    def on_change(self, listener: Callable[[LinkState], None]) -> None:
        """Call `listener` when it opens or closes, on the thread that has found out."""
        self._listeners.append(listener)

    def after_fork(self) -> None:
        """Forget: the child has tried nothing yet."""
        self._lock = threading.RLock()
        self._state = LinkState()

    @property
    def state(self) -> LinkState:
        """How it is."""
        return self._state

    @property
    def is_lost(self) -> bool:
        """Whether it is known to be closed."""
        return self._state.open is False

    def back(self) -> None:
        """Say that it works."""
        if self._state.open is True:
            return
        with self._lock:
            before, self._state = self._state, LinkState(open=True, since=datetime.now(UTC))
        if before.open is True:
            return  # another thread has found out at the same time
        if before.open is False:
            _LOG.warning("%s is back; what waits flows in", self._what)
        self._tell()

    def lost(self, reason: str) -> None:
        """Say that it does not, and why."""
        with self._lock:
            before = self._state
            since = before.since if before.open is False else datetime.now(UTC)
            self._state = LinkState(open=False, since=since, reason=reason)
        if before.open is False:
            return
        _LOG.warning("%s is away, the agents go on without it: %s", self._what, reason)
        self._tell()

    def unknown(self) -> None:
        """Say that another process looks after it."""
        with self._lock:
            self._state = LinkState()

    def _tell(self) -> None:
        for listener in self._listeners:
            try:
                listener(self._state)
            except Exception:  # noqa: BLE001 - the user's own
                _LOG.exception("a callback on the connection failed")
