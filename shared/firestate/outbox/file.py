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

import _thread
import logging
import os
import secrets
import shutil
import sqlite3
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from firestate.errors import OutboxError, OutboxFullError
from firestate.limits import INT64_MAX
from firestate.outbox.aside import is_damaged, put_aside
from firestate.outbox.carrying import carry_over
from firestate.outbox.changes import apply_changes
from firestate.outbox.connections import FileConnections, MemoryConnections, is_locked
from firestate.outbox.entries import KeptState, NewEntry, OutboxDepth, PendingEntry
from firestate.outbox.former_keys import move_former_keys
from firestate.outbox.spill import Spill
from firestate.outbox.sql import (
    DEPTH,
    EVENTS,
    EVENTS_THAT_WAIT,
    FLUSHES,
    FOLD,
    FOLDED,
    FORGET_CHANGES,
    FORGET_EVENTS,
    FORGET_ORPHANS,
    FORGET_SENT,
    FORGET_SNAPSHOTS,
    HAS_BYTES,
    HEAD,
    HELD_BACK,
    KEEP_FOR_CHANGES,
    NOTE,
    NOTE_ERASURE,
    PAGE_BYTES,
    PUT,
    PUT_ONE,
    RESERVE_ANEW,
    RESERVED,
    SEND_AGAIN,
    SNAPSHOTS,
    SNAPSHOTS_THAT_WAIT,
    TO_FOLD,
    TOLD,
    WAITING,
    WITH_CHANGES,
    connect,
    prepare,
    prepare_erasures,
    translated_outbox,
    unusable,
)
from firestate.outbox.writer import leave_place, new_writer_name, place_of, writer_name
from firestate.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from firestate.outbox.connections import Values
    from firestate.outbox.spill import OnConflict

T = TypeVar("T")

_LOG = logging.getLogger("firestate.outbox")
_LOOK_SECONDS = 0.5
_STUCK_SECONDS, _LOCKED_LATELY_SECONDS = 0.03, 0.5
_LEAST_PAGES = 24  # a dozen are those of the tables
_KEPT_SENT_SECONDS = 600
_KEPT_SENT = 1_000
_KEPT_ORDER_SECONDS = 86_400
_SHOWN = 2_000
_ERASE_PAUSES = 100
_AGAIN_PATIENCE_SECONDS, _CONFIRM_PATIENCE_SECONDS = 0.03, 1.0
_WARN_SECONDS = 60.0
_MOST_JOURNAL_BYTES, _LEAST_JOURNAL_BYTES = 64_000_000, 1_000_000
_JOURNAL_SHARE = 0.25
_JOURNAL_TRIES, _JOURNAL_PAUSE_SECONDS = 5, 0.001
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
        self._place: str | None = None
        self._look_at = 0.0
        self._waited = 0  # messages, as far as is known: what the disk may take with it
        self._loss: str | None = None
        self._telling: int | None = None
        self._on_loss: Callable[[], None] = lambda: None
        self.losses = 0
        """How often the file was gone, with what it held."""
        self._reserved: dict[tuple[str, str], str] = {}
        self._locked = (0, 0.0)
        """When the file was last written as it was found locked, and when that was."""
        self.writer = new_writer_name()
        """Who writes: the folder of the file. Of an outbox in memory it is this process alone."""
        self._written_anew = 0  # up to which deletion
        self._erase_at = self._warn_at = 0.0
        most_pages = max(most_bytes // PAGE_BYTES, _LEAST_PAGES)

        name = f"firestate-{secrets.token_hex(8)}"

        def opened(kind: type[sqlite3.Connection]) -> sqlite3.Connection:
            # After a fork another memory: the parent's is not the child's.
            return prepare(connect(path, kind, memory=f"{name}-{os.getpid()}"))

        def opened_patiently() -> sqlite3.Connection:
            return prepare(connect(path, patient=True))

        made = MemoryConnections if path is None else FileConnections
        with translated_outbox(self._name):
            self._most_pages, self._opened = most_pages, opened_patiently
            if path is not None:
                # On a thread of ours, by a connection of its own: it is a transaction, which keeps
                # others from writing, such as a signal handler in the middle of it.
                with_room = f"PRAGMA max_page_count = {2 * most_pages}"
                self.writer = Worker("firestate-outbox").run_last(
                    lambda: _brought_up_to_date(opened_patiently, path, with_room)
                )
            self._connections = made(opened, path, most_pages=most_pages)
            self._spill: Spill | None = None
            if path is not None:
                self._place = place_of(path)
                self._spill = Spill(path, self._connections, self._kept, most_bytes=most_bytes)
                self._spill.adopt()

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._connections.is_closed

    def close(self) -> None:
        """Close the file."""
        if self._spill is not None:
            self._spill.close()
        self._connections.close()

    @property
    def has_spilled(self) -> bool:
        """Whether something waits in a spill file, since the outbox is locked, or was just now."""
        return self._spill is not None and not self._spill.is_empty

    def on_loss(self, put_again: Callable[[], None]) -> None:
        """Have `put_again` called where the file was gone with what it held."""
        self._on_loss = put_again

    @property
    def place(self) -> str | None:
        """Which file it is: another one where it was opened anew. None for memory."""
        return self._place

    def look(self) -> None:
        """Open the file anew where it has vanished or was replaced: looked for twice a second.

        What it held is carried into the new one, as long as a connection can still read it. Raises
        OutboxError where there can be no file: nothing is kept then.
        """
        now = time.monotonic()
        if now < self._look_at or self.path is None or self._spill is None:
            return
        if place_of(self.path) != self._place and not self.is_closed:
            with translated_outbox(self._name):
                path = self.path
                self._spill.undisturbed(lambda: self._open_anew(path))
        self._look_at = now + _LOOK_SECONDS

    def _open_anew(self, path: Path) -> None:
        if place_of(path) == self._place:
            return  # another call was first
        new = self._opened_or_put_aside(path)
        try:
            new.execute(f"PRAGMA max_page_count = {2 * self._most_pages}").fetchall()
            prepare_erasures(new)
            old = self._connections.retire()
            try:
                if old is None:
                    self._lost("no connection was open")
                    self.writer = writer_name(new, path)
                else:
                    self.writer = carry_over(old, new, path, self.writer)
                    _LOG.warning("%s had vanished or was replaced: it goes on", self._name)
            except sqlite3.Error as error:
                self._lost(str(error))
                self.writer = writer_name(new, path)
            if old is not None:
                with suppress(sqlite3.Error):  # then it is gone
                    leave_place(old)
                old.close()
            self._place = place_of(path)
        finally:
            new.close()
        if self._loss is not None:
            self._telling = _thread.get_ident()
            try:
                self._on_loss()
            finally:
                self._telling = None

    def _opened_or_put_aside(self, path: Path) -> sqlite3.Connection:
        try:
            return self._opened()
        except sqlite3.DatabaseError as error:
            if not is_damaged(error):
                raise
            _LOG.error("%s was replaced (%s); it lies in %s now", path, error, put_aside(path))
            return self._opened()

    def _lost(self, why: str) -> None:
        self.losses += 1
        self._loss = (
            f"{self._name} has vanished, and what waited there is lost ({why}): up to "
            f"{self._waited} messages, as far as is known. A new file was made: the states of the "
            "agents that this process holds are put there again, events are not"
        )
        _LOG.error("%s", self._loss)

    def on_conflict(self, merge: OnConflict) -> None:
        """Have `merge` called where a state that was spilled was saved by others meanwhile.

        Its arguments: the document, what was there before, what was spilled last, and a name that
        tells what was spilled from all else that ever was.
        """
        if self._spill is not None:
            self._spill.on_conflict = merge
            self._spill.start()

    def adopt(self) -> None:
        """Take over what processes that have ended have left beside the file, and put it there."""
        if self._spill is not None:
            self._spill.adopt()
            self._spill.start()

    def put(self, *entries: NewEntry) -> bool:
        """Keep entries, all or none of them.

        Returns:
            False where nothing was kept, since a snapshot is not later than what is there, a change
            does not follow it, or it is not what was expected: `state` says what is there.

        Raises:
            OutboxFullError: The bound is reached or the disk is full; nothing is kept.
            OutboxError: The file cannot be used; nothing is kept.
        """
        self.look()
        if self._loss is not None and self._telling != _thread.get_ident():
            loss, self._loss = self._loss, None
            raise OutboxError(loss)
        rows = [self._values(entry) for entry in entries]
        self._waited += len(rows)
        while True:
            if self._connections.is_diverted and not self._connections.has_lock:
                done = self._spilled(rows, begin=False)
            else:
                done = self._put(rows)
            if done is not None:
                return done

    def _put(self, rows: list[tuple[Any, ...]]) -> bool | None:
        """Put rows to the file itself; None where puts are spilled by now, or it is to be tried."""
        values = [value for row in rows for value in row]
        statement = PUT if len(rows) == 1 else ", ".join([PUT, *[PUT_ONE] * (len(rows) - 1)])
        try:
            try:
                changed = self._connections.put(statement, values)
            except sqlite3.OperationalError as error:
                if is_locked(error) and self.path is not None:
                    return self._spilled(rows, begin=True) if self._is_stuck(self.path) else None
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._forget_sent():
                    raise
                changed = self._connections.put(statement, values)
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_TRIGGER or _is_taken(error):
                return False
            raise unusable(self._name, error) from error
        except (OSError, sqlite3.Error) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise OutboxFullError(str(self.path or "in memory")) from error
            raise unusable(self._name, error) from error
        return None if changed is None else True

    def _spilled(self, rows: list[tuple[Any, ...]], *, begin: bool) -> bool | None:
        return None if self._spill is None else self._spill.put(rows, begin=begin)

    def _is_stuck(self, path: Path) -> bool:
        """Whether nobody has committed between the last two times that the file was locked.

        Else those that write are many, as processes of a folder may be, and each has its turn.
        """
        try:
            committed = path.with_name(f"{path.name}-wal").stat().st_mtime_ns
        except OSError:
            committed = 0
        now = time.monotonic()
        before, at = self._locked
        is_same = before == committed and at > now - _LOCKED_LATELY_SECONDS
        if not is_same or self._connections.is_locked_by_us:
            self._locked = committed, now
            return False
        return at < now - _STUCK_SECONDS

    def exclusively(self, job: Callable[[], T]) -> T:
        """Run a job while nobody else puts, no thread nor process, as far as that can be had.

        It ends with the first put of the job that is kept. It is for a job that reads what is kept,
        and puts what follows from that: beside others who put all the time it would never get on.
        What it puts is on conditions all the same.

        A call that is broken off raises once the job has ended, or is sure not to begin.
        """
        if self._spill is None:
            return self._connections.exclusively(job)
        return job() if self.has_spilled else self._spill.exclusively(job)

    @property
    def is_exclusive(self) -> bool:
        """Whether the thread that asks runs a job of `exclusively`: it may not wait for anybody."""
        return self._connections.has_lock or (self._spill is not None and self._spill.is_current)

    def release_lock(self) -> None:
        """End what `exclusively` has begun, where this thread has: what follows may take long."""
        self._connections.release_lock()

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
        spilled = None if self._spill is None else self._spill.order(document)
        head = self._head(document)
        return spilled if head is None else max(head, spilled or head)

    def _head(self, document: str) -> tuple[int, int] | None:
        head = self._rows(HEAD, {"document": document})
        return (head[0][0], head[0][1]) if head else None

    def state(self, document: str) -> KeptState | None:
        """Return the newest that is kept of a session; None where not even its order is."""
        spilled = None if self._spill is None else self._spill.state(document)
        kept = self._kept(document)
        if spilled is None or (kept is not None and kept[:2] > spilled[:2]):
            return kept
        return spilled

    def _kept(self, document: str) -> KeptState | None:
        """Return the newest of a session in the file itself."""
        while True:
            if rows := self._with_changes(document):
                _, epoch, revision, *_ = rows[-1]
                return KeptState(epoch, revision, _composed(rows))
            head = self._head(document)
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
        statement = "INSERT OR IGNORE INTO begun VALUES (?, ?, ?, ?)"
        with translated_outbox(self._name):
            try:
                self._connections.change(statement, values, patience_seconds=0.0)
            except sqlite3.OperationalError as error:
                if not is_locked(error):
                    raise
                # For this process alone: others wait for the lock as well, or ask later.
                session_id = self._reserved.setdefault((agent, former), session_id)
        found = self._rows(RESERVED, (agent, former))
        return str(found[0][0]) if found else session_id

    def told(self) -> set[tuple[str, int]]:
        """Return which refused messages this folder was told of, and after how many replays."""
        return set(self._rows(TOLD))

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

    def held_back(self, *, in_file: bool = False) -> set[str]:
        """Return the sessions whose snapshots do not go out yet.

        With `in_file` also those that were let go beside a file that is locked: the snapshot that
        lies in the file is what was held back, until the other one has come in.
        """
        spilled = {} if self._spill is None else self._spill.held_back
        kept = {document for (document,) in self._rows(HELD_BACK)}
        if in_file:
            return kept | {document for document, is_held in spilled.items() if is_held}
        return {each for each in kept | spilled.keys() if spilled.get(each, True)}

    def let_go(self, document: str) -> None:
        """Let the snapshots of a session go out from now on."""
        self.put(NewEntry(document, agent="", topic="", data=b"", is_let_go=True))

    def waiting(self, limit: int) -> list[PendingEntry]:
        """Return what waits, the oldest first; with a limit below 0, all of it."""
        found = [
            PendingEntry(seq, document, bool(snapshot), *rest)
            for seq, document, snapshot, *rest in self._rows(WAITING, {"limit": limit})
        ]
        if not 0 <= limit <= len(found):
            self._waited = len(found)
        return found

    def ask_flush(self, flush_id: str) -> None:
        """Ask whoever sends to say when all that waits by now has gone out: `is_flushed`.

        It waits for nobody, like all that follows: where somebody is in its way nothing is done.
        Who has asked takes it back in the end; what a killed process has asked goes within a day.
        """
        self._note_flush("INSERT OR IGNORE INTO flushes VALUES (?, ?, 0)", flush_id, time.time())

    def is_flushed(self, flush_id: str) -> bool | None:
        """Whether all that waited when it was asked has gone out; None where it is to be asked."""
        rows = self._rows("SELECT is_done FROM flushes WHERE id = ?", (flush_id,))
        return bool(rows[0][0]) if rows else None

    def flushes(self) -> set[str]:
        """Return who waits until all has gone out."""
        return {each for (each,) in self._rows(FLUSHES)}

    def note_flushed(self, flush_id: str) -> None:
        """Note that all that waited when it was asked has gone out."""
        self._note_flush("UPDATE flushes SET is_done = 1 WHERE id = ?", flush_id)

    def forget_flush(self, flush_id: str) -> None:
        """Take back what `ask_flush` has asked."""
        self._note_flush("DELETE FROM flushes WHERE id = ?", flush_id)

    def _note_flush(self, statement: str, *values: str | float) -> None:
        with translated_outbox(self._name):
            self._connections.rows_if_free(statement, values, beyond_bound=True)

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
            now = time.monotonic()
            if now >= self._warn_at:
                _LOG.warning("%s cannot put a state together: %s", self._name, error)
                self._warn_at = now + _WARN_SECONDS
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
                self._change_briefly(statement, (now, *snapshots))
            if events:
                marks = ", ".join("?" * len(events))
                statement = f"UPDATE events SET sent_at = ? WHERE seq IN ({marks})"  # noqa: S608 - of question marks
                self._change_briefly(statement, (now, *events))

    def _change_briefly(self, statement: str, values: Values) -> None:
        # Whoever sends remembers what it could not note, and has other things to do.
        self._connections.change(
            statement, values, beyond_bound=True, patience_seconds=_CONFIRM_PATIENCE_SECONDS
        )

    def send_again(self) -> None:
        """Have all that was sent of late, and is still here, be sent once more: it was lost.

        Where this file has vanished as well, that may be seen only now, or just be under way: what
        is carried into the new one while it is noted in the former one would not be sent again.
        Raises OutboxError where that cannot be noted now, such as in a file that is locked.
        """
        path, spill = self.path, self._spill
        with translated_outbox(self._name):
            if path is None or spill is None:
                self._note_again()
                return

            def note_there() -> None:
                if not self.is_closed:
                    self._open_anew(path)
                self._note_again()

            spill.undisturbed(note_there)

    def _note_again(self) -> None:
        # Puts wait meanwhile: hence not for long.
        self._connections.change(
            SEND_AGAIN, beyond_bound=True, patience_seconds=_AGAIN_PATIENCE_SECONDS
        )

    def newest(self, *, snapshots: bool, waiting: bool = False) -> dict[str, bytes]:
        """Return snapshots, or the newest 2,000 events, that wait or were sent of late.

        With `waiting` those that wait alone.
        """
        if not snapshots:
            spilled = {} if self._spill is None else self._spill.events.copy()
            statement = EVENTS_THAT_WAIT if waiting else EVENTS
            return {**dict(self._rows(statement, (_SHOWN,))), **spilled}
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
        for document in [] if self._spill is None else self._spill.documents:
            if (data := self.snapshot(document)) is not None:
                found[document] = data
        return found

    def snapshot(self, document: str) -> bytes | None:
        """Return the snapshot of a session that waits, or was sent of late."""
        if self._spill is not None and self._spill.order(document) is not None:
            kept = self.state(document)
            return kept and kept.message
        rows = self._with_changes(document)
        return _composed(rows) if rows else None

    def depth(self) -> OutboxDepth:
        """Return how much waits."""
        ((count, since),) = self._rows(DEPTH)
        since = since and since / 1e9
        if self._spill is not None and not self._spill.is_empty:
            count += len(self._spill.documents) + len(self._spill.events)
            since = since or self._spill.since
        return OutboxDepth(count, since, self.size())

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
        try:
            self._forget_old()
        except OutboxError as error:
            # A full disk has no room for that; but it may be this journal that it is full of.
            if error.__cause__ is not None and not is_locked(error.__cause__):
                self._write_journal_back()
            raise
        self._write_journal_back()

    def _forget_old(self) -> None:
        oldest = time.time() - _KEPT_SENT_SECONDS
        with translated_outbox(self._name):
            change = self._connections.change
            change(f"{FORGET_SNAPSHOTS} AND sent_at < ?", (oldest,))
            gone = "DELETE FROM snapshots WHERE sent_at < ? AND length(data) = 0"
            change(gone, (oldest - _KEPT_ORDER_SECONDS,))
            change("DELETE FROM begun WHERE at < ?", (oldest - _KEPT_ORDER_SECONDS,))
            change("DELETE FROM flushes WHERE at < ?", (oldest - _KEPT_ORDER_SECONDS,))
            change(FORGET_EVENTS, (oldest, _KEPT_SENT))
            change(FORGET_CHANGES)
            now = time.time()
            change(KEEP_FOR_CHANGES, (now, now - _KEPT_SENT_SECONDS / 2))

    def _write_journal_back(self) -> None:
        if self.path is not None:
            self._rows("PRAGMA wal_checkpoint(PASSIVE)")
            self._bound_journal()

    def _bound_journal(self) -> None:
        """Begin the journal anew where it has grown large.

        SQLite does so by itself only where nobody reads or writes just then: where five agents save
        all the time, never, and it grows by 18 MB a second. Others cannot write meanwhile: some 30
        ms, since most of it was written back just before.
        """
        for _ in range(_JOURNAL_TRIES):
            if not self.has_large_journal() or self._truncate_journal():
                return
            time.sleep(_JOURNAL_PAUSE_SECONDS)

    def has_large_journal(self) -> bool:
        """Whether the journal has grown so large that it is to begin anew.

        On a small disk, or one that is nearly full, that is soon: what it takes there would be
        missing as it is written back, and it could never begin anew.
        """
        if self.path is None:
            return False
        try:
            size = self.path.with_name(f"{self.path.name}-wal").stat().st_size
            free = shutil.disk_usage(self.path.parent).free
        except OSError:
            return False  # it has vanished, or its folder has: `look` tells
        return size > min(_MOST_JOURNAL_BYTES, max(_LEAST_JOURNAL_BYTES, _JOURNAL_SHARE * free))

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
                try:
                    written = self._connections.rows_if_free("VACUUM") is not None
                finally:
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
        with translated_outbox(self._name):
            rows = self._connections.rows_if_free("PRAGMA wal_checkpoint(TRUNCATE)")
        return rows is not None and not rows[0][0]

    def _with_changes(self, document: str, seq: int = INT64_MAX) -> list[tuple[Any, ...]]:
        """Return the row of a snapshot, and those of its changes up to `seq`."""
        return self._rows(WITH_CHANGES, {"document": document, "seq": seq})

    def _rows(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        with translated_outbox(self._name):
            return self._connections.rows(statement, values)


def _brought_up_to_date(
    opened: Callable[[], sqlite3.Connection], path: Path, with_room: str
) -> str:
    """Prepare the file for this release; return the name of its writer."""
    connection = opened()
    try:
        connection.execute(with_room).fetchall()
        prepare_erasures(connection)
        move_former_keys(connection)
        # Looked for first: to delete needs the file, which another program may have locked.
        orphans = connection.execute(FORGET_ORPHANS.replace("DELETE", "SELECT 1", 1)).fetchone()
        if orphans and (lost := connection.execute(FORGET_ORPHANS).rowcount):
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
