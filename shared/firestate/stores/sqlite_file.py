"""The SQLite file under the local engine: its transactions, its clock, and how much of the past."""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from firestate.errors import PastNotKeptError, StateFileError
from firestate.fork_safe_sqlite import ForkSafeSqlite
from firestate.stores.sqlite_faults import (
    address_to_look_at,
    fault_of_file,
    is_writable,
    read_only_file,
)
from firestate.stores.sqlite_schema import look_at, prepare, translated_sqlite
from firestate.stores.sqlite_values import microseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_BUSY_SECONDS = 30.0
_LOCKED_SECONDS, _LOOK_SECONDS = 0.05, 0.005
"""How long a thread waits for another program with the lock held, and without it before the next
time: other threads read meanwhile."""
_PAST = timedelta(hours=1) // timedelta(microseconds=1)
_MOST_PAST_BYTES = 64_000_000
_FORGET_EVERY = 500
_FORGET_AFTER = 16_000_000


class SqliteFile(ForkSafeSqlite):
    """One connection, used by one thread at a time."""

    def __init__(
        self,
        path: Path | None,
        clock: Callable[[], datetime] | None = None,
        indexes: Sequence[str] = (),
        *,
        read_only: bool = False,
    ) -> None:
        """Open `path`, or make it; None keeps all in memory. `indexes` are statements.

        With `read_only` it must be there, and nothing in its folder is changed. Raises
        StateFileError for a file that is none of Firestate's, or cannot be used so.
        """
        super().__init__(path)
        self._clock = clock or (lambda: datetime.now(UTC))
        self.read_only = read_only
        self.remembered = 0  # characters that went into the past since some of it was forgotten
        self._commits = 0
        try:
            self.indexes = self._look() if read_only else self._prepare(indexes)
        except BaseException:
            self.close()
            raise

    def _look(self) -> frozenset[str]:
        if self.path is None or not self.path.is_file():
            raise StateFileError(self.path, "is not there", "name a file that is")
        with translated_sqlite("the local engine's file", self.path):
            return look_at(self._connection, self.path)

    def _prepare(self, indexes: Sequence[str]) -> frozenset[str]:
        if self.path is not None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StateFileError(
                    self.path, f"cannot be made ({error})", "name another place for it"
                ) from error
            if self.path.is_file() and not is_writable(self.path):
                raise read_only_file(self.path, "this user may not")
        try:
            connection = self._connection
        except sqlite3.Error as error:
            raise fault_of_file(error, self.path) or StateFileError(
                self.path, f"cannot be opened ({error})", "name another place for it"
            ) from error
        connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1000)}")
        found = prepare(connection, self.path, indexes)
        connection.execute(f"PRAGMA busy_timeout = {int(_LOCKED_SECONDS * 1000)}")
        # A process that does not live long comes to no other moment for it.
        if self._past_to_forget(microseconds(self._clock())):
            with self.transaction("the local engine's file") as now:
                self.forget_past(now)
        return found

    def _new_locks(self) -> None:
        self._lock = threading.RLock()

    def _open(self) -> sqlite3.Connection:
        looked_at = self.path if self.read_only else None
        connection = sqlite3.connect(
            address_to_look_at(looked_at) if looked_at else self.path or ":memory:",
            timeout=_LOCKED_SECONDS,
            isolation_level=None,  # transactions are begun where they are meant
            check_same_thread=False,
            uri=looked_at is not None,
        )
        connection.execute("PRAGMA secure_delete = ON").fetchall()
        return connection

    @contextmanager
    def transaction(self, what: str) -> Iterator[int]:
        """Do what is inside in one transaction; give its time, later than any before."""
        with translated_sqlite(what, self.path), self._begun():
            try:
                now = max(microseconds(self._clock()), self.last() + 1)
                self._connection.execute("UPDATE clock SET last = ?", (now,))
                yield now
                self._commits += 1
                if self._commits % _FORGET_EVERY == 0 or self.remembered > _FORGET_AFTER:
                    self.forget_past(now)
                self._connection.execute("COMMIT")
            except BaseException:
                # Also where it was interrupted as it began; not where SQLite has done it already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _begun(self) -> Iterator[None]:
        """Hold the lock, and begin a transaction.

        Writers of other processes are kept out from here on, so that what is read inside is still
        so when it is written.
        """
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            with self._lock:
                try:
                    begun = self._if_free("BEGIN IMMEDIATE", (), deadline) is not None
                except BaseException:
                    if self._connection.in_transaction:  # it was interrupted as it began
                        self._connection.execute("ROLLBACK")
                    raise
                if begun:
                    yield
                    return
            time.sleep(_LOOK_SECONDS)

    def _if_free(
        self, statement: str, values: Sequence[Any] | Mapping[str, Any], deadline: float
    ) -> list[tuple[Any, ...]] | None:
        """Run a statement, with the lock held; None where another program locks the file still."""
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.OperationalError as error:
            is_locked = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_locked or time.monotonic() >= deadline:
                raise
            return None

    def execute(
        self,
        statement: str,
        values: Sequence[Any] | Mapping[str, Any] = (),
        what: str = "the local engine's file",
    ) -> list[tuple[Any, ...]]:
        """Run one statement and give all rows; outside of a transaction it is one by itself.

        `what` names in an error what was read or written. Raises ExistsError for a document that
        is there already, UnavailableError where trying again may help.
        """
        with translated_sqlite(what, self.path):
            deadline = time.monotonic() + _BUSY_SECONDS
            while True:
                with self._lock:
                    found = self._if_free(statement, values, deadline)
                if found is not None:
                    return found
                time.sleep(_LOOK_SECONDS)

    def copy_to(self, path: Path) -> bool:
        """Copy all to a new file, also where its own was removed; False where there is one by now.

        Under another name first: nobody finds a part of it.
        """
        part = path.with_name(f"{path.name}.copy-{secrets.token_hex(8)}")
        try:
            with (
                self._lock,
                translated_sqlite("the local engine's file", self.path),
                closing(sqlite3.connect(part)) as copy,
            ):
                self._connection.backup(copy)
            path.hardlink_to(part)
        except FileExistsError:
            return False
        finally:
            part.unlink(missing_ok=True)
        return True

    def last(self) -> int:
        """Give the time of the last transaction, in microseconds since 1970."""
        ((last,),) = self.execute("SELECT last FROM clock")
        return int(last)

    def check_readable(self, at: int) -> None:
        """Raise PastNotKeptError where what was so at `at` is not known any more."""
        ((whole_since,),) = self.execute("SELECT whole_since FROM clock")
        if at < whole_since:
            message = (
                f"{self.path}: reads at a time go back an hour at most, less under many writes, and"
                " not behind a deletion: try again as of now"
            )
            raise PastNotKeptError(message)

    def forget_past(self, now: int) -> None:
        """Keep of the past an hour before `now`, and no more than about 64 MB.

        Called within a transaction: what is forgotten, and since when the past is whole, are one.
        """
        self.remembered = 0
        if oldest := self._past_to_forget(now):
            self.execute("DELETE FROM past WHERE until <= ?", (oldest,))
            self.execute("UPDATE clock SET whole_since = max(whole_since, ?)", (oldest,))

    def forget_all_past(self, now: int) -> None:
        """Keep nothing of the past; called within a transaction, at the time `now`."""
        self.remembered = 0
        self.execute("DELETE FROM past")
        self.execute("UPDATE clock SET whole_since = ?", (now,))

    def truncate_journal(self) -> bool:
        """Write the journal back into the file and cut it to nothing; return whether that is done.

        Not where another process still reads what is in it.
        """
        with (
            translated_sqlite("the local engine's file", self.path),
            self._waiting_for_nobody() as connection,
        ):
            ((busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return not busy

    def write_anew(self) -> bool:
        """Write the file anew, without what it holds no more; return False where others write."""
        with (
            translated_sqlite("the local engine's file", self.path),
            self._waiting_for_nobody() as connection,
        ):
            try:
                connection.execute("VACUUM")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                return False
        return True

    @contextmanager
    def _waiting_for_nobody(self) -> Iterator[sqlite3.Connection]:
        """Return the connection, for what would have others wait while it waits itself."""
        with self._lock, translated_sqlite("the local engine's file", self.path):
            connection = self._connection
            connection.execute("PRAGMA busy_timeout = 0")
            try:
                yield connection
            finally:
                connection.execute(f"PRAGMA busy_timeout = {int(_LOCKED_SECONDS * 1000)}")

    def _past_to_forget(self, now: int) -> int | None:
        """Give the time up to which the past is too old, or too much; None where it is neither."""
        ((size, first),) = self.execute(
            "SELECT coalesce(sum(length(data)), 0), min(until) FROM past"
        )
        oldest = now - _PAST
        if size > _MOST_PAST_BYTES:
            ((middle,),) = self.execute(
                "SELECT until FROM past ORDER BY rowid "
                "LIMIT 1 OFFSET (SELECT count(*) / 2 FROM past)"
            )
            oldest = max(oldest, middle)
        return oldest if first is not None and first <= oldest else None
