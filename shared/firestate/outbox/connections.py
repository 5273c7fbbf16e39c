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
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from firestate.forking import ForkSafe
from firestate.worker import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import CodeType, FrameType

    Row = tuple[Any, ...]
    Values = Sequence[Any] | Mapping[str, Any]

    Connect = Callable[[type[sqlite3.Connection]], sqlite3.Connection]

T = TypeVar("T")

_LOOK_SECONDS = 0.001
_FORK_WAITS_SECONDS = 15.0
_MOST_IDLE = 32
_PATIENCE_SECONDS = 10.0
_PUTS_END_SECONDS = 0.1
_LOCK_SECONDS = 0.05  # threads that put wait for their turn meanwhile
_MOST_LOCKED_SECONDS = 1.0  # so long others wait for a mark that a killed process has left


class _Connection(sqlite3.Connection):
    """One that can be referred to weakly."""


class _Lock(NamedTuple):
    """A transaction that keeps others from writing until its thread has put something."""

    thread: int
    connection: sqlite3.Connection
    forks: int
    beyond_bound: bool


class FileConnections(ForkSafe):
    """Connections to a file, as many as there are calls at once; idle ones are used again."""

    def __init__(self, connect: Connect, path: Path | None, *, most_pages: int) -> None:
        """Open nothing yet; `connect` opens a connection of a class, to the file of the path."""
        super().__init__()
        self._mark_path = None if path is None else path.with_name(f"{path.name}-locked")
        self._connect = connect
        self._most_pages = most_pages
        self._closed = False
        self.is_diverted = False
        """Whether puts go elsewhere: none begins here any more."""
        self._most_idle = _MOST_IDLE
        self._forks = 0
        self._lock: _Lock | None = None
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
        self._lock = None
        self._turn = Turn()
        self.is_diverted = False

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
        own = _thread.get_ident()
        return any(
            frame.f_code in _INSIDE and frame.f_locals.get("self") is self
            for ident, frame in _all_frames()
            if ident != own
        )

    def _all_open(self) -> list[sqlite3.Connection]:
        found = [reference() for reference in list(self._open.values())]
        return [connection for connection in found if connection is not None]

    def rows(self, statement: str, values: Values = ()) -> list[Row]:
        """Run a statement that reads, and return all rows."""
        return self._patiently(lambda: self._again(statement, values, reads=True))[0]

    def change(
        self,
        statement: str,
        values: Values = (),
        *,
        beyond_bound: bool = False,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> int:
        """Run a statement that writes, and return how many rows it has changed.

        Whoever goes `beyond_bound` may let the file grow to twice its bound. A file that is locked
        is tried again as long as the patience lasts.
        """

        def changed() -> int:
            # SQLite lets one write, and has others sleep; who has its turn does not find it locked.
            turn = self._turn.take()
            try:
                return self._again(statement, values, beyond_bound=beyond_bound)[1]
            finally:
                self._turn.give(turn)

        return self._patiently(changed, patience_seconds)

    def put(self, statement: str, values: Values) -> int | None:
        """Run a put; return how many rows it has changed, None where puts are diverted by now.

        Raises sqlite3.OperationalError at once where the file is locked.
        """
        turn = self._turn.take()
        try:
            while (changed := self._put(statement, values)) is None:
                if self.is_diverted:
                    return None
                time.sleep(_LOOK_SECONDS)
        finally:
            self._turn.give(turn)
        return changed

    def _put(self, statement: str, values: Values) -> int | None:
        if (lock := self._own_lock) is not None:
            return self._put_locked(lock, statement, values)
        found = self._once(statement, values, is_put=True)
        return found and found[1]

    def exclusively(self, job: Callable[[], T], *, beyond_bound: bool = False) -> T:
        """Run a job while nobody else writes, until it has put something.

        That is so that it gets on beside others who write all the time, and for nothing else: where
        the file cannot be locked soon, or a fork comes in between, the job runs all the same, and
        what it puts is on conditions. Only on a thread that no signal interrupts: the lock of a
        call that was broken off there would stay for as long as somebody keeps the traceback.
        `release_lock` ends it before that.
        """
        if self.has_lock:
            return job()  # it is part of another job
        turn = self._turn.take()
        try:
            self._lock_out_others(beyond_bound=beyond_bound)
            return job()
        finally:
            self.release_lock()
            self._turn.give(turn)

    def release_lock(self) -> None:
        """End what `exclusively` has begun, where this thread has."""
        if (lock := self._own_lock) is None:
            return
        self._lock = None
        self._unmark()
        if self._forking not in (None, _thread.get_ident()) or lock.forks != self._forks:
            lock.connection.close()
            return
        lock.connection.rollback()
        self._give_back(lock.connection, self._idle[lock.beyond_bound], lock.forks)

    @property
    def has_lock(self) -> bool:
        """Whether the thread that asks has locked the file, and not put anything since."""
        return self._own_lock is not None

    @property
    def _own_lock(self) -> _Lock | None:
        """The lock of the thread that asks, if it has locked the file."""
        lock = self._lock
        return lock if lock is not None and lock.thread == _thread.get_ident() else None

    def _lock_out_others(self, *, beyond_bound: bool) -> None:
        deadline = time.monotonic() + _LOCK_SECONDS
        while time.monotonic() < deadline:
            try:
                if self._begin(beyond_bound=beyond_bound):
                    return
            except (OSError, sqlite3.Error) as error:
                if not is_locked(error):
                    return  # the put of the job says what it is
            time.sleep(_LOOK_SECONDS)

    def _begin(self, *, beyond_bound: bool) -> bool:
        """Begin a transaction that writes; return False where a fork comes in between."""
        if self._forking not in (None, _thread.get_ident()):
            return False
        forks, connection = self._forks, self._taken(beyond_bound=beyond_bound)
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:
            connection.close()
            raise
        self._lock = _Lock(_thread.get_ident(), connection, forks, beyond_bound)
        self._mark()
        return True

    def _put_locked(self, lock: _Lock, statement: str, values: Values) -> int | None:
        """Put something, and let others write again; None where it is to be put without the lock.

        Where it is not what follows, the file stays locked: the job may try again.
        """
        if self._forking not in (None, _thread.get_ident()):
            return None
        if lock.forks != self._forks:  # closed by a fork, or of a file that is not the one any more
            self.release_lock()
            return None
        try:
            changed = lock.connection.execute(statement, values).rowcount
            self._unmark()  # before others can lock it, and say so by the same mark
            lock.connection.commit()
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error:
            self.release_lock()
            if lock.forks == self._forks:
                raise
            return None
        self._lock = None
        self._give_back(lock.connection, self._idle[lock.beyond_bound], lock.forks)
        return changed

    @property
    def is_locked_by_us(self) -> bool:
        """Whether a process of the folder has locked the file of late, and gets on."""
        if self._mark_path is None:
            return False
        try:
            return abs(time.time() - self._mark_path.stat().st_mtime) < _MOST_LOCKED_SECONDS
        except OSError:
            return False

    def _mark(self) -> None:
        # Others wait for us, as long as this is there. Where it cannot be, they wait less.
        if self._mark_path is not None:
            with suppress(OSError):
                self._mark_path.touch()

    def _unmark(self) -> None:
        if self._mark_path is not None:
            with suppress(OSError):
                self._mark_path.unlink()

    def divert(self, waiting: CodeType) -> None:
        """Let no put begin here any more, and wait, for a moment, until those under way have ended.

        Whoever waits for this does so in a frame of `waiting`. A put that such a call has
        interrupted would be done after all once that returns: it loses its connection, and finds
        puts diverted when it is begun again.
        """
        self.is_diverted = True
        deadline = time.monotonic() + _PUTS_END_SECONDS
        while self._puts_under_way(waiting) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)

    def retire(self) -> sqlite3.Connection | None:
        """Use none of the connections any more that are open now: their file is not the one.

        Return one of them, by which it can still be read, if there is any.
        """
        self.release_lock()
        self._forks += 1
        former = [each for idle in self._idle.values() for each in idle]
        self._idle = {False: deque(), True: deque()}
        found = former or self._all_open()
        for each in former[1:]:
            each.close()
        return found[0] if found else None

    def _puts_under_way(self, waiting: CodeType) -> bool:
        under_way, code, who_waits = False, FileConnections._once.__code__, set()
        for ident, frame in _all_frames():
            if frame.f_code is waiting:
                who_waits.add(ident)
            elif frame.f_code is code:
                names = frame.f_locals
                if names.get("self") is not self or not names.get("is_put"):
                    continue
                if ident not in who_waits:
                    under_way = True
                elif (connection := names.get("connection")) is not None:
                    self._forks += 1  # it is not to be used again, nor its error raised
                    connection.close()
        return under_way

    @staticmethod
    def _patiently(run: Callable[[], T], patience_seconds: float = _PATIENCE_SECONDS) -> T:
        """Run something again as long as the file is locked, and the patience lasts."""
        deadline: float | None = None
        while True:
            try:
                return run()
            except sqlite3.OperationalError as error:
                now = time.monotonic()
                deadline = now + patience_seconds if deadline is None else deadline
                if not is_locked(error) or now >= deadline:
                    raise
            time.sleep(_LOOK_SECONDS)

    def _again(
        self, statement: str, values: Values, *, beyond_bound: bool = False, reads: bool = False
    ) -> tuple[list[Row], int]:
        while (
            found := self._once(statement, values, beyond_bound=beyond_bound, reads=reads)
        ) is None:
            time.sleep(_LOOK_SECONDS)
        return found

    def rows_if_free(
        self, statement: str, values: Values = (), *, beyond_bound: bool = False
    ) -> list[Row] | None:
        """Run a statement that waits for nobody; return None where somebody is in its way.

        It is for what would keep others from writing while it waits.
        """
        turn = self._turn.take()
        try:
            how = {"reads": True, "waits": False, "beyond_bound": beyond_bound}
            while (found := self._once(statement, values, **how)) is None:
                time.sleep(_LOOK_SECONDS)
        except sqlite3.OperationalError as error:
            if not is_locked(error):
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
        is_put: bool = False,
        waits: bool = True,
    ) -> tuple[list[Row], int] | None:
        """Run a statement; return None where a fork comes in between, and nothing was done.

        So it is for a put where puts are diverted.
        """
        if self._forking not in (None, _thread.get_ident()):
            return None
        idle, forks = self._idle[beyond_bound], self._forks
        connection = self._taken(beyond_bound=beyond_bound)
        try:
            self._set_bound(connection, beyond_bound=beyond_bound)
            if is_put and self.is_diverted:
                self._give_back(connection, idle, forks)
                return None
            if not waits:
                # For this connection alone, which is closed afterwards. VACUUM copies the whole
                # file: not into memory.
                connection.execute("PRAGMA busy_timeout = 0").fetchall()
                connection.execute("PRAGMA temp_store = DEFAULT").fetchall()
            cursor = connection.execute(statement, values)
            found = (cursor.fetchall() if reads else [], cursor.rowcount)
        except sqlite3.ProgrammingError:
            if forks == self._forks:
                raise
            return None
        except sqlite3.Error:
            self._give_back(connection, idle, forks, keep=waits)
            raise
        except BaseException:
            # A signal, whose traceback may keep a read open for as long as somebody keeps that.
            connection.close()
            raise
        self._give_back(connection, idle, forks, keep=waits)
        return found

    def _set_bound(self, connection: sqlite3.Connection, *, beyond_bound: bool) -> None:
        """Have a connection know its bound, where it does not since it was opened."""

    def _give_back(
        self,
        connection: sqlite3.Connection,
        idle: deque[sqlite3.Connection],
        forks: int,
        *,
        keep: bool = True,
    ) -> None:
        # One that waits for nobody would not do so later either.
        if not keep or len(idle) >= self._most_idle:
            connection.close()
        elif forks == self._forks:
            idle.append(connection)

    def _taken(self, *, beyond_bound: bool) -> sqlite3.Connection:
        """Return a connection that nobody else uses."""
        try:
            return self._idle[beyond_bound].pop()
        except IndexError:
            return self._opened(beyond_bound=beyond_bound)

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


_INSIDE = frozenset(
    each.__code__
    for each in (
        FileConnections._once,  # noqa: SLF001 - of this module
        FileConnections._begin,  # noqa: SLF001 - as above
        FileConnections._put_locked,  # noqa: SLF001 - as above
        FileConnections.release_lock,
    )
)
"""What runs statements: a fork waits until nobody is in the middle of it."""


def is_locked(error: BaseException) -> bool:
    """Whether an error says that somebody else has locked the file."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_BUSY


def _all_frames() -> Iterator[tuple[int, FrameType]]:
    """Return the frames of all threads, those of one from the top."""
    for ident, top in sys._current_frames().items():  # noqa: SLF001 - documented, in CPython only
        frame: FrameType | None = top
        while frame is not None:
            yield ident, frame
            frame = frame.f_back


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

    def _lock_out_others(self, *, beyond_bound: bool) -> None:
        """Lock nothing: all who put are threads of this process, which have turns."""

    def before_fork(self) -> None:
        """Let nobody in, and wait until nobody is inside."""
        self._let_nobody_in()

    def close(self) -> None:
        """Forget what is in memory."""
        super().close()
        if (keeper := self._keeps_it) is not None:
            keeper.close()
