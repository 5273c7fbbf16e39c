"""The SQLite file under the local engine: its tables, its transactions, its clock.

documents   what is stored now
past        what documents were before, for reads at an earlier time: an hour of it, as Firestore
            has it, or 64 MB
triggers    what the commits have set off, and nobody has handled yet
clock       the time of the last commit, and since when the past is whole
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from firestate.errors import ConfigurationError, ExistsError, StoreError, UnavailableError
from firestate.stores.sqlite_values import microseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_VERSION = 1
_APPLICATION = 0x46495245  # "FIRE": what `file` shows of it, and how a foreign file is told
_BUSY_SECONDS = 30.0
_PAST = timedelta(hours=1) // timedelta(microseconds=1)
_MOST_PAST_BYTES = 64_000_000
_FORGET_EVERY = 500

_SCHEMA = """
CREATE TABLE documents (
    path TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, updated_at INTEGER NOT NULL, data TEXT NOT NULL);
CREATE INDEX documents_by_kind ON documents (kind, path);
CREATE TABLE past (
    path TEXT NOT NULL, kind TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL,
    data TEXT NOT NULL);
CREATE INDEX past_by_kind ON past (kind, path);
CREATE TABLE triggers (
    id INTEGER PRIMARY KEY AUTOINCREMENT, function TEXT NOT NULL, path TEXT NOT NULL,
    updated_at INTEGER NOT NULL, data TEXT NOT NULL, tries INTEGER NOT NULL DEFAULT 0,
    due INTEGER NOT NULL DEFAULT 0, error TEXT);
CREATE TABLE clock (last INTEGER NOT NULL, whole_since INTEGER NOT NULL);
INSERT INTO clock VALUES (0, 0);
"""


class SqliteFile:
    """One connection, used by one thread at a time."""

    def __init__(self, path: Path | None, clock: Callable[[], datetime] | None = None) -> None:
        """Open `path`, or make it; None keeps all in memory.

        Raises ConfigurationError for a file that is none of Firestate's, or cannot be opened.
        """
        self._clock = clock or (lambda: datetime.now(UTC))
        self._lock = threading.RLock()
        self._commits = 0
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                ":memory:" if path is None else path,
                timeout=_BUSY_SECONDS,
                isolation_level=None,  # transactions are begun where they are meant
                check_same_thread=False,
            )
        except (OSError, sqlite3.Error) as error:
            message = f"{path} cannot be opened: {error}"
            raise ConfigurationError(message) from error
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self.close()
            message = f"{path} is no file of Firestate's: {error}"
            raise ConfigurationError(message) from error
        except ConfigurationError as error:
            self.close()
            message = f"{path} {error}"
            raise ConfigurationError(message) from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def transaction(self, what: str) -> Iterator[int]:
        """Do what is inside in one transaction; give its time, later than any before."""
        with self._lock, translated(what):
            # Writers of other processes are kept out from here on, so that what is read inside
            # is still so when it is written.
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                now = max(microseconds(self._clock()), self.last() + 1)
                self._connection.execute("UPDATE clock SET last = ?", (now,))
                yield now
                self._commits += 1
                if self._commits % _FORGET_EVERY == 0:
                    self.forget_past(now)
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise

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
        with self._lock, translated(what):
            return self._connection.execute(statement, values).fetchall()

    def last(self) -> int:
        """Give the time of the last transaction, in microseconds since 1970."""
        ((last,),) = self.execute("SELECT last FROM clock")
        return int(last)

    def check_readable(self, at: int) -> None:
        """Raise UnavailableError where what was so at `at` is not known any more."""
        ((whole_since,),) = self.execute("SELECT whole_since FROM clock")
        if at < whole_since:
            message = "reads at a time go back an hour at most, and less under many writes"
            raise UnavailableError(message)

    def _prepare(self) -> None:
        """Check whose file it is before anything in it is changed; make the tables of a new one."""
        run = self._connection.execute
        ((application,),) = run("PRAGMA application_id").fetchall()
        ((version,),) = run("PRAGMA user_version").fetchall()
        ((tables,),) = run("SELECT count(*) FROM sqlite_schema").fetchall()
        if application == _APPLICATION and version != _VERSION:
            message = f"was written by another release (version {version}, this one {_VERSION})"
            raise ConfigurationError(message)
        if tables and application != _APPLICATION:
            message = "holds the tables of another program"
            raise ConfigurationError(message)
        run("PRAGMA journal_mode = WAL")
        # A commit is on the disk when it returns: what is acknowledged survives a power cut.
        run("PRAGMA synchronous = FULL")
        # Another process may make the same file at the same time: one of them does.
        run("BEGIN IMMEDIATE")
        ((made,),) = run("SELECT count(*) FROM sqlite_schema").fetchall()
        for statement in () if made else _SCHEMA.strip().split(";\n"):
            run(statement)
        run(f"PRAGMA application_id = {_APPLICATION}")
        run(f"PRAGMA user_version = {_VERSION}")
        run("COMMIT")

    def forget_past(self, now: int) -> None:
        """Keep of the past an hour before `now`, and no more than 64 MB."""
        ((size,),) = self.execute("SELECT coalesce(sum(length(data)), 0) FROM past")
        oldest = now - _PAST
        if size > _MOST_PAST_BYTES:
            ((middle,),) = self.execute(
                "SELECT until FROM past ORDER BY rowid "
                "LIMIT 1 OFFSET (SELECT count(*) / 2 FROM past)"
            )
            oldest = max(oldest, middle)
        self.execute("DELETE FROM past WHERE until <= ?", (oldest,))
        self.execute("UPDATE clock SET whole_since = max(whole_since, ?)", (oldest,))


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn SQLite's errors into ours, naming what was read or written."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        message = f"{what}: is there already"
        raise ExistsError(message) from error
    except sqlite3.OperationalError as error:
        message = f"{what}: the file cannot be used for now: {error}"
        raise UnavailableError(message) from error
    except sqlite3.Error as error:
        message = f"{what}: {error}"
        raise StoreError(message) from error
