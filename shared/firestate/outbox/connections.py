"""Connections to the outbox that no interruption can leave locked, or half-way.

A call takes a connection that nobody else uses, runs one statement, in C, and gives it back. That
is a transaction of its own: an interruption finds it done or not done. What a signal handler calls
in the middle of another call uses another connection. No lock of Python is held anywhere.

SQLite remembers which files a process has open. A child of a fork that opens one again does not
lock it, and loses what it writes once the parent closes it. So all connections are closed before a
fork, and opened again at their next use, by parent and child alike.
"""

from __future__ import annotations

import _thread
import sqlite3
import sys
import time
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from firestate.forking import ForkSafe
from firestate.worker import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import FrameType

    Row = tuple[Any, ...]
    Values = Sequence[Any] | Mapping[str, Any]

    Connect = Callable[[type[sqlite3.Connection]], sqlite3.Connection]

_LOOK_SECONDS = 0.001
_FORK_WAITS_SECONDS = 15.0
_MOST_IDLE = 32


class _Connection(sqlite3.Connection):
    """One that can be referred to weakly."""


class FileConnections(ForkSafe):
    """Connections to a file, as many as there are calls at once; idle ones are used again."""

    def __init__(self, connect: Connect, *, most_pages: int) -> None:
        """Open nothing yet; `connect` opens a connection of a class."""
        super().__init__()
        self._connect = connect
        self._most_pages = most_pages
        self._closed = False
        self._most_idle = _MOST_IDLE
        self._forks = 0
        self._open: dict[int, weakref.ref[sqlite3.Connection]] = {}
        self.after_fork()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def after_fork(self) -> None:
        """Begin anew: what was open is closed, by `before_fork`."""
        self._idle: dict[bool, deque[sqlite3.Connection]] = {False: deque(), True: deque()}
        self._open = {}
        self._forking: int | None = None
        self._forks += 1
        self._turn = Turn()

    def before_fork(self) -> None:
        """Let nobody in, and close all connections once nobody is inside."""
        self._let_nobody_in()
        self._forks += 1
        for idle in self._idle.values():
            idle.clear()
        for connection in self._all_open():
            # Those in use too: their calls are of this very thread, and begin again.
            connection.close()

    def after_fork_in_parent(self) -> None:
        """Let others in again; each opens the file anew."""
        self._forking = None

    def _let_nobody_in(self) -> None:
        self._forking = _thread.get_ident()
        deadline = time.monotonic() + _FORK_WAITS_SECONDS
        while self._others_inside() and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)

    def _others_inside(self) -> bool:
        """Whether another thread is in the middle of a statement.

        Seen on its stack, since a count would stay wrong for ever where a signal arrives between
        a statement and the counting.
        """
        own, code = _thread.get_ident(), FileConnections._once.__code__
        for ident, top in sys._current_frames().items():  # noqa: SLF001 - documented, in CPython only
            frame: FrameType | None = top if ident != own else None
            while frame is not None:
                if frame.f_code is code and frame.f_locals.get("self") is self:
                    return True
                frame = frame.f_back
        return False

    def _all_open(self) -> list[sqlite3.Connection]:
        found = [reference() for reference in list(self._open.values())]
        return [connection for connection in found if connection is not None]

    def rows(self, statement: str, values: Values = ()) -> list[Row]:
        """Run a statement that reads, and return all rows."""
        while (found := self._once(statement, values, reads=True)) is None:
            time.sleep(_LOOK_SECONDS)
        return found[0]

    def change(self, statement: str, values: Values = (), *, beyond_bound: bool = False) -> int:
        """Run a statement that writes, and return how many rows it has changed.

        Whoever goes `beyond_bound` may let the file grow to twice its bound.
        """
        # SQLite lets one write, and has others sleep; who has its turn does not find it locked.
        turn = self._turn.take()
        try:
            while (found := self._once(statement, values, beyond_bound=beyond_bound)) is None:
                time.sleep(_LOOK_SECONDS)
        finally:
            self._turn.give(turn)
        return found[1]

    def rows_if_free(self, statement: str) -> list[Row] | None:
        """Run a statement that waits for nobody; return None where somebody is in its way.

        It is for what would keep others from writing while it waits.
        """
        turn = self._turn.take()
        try:
            while (found := self._once(statement, (), reads=True, waits=False)) is None:
                time.sleep(_LOOK_SECONDS)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return None
        finally:
            self._turn.give(turn)
        return found[0]

    def _once(
        self,
        statement: str,
        values: Values,
        *,
        beyond_bound: bool = False,
        reads: bool = False,
        waits: bool = True,
    ) -> tuple[list[Row], int] | None:
        """Run a statement; return None where a fork comes in between, and nothing was done."""
        if self._forking not in (None, _thread.get_ident()):
            return None
        idle, forks = self._idle[beyond_bound], self._forks
        try:
            connection = idle.pop()
        except IndexError:
            connection = self._opened(beyond_bound=beyond_bound)
        try:
            self._set_bound(connection, beyond_bound=beyond_bound)
            if not waits:
                connection.execute("PRAGMA busy_timeout = 0").fetchall()
            cursor = connection.execute(statement, values)
            found = (cursor.fetchall() if reads else [], cursor.rowcount)
            if not waits:
                connection.close()  # it would not wait for others later either
                return found
        except sqlite3.ProgrammingError:
            if forks == self._forks:
                raise
            return None
        except sqlite3.Error:
            if waits:
                self._give_back(connection, idle, forks)
            else:
                connection.close()
            raise
        except BaseException:
            # A signal, whose traceback may keep a read open for as long as somebody keeps that.
            connection.close()
            raise
        self._give_back(connection, idle, forks)
        return found

    def _set_bound(self, connection: sqlite3.Connection, *, beyond_bound: bool) -> None:
        """Have a connection know its bound, where it does not since it was opened."""

    def _give_back(
        self, connection: sqlite3.Connection, idle: deque[sqlite3.Connection], forks: int
    ) -> None:
        if len(idle) >= self._most_idle:
            connection.close()
        elif forks == self._forks:
            idle.append(connection)

    def _opened(self, *, beyond_bound: bool) -> sqlite3.Connection:
        if self._closed:
            raise sqlite3.ProgrammingError("it was closed")
        connection = self._connect(_Connection)
        key = id(connection)
        self._open[key] = weakref.ref(connection, lambda _: self._open.pop(key, None))
        try:
            self._bound(connection, beyond_bound=beyond_bound)
        except BaseException:
            connection.close()
            raise
        return connection

    def _bound(self, connection: sqlite3.Connection, *, beyond_bound: bool) -> None:
        pages = self._most_pages * (2 if beyond_bound else 1)
        connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()

    def close(self) -> None:
        """Close the file; a call that is under way closes its own connection.

        Later calls raise sqlite3.ProgrammingError. What interrupts this one does not yet.
        """
        self._most_idle = 0
        for idle in self._idle.values():
            with suppress(IndexError):
                while True:
                    idle.pop().close()
        self._closed = True


class MemoryConnections(FileConnections):
    """Connections to one database in memory, which lives as long as this has one of them open.

    They share a cache: SQLite runs one statement of them after the other, each whole. They share a
    bound as well, so that each sets its own before a statement.
    """

    _keeps_it: sqlite3.Connection | None = None

    def after_fork(self) -> None:
        """Begin empty: what is in memory is the parent's, and stays open there."""
        self.leak((self._all_open(), self._keeps_it))
        super().after_fork()
        self._keeps_it = self._connect(_Connection)

    def _set_bound(self, connection: sqlite3.Connection, *, beyond_bound: bool) -> None:
        self._bound(connection, beyond_bound=beyond_bound)

    def before_fork(self) -> None:
        """Let nobody in, and wait until nobody is inside."""
        self._let_nobody_in()

    def close(self) -> None:
        """Forget what is in memory."""
        super().close()
        if (keeper := self._keeps_it) is not None:
            keeper.close()
