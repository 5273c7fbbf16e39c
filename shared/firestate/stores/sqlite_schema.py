"""The tables of the local engine's file, and what SQLite's errors mean.

documents   what is stored now
past        what documents were before, for reads at an earlier time: an hour of it, as Firestore
            has it, or 64 MB
triggers    what the commits have set off, and nobody has handled yet
clock       the time of the last commit, and since when the past is whole
expiry      when a sweep has last looked for what has expired
erasures    deletions that have left something, and how far it is erased

What a later release adds is made where it is not there: an earlier one goes on with the same file.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from firestate.errors import ExistsError, FirestateError, StoreError, UnavailableError
from firestate.stores import sqlite_lookups
from firestate.stores.sqlite_faults import fault_of_file, foreign_file, other_release

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_VERSION = 1
_APPLICATION = 0x46495245  # "FIRE": what `file` shows of it, and how a foreign file is told
_SWITCH_SECONDS = 30.0

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

EXPIRY_INDEX = "documents_by_expiry"
EXPIRES_AT = 'CASE WHEN json_valid(data) THEN json_extract(data, \'$."expire_at"."__time__"\') END'
_ADDED = [
    *sqlite_lookups.PREPARE,
    (
        f"CREATE INDEX IF NOT EXISTS {EXPIRY_INDEX} ON documents ({EXPIRES_AT}, path)"
        f" WHERE {EXPIRES_AT} IS NOT NULL"
    ),
    "CREATE TABLE IF NOT EXISTS expiry (id INTEGER PRIMARY KEY CHECK (id = 1), swept_at INTEGER)",
    (
        "CREATE TABLE IF NOT EXISTS erasures"
        " (id INTEGER PRIMARY KEY, path TEXT NOT NULL, at INTEGER NOT NULL, step INTEGER NOT NULL)"
    ),
]
# An earlier release has deleted without erasing: the file is written anew once.
_UPGRADED = "INSERT INTO erasures (path, at, step) VALUES ('', 0, 1)"


def prepare(
    connection: sqlite3.Connection, path: Path | None = None, indexes: Sequence[str] = ()
) -> frozenset[str]:
    """Check whose file it is before anything in it is changed; make the tables of a new one.

    Makes what is not there of a later release, and returns the names of all that is.

    Raises StateFileError for a file that is none of ours or cannot be written, and
    UnavailableError where others keep it locked for long.
    """
    try:
        # What is looked at is of one moment: another process may be making the same file.
        connection.execute("BEGIN")
        new = _is_new(connection, path)
        connection.execute("COMMIT")
        if new:
            connection.execute("BEGIN IMMEDIATE")
            if _is_new(connection, path):
                for statement in _SCHEMA.strip().split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                connection.execute(f"PRAGMA user_version = {_VERSION}")
            connection.execute("COMMIT")
        _log_ahead(connection)
        wanted = [*_ADDED, *indexes]
        there = _names(connection)
        if missing := [each for each in wanted if _name(each) not in there]:
            connection.execute("BEGIN IMMEDIATE")
            for statement in missing:
                connection.execute(statement)
            if not new and "erasures" not in there:
                connection.execute(_UPGRADED)
            connection.execute("COMMIT")
        return _names(connection)
    except sqlite3.Error as error:
        raise _fault_at_opening(error, path) from error


def look_at(connection: sqlite3.Connection, path: Path) -> frozenset[str]:
    """Check whose file it is, and change nothing; return the names of what is in it.

    Raises StateFileError for a file that is none of ours, and UnavailableError as above.
    """
    try:
        if _is_new(connection, path):
            raise foreign_file(path, "it is empty")
        return _names(connection)
    except sqlite3.Error as error:
        raise _fault_at_opening(error, path) from error


def _fault_at_opening(error: sqlite3.Error, path: Path | None) -> FirestateError:
    message = f"{path} cannot be opened for now: {error}"
    return fault_of_file(error, path) or UnavailableError(message)


def _names(connection: sqlite3.Connection) -> frozenset[str]:
    found = connection.execute("SELECT name FROM sqlite_schema").fetchall()
    return frozenset(name for (name,) in found)


def _name(creation: str) -> str:
    return creation.split()[5]  # CREATE INDEX IF NOT EXISTS name


def _is_new(connection: sqlite3.Connection, path: Path | None) -> bool:
    ((application,),) = connection.execute("PRAGMA application_id").fetchall()
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    if application == _APPLICATION and version != _VERSION:
        raise other_release(path, version, _VERSION)
    if tables and application != _APPLICATION:
        raise foreign_file(path, "it holds the tables of another program")
    return not tables


def _log_ahead(connection: sqlite3.Connection) -> None:
    # A commit is on the disk when it returns: what is acknowledged survives a power cut. On a Mac
    # that takes a call of its own.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")
    deadline = time.monotonic() + _SWITCH_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # SQLite does not wait here, if another process switches at the same time.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


@contextmanager
def translated_sqlite(what: str, path: Path | None = None) -> Iterator[None]:
    """Turn SQLite's errors into ours, naming what was read or written, or the file."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        message = f"{what}: is there already"
        raise ExistsError(message) from error
    except sqlite3.Error as error:
        if fault := fault_of_file(error, path):
            raise fault from error
        if not isinstance(error, sqlite3.OperationalError):
            message = f"{what}: {error}"
            raise StoreError(message) from error
        message = f"{what}: the file cannot be used for now: {error}"
        raise UnavailableError(message) from error
