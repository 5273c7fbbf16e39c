"""The outbox: what an agent's process has to say, on its disk until Pub/Sub has confirmed it.

One SQLite file in WAL mode, which all processes of a folder share. An append is one statement,
which a `kill -9` or a signal finds done or not done; with `synchronous=NORMAL` it does not wait for
the disk, so that only a machine that loses its power can lose the last appends.

A snapshot (an agent's whole state, or that it is deleted) takes the place of the former one of its
session, wherever that has come to; a change is added to it, and becomes part of it before it goes
out; events stay, each. What was sent is kept for a while, as far as there is room: until it has
come through to Firestore, it is what reads are told of it.
"""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
import time
from typing import TYPE_CHECKING, Any

from firestate.errors import OutboxError, OutboxFullError
from firestate.limits import INT64_MAX
from firestate.outbox.changes import apply_changes
from firestate.outbox.connections import FileConnections, MemoryConnections
from firestate.outbox.entries import KeptState, NewEntry, OutboxDepth, PendingEntry
from firestate.outbox.former_keys import move_former_keys
from firestate.outbox.sql import (
    DEPTH,
    EVENTS,
    EVENTS_THAT_WAIT,
    FOLD,
    FOLDED,
    FORGET_CHANGES,
    FORGET_EVENTS,
    FORGET_ORPHANS,
    FORGET_SENT,
    FORGET_SNAPSHOTS,
    HAS_BYTES,
    HEAD,
    KEEP_FOR_CHANGES,
    NOTE,
    NOTE_ERASURE,
    PAGE_BYTES,
    PUT,
    PUT_ONE,
    RESERVE_ANEW,
    RESERVED,
    SNAPSHOTS,
    SNAPSHOTS_THAT_WAIT,
    TO_FOLD,
    WAITING,
    WITH_CHANGES,
    connect,
    prepare,
    prepare_erasures,
    translated_outbox,
)
from firestate.outbox.writer import new_writer_name, writer_name
from firestate.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from firestate.outbox.connections import Values

_LOG = logging.getLogger("firestate.outbox")
_LEAST_PAGES = 24  # a dozen are those of the tables
_KEPT_SENT_SECONDS = 600
_KEPT_SENT = 1_000
_KEPT_ORDER_SECONDS = 86_400
_SHOWN = 2_000
_ERASE_PAUSES = 100
_MOST_REASON = 1_000  # characters: with them the note stays within its page, also in a full file


class Outbox:
    """A file, or with the path None memory. Any number of threads, processes, and forks.

    Each method may be called from a signal handler, in the middle of any other.
    """

    def __init__(self, path: Path | None, *, most_bytes: int) -> None:
        """Open the file, or make it; raise OutboxError where that cannot be done."""
        self.path = path
        self._name = f"the outbox {path or 'in memory'}"
        self._last = 0
        self.writer = new_writer_name()
        """Who writes: the folder of the file. Of an outbox in memory it is this process alone."""
        self._written_anew = 0  # up to which deletion
        self._erase_at = 0.0
        most_pages = max(most_bytes // PAGE_BYTES, _LEAST_PAGES)

        name = f"firestate-{secrets.token_hex(8)}"

        def opened(kind: type[sqlite3.Connection]) -> sqlite3.Connection:
            # After a fork another memory: the parent's is not the child's.
            return prepare(connect(path, kind, memory=f"{name}-{os.getpid()}"))

        made = MemoryConnections if path is None else FileConnections
        with translated_outbox(self._name):
            if path is not None:
                # On a thread of ours, by a connection of its own: it is a transaction, which keeps
                # others from writing, such as a signal handler in the middle of it.
                with_room = f"PRAGMA max_page_count = {2 * most_pages}"
                self.writer = Worker("firestate-outbox").run_last(
                    lambda: _brought_up_to_date(opened, path, with_room)
                )
            self._connections = made(opened, most_pages=most_pages)

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._connections.is_closed

    def close(self) -> None:
        """Close the file."""
        self._connections.close()

    def put(self, *entries: NewEntry) -> bool:
        """Keep entries, all or none of them.

        Returns:
            False where nothing was kept, since a snapshot is not later than what is there, a change
            does not follow it, or it is not what was expected: `state` says what is there.

        Raises:
            OutboxFullError: The bound is reached or the disk is full; nothing is kept.
            OutboxError: The file cannot be used; nothing is kept.
        """
        values = [value for entry in entries for value in self._values(entry)]
        statement = PUT if len(entries) == 1 else ", ".join([PUT, *[PUT_ONE] * (len(entries) - 1)])
        try:
            try:
                self._connections.change(statement, values)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._forget_sent():
                    raise
                self._connections.change(statement, values)
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_TRIGGER or _is_taken(error):
                return False
            raise OutboxError(f"{self._name} cannot be used: {error}") from error
        except (OSError, sqlite3.Error) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise OutboxFullError(str(self.path or "in memory")) from error
            raise OutboxError(f"{self._name} cannot be used: {error}") from error
        return True

    def _values(self, entry: NewEntry) -> tuple[Any, ...]:
        # In the order of the calls also where the clock is set back. Taken after the order of a
        # state was decided, so that those of one session rise with its revisions.
        seq = self._last = max(time.time_ns(), self._last + 1)
        order = entry.order or (None, None)
        return (entry.kind, entry.document, *order, seq, entry.agent, entry.topic, entry.data)

    def _forget_sent(self) -> int:
        return sum(self._connections.change(each) for each in FORGET_SENT)

    def head(self, document: str) -> tuple[int, int] | None:
        """Return the (epoch, revision) of the newest of a session; None where nothing is known."""
        head = self._rows(HEAD, {"document": document})
        return (head[0][0], head[0][1]) if head else None

    def state(self, document: str) -> KeptState | None:
        """Return the newest that is kept of a session; None where not even its order is."""
        while True:
            if rows := self._with_changes(document):
                _, epoch, revision, *_ = rows[-1]
                return KeptState(epoch, revision, _composed(rows))
            head = self.head(document)
            if head is None:
                return None
            # Of one moment: another thread may have put it anew between the two.
            if not self._rows(HAS_BYTES, (document,)):
                return KeptState(*head, message=None)

    def reserve(self, agent: str, former: str, session_id: str) -> str:
        """Return the session in which an agent goes on after `former`; '' for its first one.

        All processes and threads that ask get the same: the `session_id` of whoever asks first.
        """
        values = (agent, former, session_id, time.time())
        with translated_outbox(self._name):
            self._connections.change("INSERT OR IGNORE INTO begun VALUES (?, ?, ?, ?)", values)
        ((session,),) = self._rows(RESERVED, (agent, former))
        return str(session)

    def told(self) -> set[tuple[str, int]]:
        """Return which refused messages this folder was told of, and after how many replays."""
        return set(self._rows("SELECT id, replays FROM told"))

    def note_told(self, refusal: tuple[str, int]) -> None:
        """Note that this folder was told of a refused message."""
        with translated_outbox(self._name):
            self._connections.change("INSERT OR IGNORE INTO told VALUES (?, ?)", refusal)

    def reserve_anew(self, agent: str, former: str, gone: str, session_id: str) -> str:
        """Return what takes the place of a reserved session that was deleted; likewise."""
        values = (session_id, time.time(), agent, former, gone)
        with translated_outbox(self._name):
            self._connections.change(RESERVE_ANEW, values)
        return self.reserve(agent, former, session_id)

    def claim(self, document: str, what: str, own: str, most_seconds: float) -> str:
        """Return who does something with a session, of all who ask in this folder: one.

        A claim counts for so many seconds: who has made it may have died.
        """
        key, now = f"claim {document}", time.time()
        with translated_outbox(self._name):
            gone = "DELETE FROM begun WHERE agent = ? AND at < ?"
            self._connections.change(gone, (key, now - most_seconds))
        return self.reserve(key, what, own)

    def held_back(self) -> set[str]:
        """Return the sessions whose snapshots do not go out yet."""
        return {document for (document,) in self._rows("SELECT document FROM held_back")}

    def let_go(self, document: str) -> None:
        """Let the snapshots of a session go out from now on."""
        with translated_outbox(self._name):
            self._connections.change("DELETE FROM held_back WHERE document = ?", (document,))

    def waiting(self, limit: int) -> list[PendingEntry]:
        """Return what waits, the oldest first."""
        return [
            PendingEntry(seq, document, bool(snapshot), *rest)
            for seq, document, snapshot, *rest in self._rows(WAITING, {"limit": limit})
        ]

    def data(self, wanted: Iterable[PendingEntry]) -> dict[PendingEntry, bytes]:
        """Return the bytes of messages; those that were replaced meanwhile are left out.

        Changes that wait become part of their snapshot.
        """
        found = {}
        for each in wanted:
            if each.is_snapshot:
                data = self._folded(each.document, each.seq)
            else:
                rows = self._rows("SELECT data FROM events WHERE seq = ?", (each.seq,))
                data = rows[0][0] if rows else None
            if data is not None:
                found[each] = data
        return found

    def fold(self, older_than_seconds: float) -> None:
        """Make changes that have waited for so long part of their snapshots.

        Whoever sends does so as it sends. This is for what nobody sends: so that it stays small,
        and that the sender of an earlier release, which knows no changes, finds it.
        """
        before = time.time_ns() - int(older_than_seconds * 1e9)
        for (document,) in self._rows(TO_FOLD, (before,)):
            self._folded(document, INT64_MAX)

    def _folded(self, document: str, seq: int) -> bytes | None:
        """Return a snapshot with its changes up to `seq`, which it holds from now on.

        None where that is not what is there any more, or another process folds it.
        """
        rows = self._with_changes(document, seq)
        if not rows or (seq != INT64_MAX and rows[-1][3] != seq):
            return None
        _, epoch, revision, _, data = rows[0]
        if len(rows) == 1:
            return bytes(data)
        _, _, last, last_seq, _ = rows[-1]
        composed = _composed(rows)
        values = (last, last_seq, composed, document, epoch, revision)
        try:
            if not self._connections.change(FOLD, values, beyond_bound=True):
                return None
            self._connections.change(FOLDED, (document, epoch, last), beyond_bound=True)
        except sqlite3.Error as error:
            # Such as a full disk: it goes out all the same, and again until that can be noted.
            _LOG.warning("%s cannot put a state together: %s", self._name, error)
        return composed

    def correct(self, entry: PendingEntry, document: str, data: bytes) -> None:
        """Have a message that waits say something else, before it goes out.

        What is sent twice is to be the same both times. One that was replaced meanwhile stays.
        """
        with translated_outbox(self._name):
            if entry.is_snapshot:
                statement = "UPDATE snapshots SET data = ? WHERE document = ? AND seq = ?"
                values: Values = (data, entry.document, entry.seq)
            else:
                statement = "UPDATE events SET document = ?, data = ? WHERE seq = ?"
                values = (document, data, entry.seq)
            self._connections.change(statement, values, beyond_bound=True)

    def confirm(self, sent: Iterable[PendingEntry]) -> None:
        """Note that messages have been sent. One that was replaced meanwhile waits on."""
        now = time.time()
        listed = list(sent)
        snapshots = [
            value for each in listed if each.is_snapshot for value in (each.document, each.seq)
        ]
        events = [each.seq for each in listed if not each.is_snapshot]
        # What is sent and cannot be noted would be sent again, for ever: hence beyond the bound.
        with translated_outbox(self._name):
            if snapshots:
                pairs = ", ".join(["(?, ?)"] * (len(snapshots) // 2))
                statement = (
                    f"UPDATE snapshots SET sent_at = ? WHERE (document, seq) IN (VALUES {pairs})"  # noqa: S608 - of question marks
                )
                self._connections.change(statement, (now, *snapshots), beyond_bound=True)
            if events:
                marks = ", ".join("?" * len(events))
                statement = f"UPDATE events SET sent_at = ? WHERE seq IN ({marks})"  # noqa: S608 - of question marks
                self._connections.change(statement, (now, *events), beyond_bound=True)

    def newest(self, *, snapshots: bool, waiting: bool = False) -> dict[str, bytes]:
        """Return snapshots, or the newest 2,000 events, that wait or were sent of late.

        With `waiting` those that wait alone.
        """
        if not snapshots:
            return dict(self._rows(EVENTS_THAT_WAIT if waiting else EVENTS, (_SHOWN,)))
        found: dict[str, bytes] = {}
        parts: list[tuple[Any, ...]] = []
        rows = self._rows(SNAPSHOTS_THAT_WAIT if waiting else SNAPSHOTS)
        for row in [*rows, (None, b"", None, 0)]:
            if row[1] is not None and parts:
                document, data, _, _ = parts[0]
                changes = [change for _, _, change, _ in parts[1:]]
                found[document] = apply_changes(data, changes, parts[-1][3]) if changes else data
                parts = []
            parts.append(row)
        return found

    def snapshot(self, document: str) -> bytes | None:
        """Return the snapshot of a session that waits, or was sent of late."""
        rows = self._with_changes(document)
        return _composed(rows) if rows else None

    def depth(self) -> OutboxDepth:
        """Return how much waits."""
        ((count, since),) = self._rows(DEPTH)
        return OutboxDepth(count, since and since / 1e9, self.size())

    def size(self) -> int:
        """Return the bytes in use, as the bound counts them."""
        ((pages,),) = self._rows("PRAGMA page_count")
        ((free,),) = self._rows("PRAGMA freelist_count")
        return int(pages - free) * PAGE_BYTES

    def note(self, reason: str | None) -> None:
        """Note why nothing goes out, for `firestate outbox`; None: something has gone out."""
        with translated_outbox(self._name):
            if reason is None:
                self._connections.change("DELETE FROM sender")
            else:
                text = reason.encode("utf-8", "backslashreplace").decode()[:_MOST_REASON]
                self._connections.change(NOTE, (text, time.time()))

    def tidy(self) -> None:
        """Forget what was sent long ago, and write the journal back into the file.

        Not within an append, which would wait for the disk.
        """
        oldest = time.time() - _KEPT_SENT_SECONDS
        with translated_outbox(self._name):
            change = self._connections.change
            change(f"{FORGET_SNAPSHOTS} AND sent_at < ?", (oldest,))
            gone = "DELETE FROM snapshots WHERE sent_at < ? AND length(data) = 0"
            change(gone, (oldest - _KEPT_ORDER_SECONDS,))
            change("DELETE FROM begun WHERE at < ?", (oldest - _KEPT_ORDER_SECONDS,))
            change(FORGET_EVENTS, (oldest, _KEPT_SENT))
            change(FORGET_CHANGES)
            now = time.time()
            change(KEEP_FOR_CHANGES, (now, now - _KEPT_SENT_SECONDS / 2))
        if self.path is not None:
            self._rows("PRAGMA wal_checkpoint(PASSIVE)")

    def change_mark(self, quiet_seconds: float) -> tuple[int, ...] | None:
        """Return what is another after any process has written.

        None where somebody has within the last `quiet_seconds`: then the next may come unseen, in
        the same tick of the file system's clock. None as well for memory.
        """
        if self.path is None:
            return None
        found: list[int] = []
        for path in (self.path, self.path.with_name(f"{self.path.name}-wal")):
            try:
                stat = path.stat()
            except OSError:
                found.append(0)
                continue
            if not stat.st_mtime <= time.time() - quiet_seconds:
                return None
            found += (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        return tuple(found)

    def note_deletion(self) -> None:
        """Note that a session is deleted: `erase` is to leave no byte of it."""
        if self.path is not None:
            with translated_outbox(self._name):
                self._connections.change(NOTE_ERASURE, beyond_bound=True)

    def erase(self) -> bool:
        """Leave no byte of what was deleted, in the file or its journal; return whether it is done.

        It waits for nobody: call it again where others read or write. The file is written anew for
        one percent of the time at most, since appends wait meanwhile.
        """
        if self.path is None:
            return True
        ((last,),) = self._rows("SELECT max(id) FROM erasures")
        if last is None:
            return True
        with translated_outbox(self._name):
            if last > self._written_anew:
                began = time.monotonic()
                if began < self._erase_at:
                    return False
                # `secure_delete` misses what SQLite has moved from page to page before.
                written = self._connections.rows_if_free("VACUUM") is not None
                self._erase_at = began + _ERASE_PAUSES * (time.monotonic() - began)
                if not written:
                    return False
                self._written_anew = last
            if not self._truncate_journal():
                return False
            self._connections.change("DELETE FROM erasures WHERE id <= ?", (last,))
            self._written_anew = 0
            return self._truncate_journal()

    def _truncate_journal(self) -> bool:
        rows = self._connections.rows_if_free("PRAGMA wal_checkpoint(TRUNCATE)")
        return rows is not None and not rows[0][0]

    def _with_changes(self, document: str, seq: int = INT64_MAX) -> list[tuple[Any, ...]]:
        """Return the row of a snapshot, and those of its changes up to `seq`."""
        return self._rows(WITH_CHANGES, {"document": document, "seq": seq})

    def _rows(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        with translated_outbox(self._name):
            return self._connections.rows(statement, values)


def _brought_up_to_date(
    opened: Callable[[type[sqlite3.Connection]], sqlite3.Connection], path: Path, with_room: str
) -> str:
    """Prepare the file for this release; return the name of its writer."""
    connection = opened(sqlite3.Connection)
    try:
        connection.execute(with_room).fetchall()
        prepare_erasures(connection)
        move_former_keys(connection)
        if lost := connection.execute(FORGET_ORPHANS).rowcount:
            _LOG.error("%d changes are lost: an earlier release has forgotten their states", lost)
        return writer_name(connection, path)
    finally:
        connection.close()


def _composed(rows: Sequence[tuple[Any, ...]]) -> bytes:
    """Return the message of a snapshot, the first row, with the changes that follow it."""
    (*_, data), *changes = rows
    if not changes:
        return bytes(data)
    return apply_changes(data, [each[-1] for each in changes], changes[-1][2])


def _is_taken(error: sqlite3.IntegrityError) -> bool:
    """Whether another change has the place of this one."""
    return error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
