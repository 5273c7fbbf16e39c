"""The outbox: what an agent's process has to say, on its disk until Pub/Sub has confirmed it.

One SQLite file in WAL mode, which all processes of a folder share. An append is one statement,
which a `kill -9` finds done or not done; with `synchronous=NORMAL` it does not wait for the disk,
so that only a machine that loses its power can lose the last appends.

A snapshot (an agent's whole state, or that it is deleted) takes the place of the former one of its
session, wherever that has come to; events stay, each. What was sent is kept for a while: until it
has come through to Firestore, it is what reads are told of it.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from firestate.errors import OutboxError, OutboxFullError
from firestate.outbox.forking import ForkSafe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_LOG = logging.getLogger("firestate.outbox")
_BUSY_SECONDS = 10.0
_PAGE_BYTES = 4096
_KEPT_SENT_SECONDS = 600
_KEPT_SENT = 1_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS snapshots (
    document TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    sent_at REAL,
    agent TEXT NOT NULL,
    topic TEXT NOT NULL,
    data BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY,
    sent_at REAL,
    document TEXT NOT NULL,
    agent TEXT NOT NULL,
    topic TEXT NOT NULL,
    data BLOB NOT NULL
);
"""

# Their order in the same statement: of two processes that hold one session, the former must not put
# its snapshot in the place of the newcomer's.
_PUT_SNAPSHOT = """
INSERT INTO snapshots VALUES (?1, ?2, ?3, ?4, NULL, ?5, ?6, ?7)
ON CONFLICT (document) DO UPDATE
SET epoch = ?2, revision = ?3, seq = ?4, sent_at = NULL, topic = ?6, data = ?7
WHERE (epoch, revision) < (?2, ?3)
"""
_PUT_EVENT = "INSERT INTO events VALUES (?, NULL, ?, ?, ?, ?)"
# No index says which ones wait: keeping it would cost each append more than each look, since what
# was sent is soon removed.
_WAITING = """
SELECT seq, document, 1, agent, topic, length(data) FROM snapshots WHERE sent_at IS NULL
UNION ALL SELECT * FROM (
    SELECT seq, document, 0, agent, topic, length(data) FROM events
    WHERE sent_at IS NULL ORDER BY seq LIMIT ?1)
ORDER BY seq LIMIT ?1
"""
_DEPTH = """
SELECT coalesce(sum(n), 0), min(first) FROM (
    SELECT count(*) AS n, min(seq) AS first FROM snapshots WHERE sent_at IS NULL
    UNION ALL SELECT count(*), min(seq) FROM events WHERE sent_at IS NULL)
"""
_FORGET_EVENTS = """
DELETE FROM events WHERE sent_at IS NOT NULL AND (sent_at < ?1 OR seq <= (
    SELECT seq FROM events WHERE sent_at IS NOT NULL ORDER BY seq DESC LIMIT 1 OFFSET ?2))
"""


class Waiting(NamedTuple):
    """A message that waits, without its bytes; `seq` is when it was put, in ns since 1970."""

    seq: int
    document: str
    is_snapshot: bool
    agent: str
    topic: str
    size: int


@dataclass(frozen=True, slots=True)
class Depth:
    """How much waits, and since when; `size` is of the whole file, in bytes."""

    messages: int
    since: float | None
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """A message to be kept; `order` is (epoch, revision) for a snapshot, None for an event."""

    document: str
    agent: str
    topic: str
    data: bytes
    order: tuple[int, int] | None = None


class Outbox(ForkSafe):
    """A file, or with the path None memory. Any number of threads, processes, and forks."""

    def __init__(self, path: Path | None, *, most_bytes: int) -> None:
        """Open the file, or make it; raise OutboxError where that cannot be done."""
        super().__init__()
        self.path = path
        self._most_bytes = most_bytes
        self._open()

    def _open(self) -> None:
        self._last = 0
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        with _translated(f"the outbox {self.path or 'in memory'}"):
            self._connection = _connect(self.path)
            self._connection.executescript(_SCHEMA)
            most_pages = max(self._most_bytes // _PAGE_BYTES, 16)
            self._connection.execute(f"PRAGMA max_page_count = {most_pages}")

    def after_fork(self) -> None:
        """Open anew: SQLite's connections do not survive a fork, not even to be closed."""
        self.leak(self._connection)
        self._open()

    def put(self, message: Put) -> bool:
        """Keep a message; False where a later snapshot of its session is there, and stays.

        Raises OutboxFullError where the bound is reached or the disk is full: nothing is kept.
        """
        with self._lock, _translated("the outbox", self):
            # In the order of the calls also where the clock is set back.
            self._last = seq = max(time.time_ns(), self._last + 1)
            if message.order is not None:
                values = (message.document, *message.order, seq, message.agent, message.topic)
                return self._connection.execute(_PUT_SNAPSHOT, (*values, message.data)).rowcount > 0
            while True:
                event = (seq, message.document, message.agent, message.topic)
                try:
                    self._connection.execute(_PUT_EVENT, (*event, message.data))
                except sqlite3.IntegrityError:
                    self._last = seq = seq + 1  # another process has put one in this nanosecond
                else:
                    return True

    def waiting(self, limit: int) -> list[Waiting]:
        """Give what waits, the oldest first."""
        return [
            Waiting(seq, document, bool(snapshot), *rest)
            for seq, document, snapshot, *rest in self._rows(_WAITING, (limit,))
        ]

    def data(self, wanted: Iterable[Waiting]) -> dict[int, bytes]:
        """Give the bytes of messages by their `seq`; those replaced meanwhile are left out."""
        found = {}
        for each in wanted:
            where = "snapshots WHERE document = ? AND seq = ?"
            values: tuple[Any, ...] = (each.document, each.seq)
            if not each.is_snapshot:
                where, values = "events WHERE seq = ?", (each.seq,)
            for (data,) in self._rows(f"SELECT data FROM {where}", values):  # noqa: S608 - one of two texts
                found[each.seq] = data
        return found

    def confirm(self, sent: Iterable[Waiting]) -> None:
        """Note that messages have been sent. One that was replaced meanwhile waits on."""
        now = time.time()
        listed = list(sent)
        snapshots = [(now, each.document, each.seq) for each in listed if each.is_snapshot]
        events = [(now, each.seq) for each in listed if not each.is_snapshot]
        with self._lock, _translated("the outbox"), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                "UPDATE snapshots SET sent_at = ? WHERE document = ? AND seq = ?", snapshots
            )
            self._connection.executemany("UPDATE events SET sent_at = ? WHERE seq = ?", events)
            if events:
                self._connection.execute(_FORGET_EVENTS, (now - _KEPT_SENT_SECONDS, _KEPT_SENT))
            self._room.notify_all()

    def wait_for_room(self, timeout_seconds: float) -> None:
        """Wait until something was sent, or the time is up."""
        with self._room:
            self._room.wait(timeout_seconds)

    def newest(self, *, snapshots: bool) -> dict[str, bytes]:
        """Give all snapshots, or events, that wait or were sent of late, by their documents."""
        table = "snapshots" if snapshots else "events"
        return dict(self._rows(f"SELECT document, data FROM {table}"))  # noqa: S608 - one of two words

    def snapshot(self, document: str) -> bytes | None:
        """Give the snapshot of a session that waits, or was sent of late."""
        rows = self._rows("SELECT data FROM snapshots WHERE document = ?", (document,))
        return rows[0][0] if rows else None

    def depth(self) -> Depth:
        """Give how much waits."""
        ((count, since),) = self._rows(_DEPTH)
        return Depth(count, since and since / 1e9, self.size())

    def size(self) -> int:
        """Bytes in use, as the bound counts them."""
        ((pages,),) = self._rows("PRAGMA page_count")
        ((free,),) = self._rows("PRAGMA freelist_count")
        return int(pages - free) * _PAGE_BYTES

    def tidy(self) -> None:
        """Forget what was sent long ago, and write the journal back into the file.

        Not within an append, which would wait for the disk.
        """
        oldest = time.time() - _KEPT_SENT_SECONDS
        self._rows("DELETE FROM snapshots WHERE sent_at < ?", (oldest,))
        if self.path is None:
            return
        with _translated("the outbox"):
            connection = _connect(self.path)
            try:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            finally:
                connection.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock, _translated("the outbox"):
            return self._connection.execute(statement, values).fetchall()


def _connect(path: Path | None) -> sqlite3.Connection:
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
def _translated(what: str, bounded: Outbox | None = None) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if bounded is not None and error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise OutboxFullError(str(bounded.path or "in memory")) from error
        message = f"{what} cannot be used: {error}"
        raise OutboxError(message) from error
    except (OSError, sqlite3.Error) as error:
        message = f"{what} cannot be used: {error}"
        raise OutboxError(message) from error


def open_outbox(path: Path | None, *, most_bytes: int) -> Outbox:
    """Open the outbox at `path`; where that cannot be used, say so once and keep it in memory.

    A file that is damaged is put aside under another name, not removed.
    """
    if path is None:
        return Outbox(None, most_bytes=most_bytes)
    try:
        return Outbox(path, most_bytes=most_bytes)
    except OutboxError as error:
        if isinstance(error.__cause__, sqlite3.DatabaseError) and _is_damaged(error.__cause__):
            aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
            path.rename(aside)
            _LOG.error("%s; it lies in %s now, and a new one begins", error, aside)
            return Outbox(path, most_bytes=most_bytes)
        _LOG.warning("%s; it is kept in memory, and a crash of the process loses it", error)
        return Outbox(None, most_bytes=most_bytes)


def _is_damaged(error: sqlite3.DatabaseError) -> bool:
    return error.sqlite_errorcode in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}
