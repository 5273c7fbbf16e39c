"""What is put while another program locks the outbox: it waits in a file of this process.

A put that finds the outbox locked for long, by somebody who commits nothing meanwhile, is written
to a spill file in the same folder, and so are all that follow it, until the lock is gone and all is
replayed in order. What is spilled lies over the outbox for those who read, and decides whether a
state follows what is there.

All of this is done on one thread of ours, one after the other: a caller waits for its answer, and
may be interrupted while it does.

A state that somebody else has saved meanwhile, in the outbox itself, is not replaced: `on_conflict`
merges the two. A spill file of a process that was killed is replayed by the next process.
"""

from __future__ import annotations

import glob
import logging
import sqlite3
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from firestate.errors import OutboxError, OutboxFullError
from firestate.forking import ForkSafe
from firestate.outbox.changes import apply_changes
from firestate.outbox.connections import is_locked
from firestate.outbox.entries import KeptState
from firestate.outbox.spill_file import SpillFile
from firestate.outbox.sql import FORGET_REPLAYED, PUT, PUT_ONE, REPLAYED
from firestate.worker import Thread, Wakeup, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from firestate.outbox.connections import FileConnections
    from firestate.outbox.spill_file import Record, Row

    OnConflict = Callable[[str, KeptState | None, KeptState], None]

T = TypeVar("T")

_LOG = logging.getLogger("firestate.outbox")
_LOOK_SECONDS, _FAILED_SECONDS = 0.05, 1.0
_MOST_AT_ONCE = 50  # puts of this and other processes wait for so many
_MOST_CHANGES = 100
_PATIENCE_SECONDS = 0.05
_CLOSE_SECONDS = 5.0


class _Session(NamedTuple):
    """The newest of a session: a whole message, and the changes that follow it."""

    epoch: int
    revision: int
    message: bytes | None
    changes: tuple[bytes, ...] = ()
    base: KeptState | None = None
    """What the outbox held of it when it was spilled first."""

    @property
    def order(self) -> tuple[int, int]:
        return self.epoch, self.revision

    def kept(self) -> KeptState:
        message = self.message
        if message is not None and self.changes:
            message = apply_changes(message, self.changes, self.revision)
        return KeptState(self.epoch, self.revision, message)


class Spill(ForkSafe):
    """The puts of this process that the outbox has not taken yet, and those of dead processes."""

    def __init__(
        self,
        outbox: Path,
        connections: FileConnections,
        kept: Callable[[str], KeptState | None],
        *,
        most_bytes: int,
    ) -> None:
        """Have nothing; `kept` says what the outbox itself keeps of a session."""
        super().__init__()
        self._outbox = outbox
        self._connections = connections
        self._kept = kept
        self._most_bytes = most_bytes
        self.on_conflict: OnConflict = _set_aside
        """Merges what was spilled of a session (its base, its newest) into what is there by now."""
        self._worker = Worker("firestate-spill")
        self._files: list[SpillFile] = []
        self.after_fork()

    def after_fork(self) -> None:
        """Have nothing: what is spilled is the parent's, which replays it."""
        for file in self._files:
            file.leave()
        self._files = []
        self._own: SpillFile | None = None
        self._sessions: dict[str, _Session] = {}
        self.events: dict[str, bytes] = {}
        """The events that are spilled, by their documents."""
        self.held_back: dict[str, bool] = {}
        """Of sessions that were held back, or let go, which ones are held back."""
        self._woken = Wakeup()
        self._closing = False
        self._thread = Thread("firestate-replay", self._run)

    @property
    def is_empty(self) -> bool:
        """Whether all is in the outbox."""
        return not self._files

    @property
    def since(self) -> float | None:
        """When the oldest of it was put, in seconds since 1970; None where nothing is."""
        rows = [row for file in list(self._files) for each in file.records[:1] for row in each.rows]
        return min((row[4] / 1e9 for row in rows), default=None)

    @property
    def documents(self) -> list[str]:
        """The sessions that are spilled."""
        return list(self._sessions)

    def order(self, document: str) -> tuple[int, int] | None:
        """Return the order of the newest of a session that is spilled."""
        session = self._sessions.get(document)
        return session and session.order

    def state(self, document: str) -> KeptState | None:
        """Return the newest of a session that is spilled."""
        session = self._sessions.get(document)
        return session and session.kept()

    def put(self, rows: Sequence[Row], *, begin: bool) -> bool | None:
        """Keep the rows of a put, all or none of them, like `Outbox.put`.

        Returns:
            None where puts are not spilled, and do not `begin` to be.
        """
        return self._wait(lambda: self._put(rows, begin=begin))

    def undisturbed(self, job: Callable[[], None]) -> None:
        """Run a job while nothing is put to the outbox: what is put meanwhile waits for it."""

        def run() -> None:
            self._connections.divert(_WAITING)
            try:
                job()
            finally:
                self._go_on()

        self._wait(run)

    def alone(self, job: Callable[[], T]) -> T:
        """Run a job while nobody else puts to the outbox, until it has put something itself."""
        return self._wait(lambda: self._connections.alone(job))

    def _wait(self, job: Callable[[], T]) -> T:
        """Run a job on the thread of all that is done here: `divert` knows who waits by this."""
        return self._worker.run(job)

    def adopt(self) -> None:
        """Take over the spill files of processes that have ended; `start` replays them."""
        if self._others():
            self._worker.run(self._adopt)

    def start(self) -> None:
        """Replay what is spilled, if anything is."""
        if self._files:
            self._thread.start()
            self._woken.call()

    def close(self) -> None:
        """Leave what is spilled to the next process."""
        self._closing = True
        self._woken.call()
        self._thread.join(_CLOSE_SECONDS)
        if self._files:
            number = sum(len(file.records) for file in self._files)
            _LOG.warning("%d puts wait in a spill file for the next process of %s", number, self)
        for file in self._files:
            file.leave()
        self._files, self._own = [], None
        self._connections.is_diverted = False
        self._worker.close(0.0)

    def __str__(self) -> str:
        """Return the outbox that it belongs to."""
        return f"the outbox {self._outbox}"

    def _put(self, rows: Sequence[Row], *, begin: bool) -> bool | None:
        if not self._connections.is_diverted:
            if not begin:
                return None
            self._connections.divert(_WAITING)
            _LOG.warning("%s is locked by another program: saves go to a file beside it", self)
        try:
            return self._added(rows)
        except OSError as error:
            message = f"{self} is locked by another program, and nothing can be kept beside it"
            raise OutboxError(f"{message}: {error}") from error
        finally:
            self._go_on()

    def _go_on(self) -> None:
        """Replay what is spilled; where nothing is, let puts go to the outbox again."""
        if self._files:
            self.start()
            return
        self._connections.is_diverted = False
        self._sessions, self.events, self.held_back = {}, {}, {}

    def _added(self, rows: Sequence[Row]) -> bool:
        """Write a put to the spill file, unless a state in it does not follow what is there."""
        added: list[Row] = []
        sessions: dict[str, _Session] = {}
        bases: dict[str, KeptState | None] = {}
        for row in rows:
            kind, document, epoch, revision, *_ = row
            if epoch is None or kind not in ("expected", "snapshot", "change"):
                added.append(row)
                continue
            there = sessions.get(document) or self._there(document)
            if there is None:
                there = _Session(0, 0, None)
            if kind == "expected":
                if there.order > (epoch, revision):
                    return False
                added.append(row)
                continue
            after = _after(there, row)
            if after is None:
                return False
            if document not in self._sessions and document not in bases:
                bases[document] = after.base
            if not after.changes and kind == "change":
                # Whole, so that a replay needs nothing else.
                added.append(("snapshot", *row[1:-1], after.message))
            else:
                added.append(row)
            sessions[document] = after
        self._write(added, bases)
        self._sessions |= sessions
        self._show(added)
        return True

    def _write(self, rows: list[Row], bases: dict[str, KeptState | None]) -> None:
        own = self._own
        if own is None:
            own = SpillFile.made(self._outbox)
            try:
                own.append(rows, bases)
            except BaseException:
                own.remove()
                raise
            self._own = own
            self._files.append(own)
        elif own.size > self._most_bytes:
            raise OutboxFullError(str(own.path))
        else:
            own.append(rows, bases)

    def _there(self, document: str) -> _Session | None:
        """Return the newest of a session, spilled or in the outbox."""
        spilled, kept = self._sessions.get(document), self._kept(document)
        if spilled is not None and (kept is None or spilled.order >= kept[:2]):
            return spilled
        self._sessions.pop(document, None)  # somebody else has saved since
        return kept and _Session(*kept, base=kept)

    def _show(self, rows: Sequence[Row]) -> None:
        for kind, document, *_, data in rows:
            if kind == "event":
                self.events[document] = data
            elif kind in ("held back", "let go"):
                self.held_back[document] = kind == "held back"

    def _others(self) -> list[Path]:
        pattern = f"{glob.escape(self._outbox.name)}.spill-*"
        own = {file.path for file in self._files}
        return [each for each in sorted(self._outbox.parent.glob(pattern)) if each not in own]

    def _adopt(self) -> None:
        for path in self._others():
            file = SpillFile.taken(path)
            if file is None:
                continue
            done = self._connections.rows(REPLAYED, (path.name,))
            upto = int(done[0][0]) if done else 0
            file.records = [each for each in file.records if each.number > upto]
            if not file.records:
                self._done(file)
                continue
            _LOG.warning("%s: %s was left by a process that has ended", self, path.name)
            self._connections.divert(_WAITING)
            self._files.insert(0, file)
            for record in file.records:
                self._show(record.rows)
                self._show_states(record)

    def _show_states(self, record: Record) -> None:
        for row in record.rows:
            kind, document, epoch, revision, *_, data = row
            there = self._sessions.get(document)
            if kind == "snapshot" and (there is None or there.order < (epoch, revision)):
                base = record.bases.get(document, there and there.base)
                self._sessions[document] = _Session(epoch, revision, data, base=base)
            elif kind == "change" and there is not None:
                self._sessions[document] = _after(there, row) or there

    def _run(self) -> None:
        while not self._closing:
            if not self._files:
                self._woken.wait()
                continue
            pause = _LOOK_SECONDS
            try:
                if self._is_free():
                    pause = 0.0
                    self._worker.run(self._replay)
            except Exception as error:  # noqa: BLE001 - nobody else would replay it
                if not isinstance(error, sqlite3.Error) or not is_locked(error):
                    _LOG.exception("%s cannot take what is spilled for now", self)
                    pause = _FAILED_SECONDS
            if pause and not self._closing:
                time.sleep(pause)

    def _is_free(self) -> bool:
        """Whether the outbox can be written now: asked here, where no put waits for it."""
        return self._connections.rows_if_free("DELETE FROM held_back WHERE 0") is not None

    def _replay(self) -> None:
        """Replay the next records: on the thread of the puts, which wait for no more than these."""
        if not self._files:
            return
        file = self._files[0]
        some = file.records[:_MOST_AT_ONCE]
        rows = [row for record in some for row in record.rows]
        if some and not self._taken([*rows, _progress(file, some[-1])]):
            some = some[:1]
            self._replay_one(file, some[0])
        del file.records[: len(some)]
        if not file.records:
            self._files.remove(file)
            if file is self._own:
                self._own = None
            self._done(file)
            if not self._files:
                _LOG.warning("%s has taken what was spilled", self)
            self._go_on()

    def _done(self, file: SpillFile) -> None:
        file.remove()
        with suppress(sqlite3.Error):  # it is a name that nobody else has
            self._connections.change(
                FORGET_REPLAYED,
                (file.path.name,),
                beyond_bound=True,
                patience_seconds=_PATIENCE_SECONDS,
            )

    def _replay_one(self, file: SpillFile, record: Record) -> None:
        """Replay a record; where it is not taken as a whole, what it holds of each document."""
        if self._taken([*record.rows, _progress(file, record)]):
            return
        documents = dict.fromkeys(row[1] for row in record.rows)
        for document in documents:
            if not self._taken([row for row in record.rows if row[1] == document]):
                self._merge(document)
        self._taken([_progress(file, record)])

    def _merge(self, document: str) -> None:
        """Have the newest of a session merged into what somebody else has saved of it."""
        spilled = self._sessions.pop(document, None)
        for file in self._files:
            file.drop(document)
        if spilled is None:
            return
        newest = spilled.kept()
        if self._kept(document) == newest:
            return  # a replay before this one, which was cut off, had put it
        try:
            # What is put by that goes to the outbox, not to a file of spills once more: beside
            # others who save all the time, it would be in conflict again as it is replayed.
            self._connections.alone(lambda: self.on_conflict(document, spilled.base, newest))
        except Exception:  # noqa: BLE001 - others wait; and what it is, is kept
            path = self._outbox.with_name(f"{self._outbox.name}.unmerged-{time.time_ns()}.json")
            path.write_bytes(newest.message or b"")
            _LOG.exception("what was spilled of %s cannot be merged: it lies in %s", document, path)

    def _taken(self, rows: Sequence[Row]) -> bool:
        """Put rows to the outbox, all or none of them; False where they do not follow."""
        statement = ", ".join([PUT, *[PUT_ONE] * (len(rows) - 1)])
        values = [value for row in rows for value in row]
        try:
            self._connections.change(
                statement, values, beyond_bound=True, patience_seconds=_PATIENCE_SECONDS
            )
        except sqlite3.IntegrityError:
            return False
        return True


_WAITING = Spill._wait.__code__  # noqa: SLF001 - of this module


def _after(there: _Session, row: Row) -> _Session | None:
    """Return a session with what is put of it; None where that does not follow."""
    kind, _, epoch, revision, *_, data = row
    if kind == "snapshot":
        if there.order >= (epoch, revision):
            return None
        return _Session(epoch, revision, data, base=there.base)
    if there.message is None or (epoch, revision - 1) != there.order:
        return None
    changes = (*there.changes, data)
    after = _Session(epoch, revision, there.message, changes, there.base)
    # One that lies in the outbox alone is spilled whole; so is one of many changes.
    is_first = there.base is not None and there.order == there.base[:2]
    if is_first or len(changes) > _MOST_CHANGES:
        return after._replace(message=after.kept().message, changes=())
    return after


def _progress(file: SpillFile, record: Record) -> tuple[Any, ...]:
    return ("replayed", file.path.name, None, None, record.number, "", "", b"")


def _set_aside(document: str, _: KeptState | None, newest: KeptState) -> None:
    """Refuse to merge: of an outbox that nobody but its sender uses."""
    message = f"{document} was saved by others as well, and is not {newest[:2]}"
    raise OutboxError(message)
