"""The outbox as SQLite sees it: tables, statements, connections, errors.

A statement that needs a value twice names it, and is given a dict; all others use plain `?`. None
numbers its parameters: Python 3.12 takes a number for a name, and warns of values without names.
"""

# ruff: noqa: S608 - statements are put together of texts of this module alone

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from firestate.errors import OutboxError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE_BYTES = 4096
_PATIENT_SECONDS = 10.0
_BUSY_SECONDS = 0.02
"""Others of ours write for some ms; whoever has more patience tries again (outbox/connections)."""

CHANGES = """
CREATE TABLE IF NOT EXISTS changes (
    document TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (document, epoch, revision)
) WITHOUT ROWID;
"""
SCHEMA = (
    CHANGES
    + """
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
CREATE TABLE IF NOT EXISTS writer (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    name TEXT NOT NULL,
    place TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS begun (
    agent TEXT NOT NULL,
    former TEXT NOT NULL,
    session TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (agent, former)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS told (
    id TEXT NOT NULL,
    replays INTEGER NOT NULL,
    PRIMARY KEY (id, replays)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS held_back (document TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS flushes (
    id TEXT PRIMARY KEY,
    at REAL NOT NULL,
    is_done INTEGER NOT NULL
) WITHOUT ROWID;
"""
)
# A row for each deletion of which bytes may be left: then the file is to be written anew. A file of
# an earlier release, which has deleted without that, has one from the start.
ERASURES = "CREATE TABLE erasures (id INTEGER PRIMARY KEY)"
_WAS_USED = """
SELECT 1 WHERE EXISTS (SELECT 1 FROM snapshots) OR EXISTS (SELECT 1 FROM events)
OR (SELECT freelist_count FROM pragma_freelist_count) > 0
"""
NOTE_ERASURE = "INSERT INTO erasures DEFAULT VALUES"

# A row put into `puts` goes to the table of its kind, on conditions that are part of the same
# statement: several rows are all kept, or none. The view and its triggers are the connection's own,
# so that a file holds no program of one release that another release would run.
PUTS = """
CREATE TEMP VIEW puts AS
SELECT '' AS kind, '' AS document, 0 AS epoch, 0 AS revision, 0 AS seq, '' AS agent, '' AS topic,
    x'' AS data;

-- No two events share a place, whichever process puts them.
CREATE TEMP TRIGGER put_event INSTEAD OF INSERT ON puts WHEN NEW.kind = 'event' BEGIN
    INSERT INTO events VALUES (
        max(NEW.seq, 1 + coalesce((SELECT max(seq) FROM events), 0)),
        NULL, NEW.document, NEW.agent, NEW.topic, NEW.data);
END;

-- A snapshot takes the place of an earlier one: of two that hold one session, whether processes,
-- threads or a signal handler and what it interrupted, the former must not undo the latter.
CREATE TEMP TRIGGER put_snapshot INSTEAD OF INSERT ON puts WHEN NEW.kind = 'snapshot' BEGIN
    SELECT RAISE(ABORT, 'a later one is there') FROM snapshots
    WHERE document = NEW.document AND (epoch, revision) >= (NEW.epoch, NEW.revision);
    SELECT RAISE(ABORT, 'a later one is there') FROM changes
    WHERE document = NEW.document AND (epoch, revision) >= (NEW.epoch, NEW.revision);
    DELETE FROM changes WHERE document = NEW.document;
    INSERT INTO snapshots VALUES (
        NEW.document, NEW.epoch, NEW.revision, NEW.seq, NULL, NEW.agent, NEW.topic, NEW.data)
    ON CONFLICT (document) DO UPDATE
    SET epoch = NEW.epoch, revision = NEW.revision, seq = NEW.seq, sent_at = NULL,
        topic = NEW.topic, data = NEW.data;
END;

-- Nothing is kept, a later epoch either, where somebody has put since this one was read.
CREATE TEMP TRIGGER put_expected INSTEAD OF INSERT ON puts WHEN NEW.kind = 'expected' BEGIN
    SELECT RAISE(ABORT, 'a later one is there') FROM snapshots
    WHERE document = NEW.document AND (epoch, revision) > (NEW.epoch, NEW.revision);
    SELECT RAISE(ABORT, 'a later one is there') FROM changes
    WHERE document = NEW.document AND (epoch, revision) > (NEW.epoch, NEW.revision);
END;

-- It is kept, and does not go out before somebody says so.
CREATE TEMP TRIGGER put_held_back INSTEAD OF INSERT ON puts WHEN NEW.kind = 'held back' BEGIN
    INSERT OR IGNORE INTO held_back VALUES (NEW.document);
END;

CREATE TEMP TRIGGER put_let_go INSTEAD OF INSERT ON puts WHEN NEW.kind = 'let go' BEGIN
    DELETE FROM held_back WHERE document = NEW.document;
END;

-- What a spill file holds up to there has come in by the same statement: a crash repeats nothing.
-- It is noted among the sessions that have begun, under no agent: a table of its own takes a page.
CREATE TEMP TRIGGER put_replayed INSTEAD OF INSERT ON puts WHEN NEW.kind = 'replayed' BEGIN
    INSERT INTO begun VALUES ('', NEW.document, NEW.seq, CAST(strftime('%s', 'now') AS REAL))
    ON CONFLICT (agent, former) DO UPDATE SET session = NEW.seq;
END;

-- All that was sent of late waits again; or nothing does, where there is no room to note that.
CREATE TEMP TRIGGER put_again INSTEAD OF INSERT ON puts WHEN NEW.kind = 'again' BEGIN
    UPDATE events SET sent_at = NULL WHERE sent_at IS NOT NULL;
    UPDATE snapshots SET sent_at = NULL WHERE sent_at IS NOT NULL AND length(data) > 0;
END;

-- A change follows the very one before it, over a snapshot of the same writer that is there still.
CREATE TEMP TRIGGER put_change INSTEAD OF INSERT ON puts WHEN NEW.kind = 'change' BEGIN
    SELECT RAISE(ABORT, 'it does not follow what is there') WHERE NOT EXISTS (
        SELECT 1 FROM snapshots
        WHERE document = NEW.document AND epoch = NEW.epoch AND length(data) > 0 AND (
            revision = NEW.revision - 1 OR revision < NEW.revision AND EXISTS (
                SELECT 1 FROM changes AS former WHERE former.document = NEW.document
                AND former.epoch = NEW.epoch AND former.revision = NEW.revision - 1)));
    INSERT INTO changes VALUES (
        NEW.document, NEW.epoch, NEW.revision,
        max(NEW.seq, 1 + coalesce(
            (SELECT seq FROM changes AS former WHERE former.document = NEW.document
                AND former.epoch = NEW.epoch AND former.revision = NEW.revision - 1),
            (SELECT seq FROM snapshots WHERE document = NEW.document))),
        NEW.data);
END;
"""
PUT_ONE = "(?, ?, ?, ?, ?, ?, ?, ?)"
PUT = f"INSERT INTO puts VALUES {PUT_ONE}"

# What an outbox in memory reads is of the moment of its first row, and nothing holds others back
# between that and the last one (`connect`). So whatever gives several rows sorts them: by `+seq`,
# which no index serves, and for which all of them are there before the first is given.

# The changes that are not part of the snapshot yet.
_LATER = (
    "changes.document = snapshots.document AND changes.epoch = snapshots.epoch"
    " AND changes.revision > snapshots.revision AND length(snapshots.data) > 0"
)
# No index says which ones wait: keeping it would cost each append more than each look, since what
# was sent is soon removed.
WAITING_SNAPSHOTS = f"""
    SELECT coalesce(max(changes.seq), snapshots.seq) AS seq, snapshots.document AS document, 1,
        agent, topic, length(snapshots.data) + coalesce(sum(length(changes.data)), 0)
    FROM snapshots LEFT JOIN changes ON {_LATER}
    GROUP BY snapshots.document HAVING sent_at IS NULL OR changes.seq IS NOT NULL
"""
WAITING = f"""
SELECT * FROM (
    {WAITING_SNAPSHOTS}
    UNION ALL SELECT * FROM (
        SELECT seq, document, 0, agent, topic, length(data) FROM events
        WHERE sent_at IS NULL ORDER BY seq LIMIT :limit))
ORDER BY +seq LIMIT :limit
"""
DEPTH = f"""
SELECT coalesce(sum(n), 0), min(first) FROM (
    SELECT count(*) AS n, min(seq) AS first FROM ({WAITING_SNAPSHOTS})
    UNION ALL SELECT count(*), min(seq) FROM events WHERE sent_at IS NULL)
"""
HEAD = """
SELECT epoch, revision FROM snapshots WHERE document = :document
UNION ALL SELECT * FROM (SELECT epoch, revision FROM changes WHERE document = :document
    ORDER BY epoch DESC, revision DESC LIMIT 1)
ORDER BY epoch DESC, revision DESC LIMIT 1
"""
HAS_BYTES = "SELECT 1 FROM snapshots WHERE document = ? AND length(data) > 0"
# One statement, so that both are of one moment.
WITH_CHANGES = f"""
SELECT document, epoch, revision, seq, data FROM (
    SELECT document, epoch, revision, seq, data, 0 AS place FROM snapshots
    WHERE document = :document AND length(data) > 0
    UNION ALL SELECT changes.document, changes.epoch, changes.revision, changes.seq, changes.data, 1
    FROM snapshots JOIN changes ON {_LATER}
    WHERE snapshots.document = :document AND length(snapshots.data) > 0 AND changes.seq <= :seq)
ORDER BY +place, +revision
"""
_WITH_ALL_CHANGES = f"""
SELECT * FROM (
    SELECT document, data, NULL, revision FROM snapshots WHERE length(data) > 0 AND {{which}}
    UNION ALL SELECT changes.document, NULL, changes.data, changes.revision
    FROM snapshots JOIN changes ON {_LATER} WHERE length(snapshots.data) > 0)
ORDER BY +document, +revision
"""
SNAPSHOTS = _WITH_ALL_CHANGES.format(which="TRUE")
# Of those what is still to go out, whole or in part.
SNAPSHOTS_THAT_WAIT = _WITH_ALL_CHANGES.format(
    which=f"(sent_at IS NULL OR EXISTS (SELECT 1 FROM changes WHERE {_LATER}))"
)
# On condition that nobody has put or folded in between. What is folded is removed afterwards: until
# then it is below the snapshot, and means nothing.
FOLD = """
UPDATE snapshots SET revision = ?, seq = ?, sent_at = NULL, data = ?
WHERE document = ? AND epoch = ? AND revision = ?
"""
FOLDED = "DELETE FROM changes WHERE document = ? AND (epoch, revision) <= (?, ?)"
# A release up to 0.1 forgets what was sent ten minutes ago, whatever waits above it.
KEEP_FOR_CHANGES = f"""
UPDATE snapshots SET sent_at = ? WHERE sent_at < ?
AND EXISTS (SELECT 1 FROM changes WHERE {_LATER})
"""
# What is part of a snapshot by now, or below that of whoever has taken the session up.
FORGET_CHANGES = """
DELETE FROM changes WHERE EXISTS (
    SELECT 1 FROM snapshots WHERE snapshots.document = changes.document
    AND (snapshots.epoch, snapshots.revision) >= (changes.epoch, changes.revision))
"""
# Releases up to 0.1 do not look at changes when they forget what was sent ten minutes ago: of a
# process that was killed just after it had put some, they are left without their snapshot.
FORGET_ORPHANS = """
DELETE FROM changes WHERE NOT EXISTS (
    SELECT 1 FROM snapshots WHERE snapshots.document = changes.document
    AND snapshots.epoch >= changes.epoch AND length(data) > 0)
"""
TO_FOLD = f"""
SELECT snapshots.document FROM snapshots JOIN changes ON {_LATER}
GROUP BY snapshots.document HAVING min(changes.seq) < ? ORDER BY +min(changes.seq)
"""
FORGET_EVENTS = """
DELETE FROM events WHERE sent_at IS NOT NULL AND (sent_at < ? OR seq <= (
    SELECT seq FROM events WHERE sent_at IS NOT NULL ORDER BY seq DESC LIMIT 1 OFFSET ?))
"""
# Their order stays: a former holder of the session is told by it that it is fenced off, also where
# its own snapshots have never got out.
FORGET_SNAPSHOTS = f"""
UPDATE snapshots SET data = x'' WHERE sent_at IS NOT NULL AND length(data) > 0
AND NOT EXISTS (SELECT 1 FROM changes WHERE {_LATER})
"""
FORGET_SENT = ("DELETE FROM events WHERE sent_at IS NOT NULL", FORGET_SNAPSHOTS)
RESERVE_ANEW = """
UPDATE begun SET session = ?, at = ? WHERE agent = ? AND former = ? AND session = ?
"""
SEND_AGAIN = "INSERT INTO puts (kind) VALUES ('again')"
RESERVED = "SELECT session FROM begun WHERE agent = ? AND former = ?"
REPLAYED = "SELECT session FROM begun WHERE agent = '' AND former = ?"
FORGET_REPLAYED = "DELETE FROM begun WHERE agent = '' AND former = ?"
_NEWEST_EVENTS = """
SELECT document, data FROM (
    SELECT seq, document, data FROM events WHERE {which} ORDER BY seq DESC LIMIT ?)
ORDER BY +seq DESC
"""
EVENTS = _NEWEST_EVENTS.format(which="TRUE")
EVENTS_THAT_WAIT = _NEWEST_EVENTS.format(which="sent_at IS NULL")
HELD_BACK = "SELECT document FROM held_back ORDER BY +document"
FLUSHES = "SELECT id FROM flushes WHERE NOT is_done ORDER BY +id"
TOLD = "SELECT id, replays FROM told ORDER BY +id"
# `at` stays: since when nothing has gone out, whatever else has gone wrong since.
NOTE = "INSERT INTO sender VALUES (1, ?, ?) ON CONFLICT (id) DO UPDATE SET reason = excluded.reason"


def connect(
    path: Path | None,
    kind: type[sqlite3.Connection] = sqlite3.Connection,
    *,
    memory: str = "",
    patient: bool = False,
) -> sqlite3.Connection:
    """Open the file, or the `memory` of that name; `Outbox.tidy` writes a file back.

    One that is `patient` waits long for others.
    """
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        f"file:{memory}?mode=memory&cache=shared" if path is None else path,
        timeout=_PATIENT_SECONDS if patient or path is None else _BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        factory=kind,
        uri=path is None,
    )
    # What is sorted stays in memory: a full disk stops no read, and no bytes of a state are left in
    # files that nobody erases.
    connection.execute("PRAGMA temp_store = MEMORY")
    if path is None:
        # A read holds no lock against a put: what interrupts it may put, and could not wait for it.
        connection.execute("PRAGMA read_uncommitted = 1")
        return connection
    connection.execute("PRAGMA secure_delete = ON").fetchall()
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def prepare(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Make the tables where they are not there, and what this connection puts through."""
    connection.executescript(SCHEMA)
    connection.executescript(PUTS)
    return connection


def prepare_erasures(connection: sqlite3.Connection) -> None:
    """Make the table of deletions where it is not there."""
    there = "SELECT 1 FROM sqlite_schema WHERE name = 'erasures'"
    if connection.execute(there).fetchall():
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not connection.execute(there).fetchall():
            connection.execute(ERASURES)
            if connection.execute(_WAS_USED).fetchall():
                connection.execute(NOTE_ERASURE)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def translated_outbox(what: str) -> Iterator[None]:
    """Turn SQLite's errors into ours; holds nothing, so that a signal in here does no harm."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise unusable(what, error) from error


def unusable(what: str, error: OSError | sqlite3.Error) -> OutboxError:
    """Return the error for an outbox that cannot be used, with what to do where that is known."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    is_closed_to_us = code in {
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
    }
    advice = ""
    if is_closed_to_us or isinstance(error, OSError):
        advice = "; let this process write to the file and to its folder"
    return OutboxError(f"{what} cannot be used: {error}{advice}")
