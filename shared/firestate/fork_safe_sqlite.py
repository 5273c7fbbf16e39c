"""An SQLite file that threads share, and that a fork leaves usable in parent and child.

SQLite remembers which files a process has open. A child that opens one again does not lock it, and
loses what it writes once the parent closes it. So the file is closed before a fork, with nobody
inside, and opened again at its next use, by parent and child alike.
"""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from typing import TYPE_CHECKING

from firestate.forking import ForkSafe

if TYPE_CHECKING:
    import threading
    from pathlib import Path


class ForkSafeSqlite(ForkSafe):
    """One connection to the file `path`, or with None to memory; used with the lock held."""

    _lock: threading.Lock | threading.RLock

    def __init__(self, path: Path | None) -> None:
        """Open nothing yet."""
        super().__init__()
        self.path = path
        self._new_locks()
        self._closed = False
        self._opened: sqlite3.Connection | None = None

    @abstractmethod
    def _new_locks(self) -> None:
        """Make the lock, and whatever else a child of a fork must not inherit."""

    @abstractmethod
    def _open(self) -> sqlite3.Connection:
        """Return a new connection."""

    @property
    def _connection(self) -> sqlite3.Connection:
        """The connection, opened at its first use; only with the lock held."""
        if self._opened is None:
            if self._closed:
                raise sqlite3.ProgrammingError("it was closed")
            self._opened = self._open()
        return self._opened

    def close(self) -> None:
        """Close the file, after what another thread does with it: SQLite would crash."""
        with self._lock:
            self._closed = True
            self._close_connection()

    def before_fork(self) -> None:
        """Close the file, with nobody inside; memory stays as it is."""
        self._lock.acquire()
        if self.path is not None:
            self._close_connection()

    def after_fork_in_parent(self) -> None:
        """Let others in again; the first of them opens the file."""
        self._lock.release()

    def after_fork(self) -> None:
        """Begin anew: the file is opened at its next use; what was in memory is the parent's."""
        self.leak(self._opened)
        self._opened = None
        self._new_locks()

    def _close_connection(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None
