"""The outbox as SQLite sees it: tables, statements, connections, errors."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from firestate.errors import OutboxError, OutboxFullError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE_BYTES = 4096
_BUSY_SECONDS = 10.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS snapshots (
    document TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    sent_at REAL,
    agent TEXT NOT NULL,
    topic TEXT NOT NULL,
    data BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY,
    sent_at REAL,
    document TEXT NOT NULL,
    agent TEXT NOT NULL,
    topic TEXT NOT NULL,
    data BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS sender (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    reason TEXT NOT NULL,
    at REAL NOT NULL
);
"""

# Their order in the same statement: of two processes that hold one session, the former must not put
# its snapshot in the place of the newcomer's.
PUT_SNAPSHOT = """
INSERT INTO snapshots VALUES (?1, ?2, ?3, ?4, NULL, ?5, ?6, ?7)
ON CONFLICT (document) DO UPDATE
SET epoch = ?2, revision = ?3, seq = ?4, sent_at = NULL, topic = ?6, data = ?7
WHERE (epoch, revision) < (?2, ?3)
"""
PUT_EVENT = "INSERT INTO events VALUES (?, NULL, ?, ?, ?, ?)"
# No index says which ones wait: keeping it would cost each append more than each look, since what
# was sent is soon removed.
WAITING = """
SELECT seq, document, 1, agent, topic, length(data) FROM snapshots WHERE sent_at IS NULL
UNION ALL SELECT * FROM (
    SELECT seq, document, 0, agent, topic, length(data) FROM events
    WHERE sent_at IS NULL ORDER BY seq LIMIT ?1)
ORDER BY seq LIMIT ?1
"""
DEPTH = """
SELECT coalesce(sum(n), 0), min(first) FROM (
    SELECT count(*) AS n, min(seq) AS first FROM snapshots WHERE sent_at IS NULL
    UNION ALL SELECT count(*), min(seq) FROM events WHERE sent_at IS NULL)
"""
FORGET_EVENTS = """
DELETE FROM events WHERE sent_at IS NOT NULL AND (sent_at < ?1 OR seq <= (
    SELECT seq FROM events WHERE sent_at IS NOT NULL ORDER BY seq DESC LIMIT 1 OFFSET ?2))
"""
# Their order stays: a former holder of the session is told by it that it is fenced off, also where
# its own snapshots have never got out.
FORGET_SNAPSHOTS = "UPDATE snapshots SET data = x'' WHERE sent_at IS NOT NULL AND data != x''"
FORGET_SENT = ("DELETE FROM events WHERE sent_at IS NOT NULL", FORGET_SNAPSHOTS)
SNAPSHOTS = "SELECT document, data FROM snapshots WHERE data != x''"
EVENTS = "SELECT document, data FROM events ORDER BY seq DESC LIMIT ?"
# `at` stays: since when nothing has gone out, whatever else has gone wrong since.
NOTE = "INSERT INTO sender VALUES (1, ?1, ?2) ON CONFLICT (id) DO UPDATE SET reason = ?1"


def connect(path: Path | None) -> sqlite3.Connection:
    """Open the file, or memory; it is written back by `Outbox.tidy` alone."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        ":memory:" if path is None else path,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


@contextmanager
def translated_outbox(what: str, bounded: str | None = None) -> Iterator[None]:
    """Turn SQLite's errors into ours; `bounded` names an outbox that may be full."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if bounded is not None and error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise OutboxFullError(bounded) from error
        message = f"{what} cannot be used: {error}"
        raise OutboxError(message) from error
    except (OSError, sqlite3.Error) as error:
        message = f"{what} cannot be used: {error}"
        raise OutboxError(message) from error
