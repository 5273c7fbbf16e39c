"""The outbox: what an agent's process has to say, on its disk until Pub/Sub has confirmed it.

One SQLite file in WAL mode, which all processes of a folder share. An append is one statement,
which a `kill -9` finds done or not done; with `synchronous=NORMAL` it does not wait for the disk,
so that only a machine that loses its power can lose the last appends.

A snapshot (an agent's whole state, or that it is deleted) takes the place of the former one of its
session, wherever that has come to; events stay, each. What was sent is kept for a while, as far as
there is room: until it has come through to Firestore, it is what reads are told of it.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from firestate.fork_safe_sqlite import ForkSafeSqlite
from firestate.outbox.entries import NewEntry, OutboxDepth, PendingEntry
from firestate.outbox.former_keys import move_former_keys
from firestate.outbox.sql import (
    DEPTH,
    EVENTS,
    FORGET_EVENTS,
    FORGET_SENT,
    FORGET_SNAPSHOTS,
    NOTE,
    PAGE_BYTES,
    PUT_EVENT,
    PUT_SNAPSHOT,
    SCHEMA,
    SNAPSHOTS,
    WAITING,
    connect,
    translated_outbox,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_KEPT_SENT_SECONDS = 600
_KEPT_SENT = 1_000
_KEPT_ORDER_SECONDS = 86_400
_SHOWN = 2_000
_MOST_REASON = 1_000  # characters: with them the note stays within its page, also in a full file


class Outbox(ForkSafeSqlite):
    """A file, or with the path None memory. Any number of threads, processes, and forks."""

    def __init__(self, path: Path | None, *, most_bytes: int) -> None:
        """Open the file, or make it; raise OutboxError where that cannot be done."""
        self._name = str(path or "in memory")
        self._most_pages = max(most_bytes // PAGE_BYTES, 16)
        super().__init__(path)
        with self._lock, translated_outbox(f"the outbox {self._name}"):
            self._opened = self._open()
            with self._beyond_the_bound():
                move_former_keys(self._opened)

    def _new_locks(self) -> None:
        self._last = 0
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._tidying = threading.Lock()

    def _open(self) -> sqlite3.Connection:
        connection = connect(self.path)
        connection.executescript(SCHEMA)
        connection.execute(f"PRAGMA max_page_count = {self._most_pages}")
        return connection

    def before_fork(self) -> None:
        """Close the file, with nobody inside, nor tidying it by a connection of its own."""
        self._tidying.acquire()
        super().before_fork()

    def after_fork_in_parent(self) -> None:
        """Let others in again; the first of them opens the file."""
        super().after_fork_in_parent()
        self._tidying.release()

    def put(self, message: NewEntry) -> bool:
        """Keep a message; False where a later snapshot of its session is there, and stays.

        Raises OutboxFullError where the bound is reached or the disk is full: nothing is kept.
        """
        with self._lock, translated_outbox("the outbox", self._name):
            # In the order of the calls also where the clock is set back.
            self._last = max(time.time_ns(), self._last + 1)
            try:
                return self._put(message)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._forget_sent():
                    raise
                return self._put(message)

    def _put(self, message: NewEntry) -> bool:
        if message.order is not None:
            values = (message.document, *message.order, self._last, message.agent, message.topic)
            return self._connection.execute(PUT_SNAPSHOT, (*values, message.data)).rowcount > 0
        while True:
            event = (self._last, message.document, message.agent, message.topic)
            try:
                self._connection.execute(PUT_EVENT, (*event, message.data))
            except sqlite3.IntegrityError:
                self._last += 1  # another process has put one in this nanosecond
            else:
                return True

    def _forget_sent(self) -> int:
        return sum(self._connection.execute(each).rowcount for each in FORGET_SENT)

    def waiting(self, limit: int) -> list[PendingEntry]:
        """Give what waits, the oldest first."""
        return [
            PendingEntry(seq, document, bool(snapshot), *rest)
            for seq, document, snapshot, *rest in self._rows(WAITING, (limit,))
        ]

    def data(self, wanted: Iterable[PendingEntry]) -> dict[int, bytes]:
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

    def confirm(self, sent: Iterable[PendingEntry]) -> None:
        """Note that messages have been sent. One that was replaced meanwhile waits on."""
        now = time.time()
        listed = list(sent)
        snapshots = [(now, each.document, each.seq) for each in listed if each.is_snapshot]
        events = [(now, each.seq) for each in listed if not each.is_snapshot]
        with (
            self._lock,
            translated_outbox("the outbox"),
            self._beyond_the_bound(),
            self._connection,
        ):
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                "UPDATE snapshots SET sent_at = ? WHERE document = ? AND seq = ?", snapshots
            )
            self._connection.executemany("UPDATE events SET sent_at = ? WHERE seq = ?", events)
            self._room.notify_all()

    @contextmanager
    def _beyond_the_bound(self) -> Iterator[None]:
        """Let a full file grow: what is sent and cannot be noted would be sent again, for ever."""
        self._bound(2 * self._most_pages)
        try:
            yield
        finally:
            self._bound(self._most_pages)

    def _bound(self, pages: int) -> None:
        self._connection.execute(f"PRAGMA max_page_count = {pages}")

    def wait_for_room(self, timeout_seconds: float) -> None:
        """Wait until something was sent, or the time is up."""
        with self._room:
            self._room.wait(timeout_seconds)

    def newest(self, *, snapshots: bool) -> dict[str, bytes]:
        """Give snapshots, or the newest 2,000 events, that wait or were sent of late."""
        return dict(self._rows(SNAPSHOTS if snapshots else EVENTS, () if snapshots else (_SHOWN,)))

    def snapshot(self, document: str) -> bytes | None:
        """Give the snapshot of a session that waits, or was sent of late."""
        rows = self._rows(f"{SNAPSHOTS} AND document = ?", (document,))
        return rows[0][1] if rows else None

    def depth(self) -> OutboxDepth:
        """Give how much waits."""
        ((count, since),) = self._rows(DEPTH)
        return OutboxDepth(count, since and since / 1e9, self.size())

    def size(self) -> int:
        """Bytes in use, as the bound counts them."""
        ((pages,),) = self._rows("PRAGMA page_count")
        ((free,),) = self._rows("PRAGMA freelist_count")
        return int(pages - free) * PAGE_BYTES

    def note(self, reason: str | None) -> None:
        """Note why nothing goes out, for `firestate outbox`; None: something has gone out."""
        if reason is None:
            self._rows("DELETE FROM sender")
        else:
            text = reason.encode("utf-8", "backslashreplace").decode()[:_MOST_REASON]
            self._rows(NOTE, (text, time.time()))

    def tidy(self) -> None:
        """Forget what was sent long ago, and write the journal back into the file.

        Not within an append, which would wait for the disk.
        """
        oldest = time.time() - _KEPT_SENT_SECONDS
        self._rows(f"{FORGET_SNAPSHOTS} AND sent_at < ?", (oldest,))
        self._rows("DELETE FROM snapshots WHERE sent_at < ?", (oldest - _KEPT_ORDER_SECONDS,))
        self._rows(FORGET_EVENTS, (oldest, _KEPT_SENT))
        if self.path is None:
            return
        with self._tidying, translated_outbox("the outbox"):
            connection = connect(self.path)
            try:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            finally:
                connection.close()

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock, translated_outbox("the outbox"):
            return self._connection.execute(statement, values).fetchall()
