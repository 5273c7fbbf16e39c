"""What is put while another program locks the outbox: it waits in a file of this process.

A put that finds the outbox locked for long, by somebody who commits nothing meanwhile, is written
to a spill file in the same folder, and so are all that follow it, until the lock is gone and all is
replayed in order. What is spilled lies over the outbox for those who read, and decides whether a
state follows what is there.

All of this is done on one thread of ours, one after the other: a caller waits for its answer, and
may be interrupted while it does.

What is spilled of a session is a branch of it: puts that begin from what the outbox held, their
base. Where somebody else saves the session meanwhile, in the outbox itself, that is not replaced,
nor is the branch: `on_conflict` merges the two, by the difference to the base, as it is replayed,
or as more is put to it.

A spill file of a process that was killed is replayed by the next process.
"""

from __future__ import annotations

import glob
import logging
import sqlite3
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from firestate.errors import ConflictError, OutboxError, OutboxFullError, UnavailableError
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

    OnConflict = Callable[[str, KeptState | None, KeptState, str], None]

T = TypeVar("T")

_LOG = logging.getLogger("firestate.outbox")
_LOOK_SECONDS, _FAILED_SECONDS = 0.05, 1.0
_MOST_AT_ONCE = 50  # puts of this and other processes wait for so many
_MOST_CHANGES = 100
_PATIENCE_SECONDS = 0.05
_CLOSE_SECONDS = 5.0
_GIVE_UP_SECONDS, _SHORT_LOOK_SECONDS = 5.0, 0.001
_OF_STATES = ("expected", "snapshot", "change")


class _Session(NamedTuple):
    """A session at some order: a whole message, and the changes that follow it."""

    epoch: int
    revision: int
    message: bytes | None
    changes: tuple[bytes, ...] = ()

    @property
    def order(self) -> tuple[int, int]:
        return self.epoch, self.revision

    def kept(self) -> KeptState:
        message = self.message
        if message is not None and self.changes:
            message = apply_changes(message, self.changes, self.revision)
        return KeptState(self.epoch, self.revision, message)

    def after(self, row: Row) -> _Session | None:
        """Return the session with what is put of it; None where that does not follow."""
        kind, _, epoch, revision, *_, data = row
        if kind == "snapshot":
            return None if self.order >= (epoch, revision) else _Session(epoch, revision, data)
        if self.message is None or (epoch, revision - 1) != self.order:
            return None
        if len(self.changes) == _MOST_CHANGES:
            return _Session(epoch, revision, self.kept().message, (data,))
        return _Session(epoch, revision, self.message, (*self.changes, data))


_NOTHING = _Session(0, 0, None)


class _Caller:
    """Who waits for a job."""

    def __init__(self) -> None:
        self.is_done = False
        self.has_given_up = False

    def give_up(self) -> None:
        """Have the job not begin any more; where it has, return once it has ended.

        It has soon: it waits for nobody. So whoever is broken off finds it done, or not done.
        """
        self.has_given_up = True
        deadline = time.monotonic() + _GIVE_UP_SECONDS
        while not self.is_done and time.monotonic() < deadline:
            time.sleep(_SHORT_LOOK_SECONDS)


class _Branch:
    """What is spilled of a session, put by put, in one file."""

    def __init__(self, file: SpillFile, begun: int, base: KeptState | None) -> None:
        self.file = file
        self.name = f"{file.path.name.rpartition('.')[2]}-{begun}"
        """What tells it from all others."""
        self.base = base
        """What the outbox held of the session as it began, and with what was replayed since."""
        self.newest = _NOTHING if base is None else _Session(*base)
        self._replayed = self.newest

    @property
    def is_done(self) -> bool:
        """Whether the outbox has had all of it."""
        return self._replayed.order == self.newest.order

    def add(self, row: Row) -> None:
        """Take what was put to follow its newest."""
        self.newest = self.newest.after(row) or self.newest

    def replayed(self, row: Row) -> None:
        """Take it that the outbox has a put of it."""
        self._replayed = self._replayed.after(row) or self._replayed
        self.base = self._replayed.kept()


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
        """Merges a branch (its base, its newest, its name) into what there is by now."""
        self._worker = Worker("firestate-spill")
        self._files: list[SpillFile] = []
        self.after_fork()

    def after_fork(self) -> None:
        """Have nothing: what is spilled is the parent's, which replays it."""
        for file in self._files:
            file.leave()
        self._files = []
        self._own: SpillFile | None = None
        self._branches: dict[str, list[_Branch]] = {}
        """What is spilled of each session, as it came."""
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
        return list(self._branches)

    def order(self, document: str) -> tuple[int, int] | None:
        """Return the order of the newest of a session that is spilled."""
        branch = self._newest(document)
        return None if branch is None else branch.newest.order

    def state(self, document: str) -> KeptState | None:
        """Return the newest of a session that is spilled."""
        branch = self._newest(document)
        return None if branch is None else branch.newest.kept()

    def _newest(self, document: str) -> _Branch | None:
        branches = self._branches.get(document, [])
        return max(branches, key=lambda each: each.newest.order, default=None)

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

    def exclusively(self, job: Callable[[], T]) -> T:
        """Run a job while nobody else puts to the outbox, until it has put something itself.

        A call that is broken off raises once the job has ended, or is sure not to begin.
        """
        if self.is_current:
            return self._connections.exclusively(job)
        caller = _Caller()

        def run() -> T | None:
            try:
                if caller.has_given_up:
                    return None
                # Where there can be no thread, it runs on that of the caller, which locks nothing.
                return self._connections.exclusively(job) if self.is_current else job()
            finally:
                caller.is_done = True

        try:
            return cast("T", self._wait(run))
        except BaseException:
            caller.give_up()
            raise

    @property
    def is_current(self) -> bool:
        """Whether the thread that asks is the one of all that is done here."""
        return self._worker.is_current

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
        self._branches, self.events, self.held_back = {}, {}, {}

    def _added(self, rows: Sequence[Row]) -> bool:
        """Write a put to the spill file, unless a state in it does not follow what is there."""
        states = [row for row in rows if row[0] in _OF_STATES]
        apart = {row[1] for row in states if self._is_apart(row[1])}
        for document in apart:
            self._merge(document)
        if apart:
            return False
        added: list[Row] = []
        sessions: dict[str, _Session] = {}
        bases: dict[str, KeptState | None] = {}
        for row in rows:
            kind, document, epoch, revision, *_ = row
            if kind not in _OF_STATES:
                added.append(row)
                continue
            branch = self._newest(document)
            there = sessions.get(document) or self._there(document)
            if kind == "expected":
                if there.order > (epoch, revision):
                    return False
                added.append(row)
                continue
            after = there.after(row)
            if after is None:
                return False
            whole = kind == "change" and branch is None and document not in bases
            if whole:  # so that a replay needs nothing else
                after = _Session(*after.kept())
            if branch is None and document not in bases:
                bases[document] = None if there is _NOTHING else there.kept()
            added.append(("snapshot", *row[1:-1], after.message) if whole else row)
            sessions[document] = after
        file = self._write(added, bases)
        self._show_states(file, added, bases)
        self._show(added)
        return True

    def _is_apart(self, document: str) -> bool:
        """Whether what is spilled of a session is not what a put can go on with.

        Somebody else has saved it in the outbox since, or it was left by a process that has ended:
        then another process may replay what goes on with it before that itself.
        """
        if (branch := self._newest(document)) is None:
            return False
        kept = self._kept(document)
        is_overtaken = kept is not None and kept[:2] > branch.newest.order
        return is_overtaken or branch.file is not self._own

    def _write(self, rows: list[Row], bases: dict[str, KeptState | None]) -> SpillFile:
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
        return own

    def _there(self, document: str) -> _Session:
        """Return the newest of a session, spilled or in the outbox."""
        if (branch := self._newest(document)) is not None:
            return branch.newest
        kept = self._kept(document)
        return _NOTHING if kept is None else _Session(*kept)

    def _show_states(
        self, file: SpillFile, rows: Sequence[Row], bases: dict[str, KeptState | None]
    ) -> None:
        begun: set[str] = set()
        for row in rows:
            kind, document, _, _, seq, *_ = row
            if kind not in ("snapshot", "change"):
                continue
            branches = self._branches.setdefault(document, [])
            own = [each for each in branches if each.file is file]
            if not own or (document in bases and document not in begun):
                own = [_Branch(file, seq, bases.get(document))]
                branches += own
            begun.add(document)
            own[-1].add(row)

    def _note_replayed(self, file: SpillFile, rows: Sequence[Row]) -> None:
        """Take it that the outbox has rows of a file."""
        for row in rows:
            if row[0] not in ("snapshot", "change"):
                continue
            for branch in self._branches.get(row[1], []):
                if branch.file is file and not branch.is_done:
                    branch.replayed(row)
                    break

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
            if all(each.number <= upto for each in file.records):
                self._done(file)
                continue
            _LOG.warning("%s: %s was left by a process that has ended", self, path.name)
            self._connections.divert(_WAITING)
            self._files.insert(0, file)
            for record in file.records:
                self._show_states(file, record.rows, record.bases)
                if record.number <= upto:
                    self._note_replayed(file, record.rows)
                else:
                    self._show(record.rows)
            file.records = [each for each in file.records if each.number > upto]

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
        if some and self._taken([*rows, _progress(file, some[-1])]):
            self._note_replayed(file, rows)
        elif some:
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
            self._note_replayed(file, record.rows)
            return
        documents = dict.fromkeys(row[1] for row in record.rows)
        for document in documents:
            rows = [row for row in record.rows if row[1] == document]
            if self._taken(rows):
                self._note_replayed(file, rows)
                # Where the next one fails, this is not to be done once more.
                record.rows[:] = [row for row in record.rows if row[1] != document]
            else:
                self._merge(document)
        self._taken([_progress(file, record)])

    def _merge(self, document: str) -> None:
        """Have what is spilled of a session merged into what somebody else has saved of it.

        Raises OSError, OutboxError or UnavailableError where that cannot be done now: then it is
        still spilled.
        """
        branches = self._branches.pop(document, [])
        upto = [(file, file.last) for file in {each.file for each in branches}]
        try:
            while branches:
                first, *others = branches
                newest = first.newest.kept()
                if not (first.is_done or _holds(others, first) or self._kept(document) == newest):
                    self._merge_branch(document, first, newest)
                branches = others
        finally:
            if branches:
                self._branches[document] = [*branches, *self._branches.get(document, [])]
        for file, last in upto:
            file.drop(document, last)
            with suppress(OSError):  # then the next process finds that it was merged
                file.note_dropped(document, last)

    def _merge_branch(self, document: str, branch: _Branch, newest: KeptState) -> None:
        try:
            # What is put by that goes to the outbox, not to a spill file once more: beside others
            # who save all the time, it would be in conflict again as it is replayed.
            # And beyond the bound, as what is replayed: it was acknowledged.
            merge = partial(self.on_conflict, document, branch.base, newest, branch.name)
            self._connections.exclusively(merge, beyond_bound=True)
        except (OSError, OutboxError, UnavailableError):
            raise  # such as a full disk
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


def _holds(branches: Sequence[_Branch], other: _Branch) -> bool:
    """Whether another branch was merged into one of some, which was spilled in its turn."""
    name = other.name.encode()
    return any(name in (each.newest.kept().message or b"") for each in branches)


def _progress(file: SpillFile, record: Record) -> tuple[Any, ...]:
    return ("replayed", file.path.name, None, None, record.number, "", "", b"")


def _set_aside(document: str, _: KeptState | None, newest: KeptState, __: str) -> None:
    """Refuse to merge: of an outbox that nobody but its sender uses."""
    message = f"{document} was saved by others as well, and is not {newest[:2]}"
    raise ConflictError(message)
