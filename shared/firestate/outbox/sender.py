"""Emptying the outbox in the background, whatever the network does."""

from __future__ import annotations

import contextlib
import logging
import random
import secrets
import time
from typing import TYPE_CHECKING, Any, Protocol

from pydantic_core import from_json, to_json

from firestate.errors import FirestateError, OutboxError
from firestate.forking import ForkSafe
from firestate.outbox.batching import batches, next_batch
from firestate.outbox.sender_lock import SenderLock
from firestate.worker import Thread, Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from firestate.outbox.connection import Link
    from firestate.outbox.entries import PendingEntry
    from firestate.outbox.file import Outbox

    PutRight = Callable[[dict[str, Any]], str | None]

_LOG = logging.getLogger("firestate.outbox")
_MOST_WAITING = 1_000
"""Pub/Sub: messages in one request (https://cloud.google.com/pubsub/quotas#resource_limits)."""
_FIRST_AGAIN = 10
"""After a failure: what it costs to make a whole request would be lost with each try."""
_MOST_BYTES = 8_000_000
"""Pub/Sub: 10 MB in one request; the rest is for what it adds."""
_CONFIRMED_AT_ONCE = 100  # an append waits for at most so many
_LOOK_SECONDS = 0.25  # other processes append to the same file: they cannot call
_GATHER_SECONDS = _FLUSH_LOOK_SECONDS = 0.01
_LEAST_PAUSE, _MOST_PAUSE = 0.1, 2.0
_TIDY_EVERY_SECONDS = 1.0
_FOLD_AFTER_SECONDS = 2.0
_QUIET_SECONDS = 3.0  # more than a change waits until it is folded, or a file system's clock ticks
_REST_SECONDS = 30.0
_CLOSE_SECONDS = 60.0
_MOST_SESSIONS = 10_000
_UNKNOWN = ""  # what an earlier sender, or that of another process, has noted


def nothing_wrong(_: dict[str, Any]) -> None:
    """Find nothing to put right."""


class Destination(Protocol):
    """Where messages go: Pub/Sub, or the local engine."""

    def send(self, topic: str, messages: Sequence[bytes], writer: str) -> None:
        """Send messages of one topic and writer, in this order; return when all are safe there.

        Raises a FirestateError where that is not known to be so: then all of them come again.
        """
        ...


class Sender(ForkSafe):
    """A thread that sends what waits in an outbox, as long as no other process does so."""

    def __init__(
        self,
        outbox: Outbox,
        destination: Destination,
        link: Link,
        *,
        interval_seconds: float,
        put_right: PutRight = nothing_wrong,
    ) -> None:
        """Take where from and where to; `link` is told how it goes.

        `put_right` changes a message that is not right to go out, and returns its document's path;
        None where nothing was wrong.
        """
        super().__init__()
        self._outbox = outbox
        self._destination = destination
        self._link = link
        self._interval_seconds = interval_seconds
        self._put_right = put_right
        self._lock = SenderLock(outbox.path)
        self._begin()

    def _begin(self) -> None:
        self._appended = Wakeup()
        self._ending = Wakeup()
        self._closing = False
        self._thread = Thread("firestate-sender", self._run)
        self._sent_at: dict[str, float] = {}
        self._pause = 0.0
        self._tidied_at = self._adopted_at = 0.0
        self._erased = self._is_untidy = False
        self._at_rest: object = None  # how the file was when nothing waited in it
        self._looked_at = 0.0
        self._noted: str | None = _UNKNOWN
        self._flushing: dict[str, set[str | int]] = {}  # what each of those who flush waits for
        self._known_in = self._outbox.place  # of which file this and the next are known
        # What was sent, and is not noted so yet; whether it deletes a session.
        self._unconfirmed: dict[tuple[str, int], tuple[PendingEntry, bool]] = {}
        # How often the destination has lost what was sent; up to which that is made good, and told.
        self._losses = self._made_good = self._told_losses = 0

    def after_fork(self) -> None:
        """Begin anew: the thread is the parent's. It starts with the child's first append."""
        self._begin()

    def wake(self) -> None:
        """Say that something was appended."""
        self.start()
        self._appended.call()

    def start(self) -> None:
        """Begin to send, until `close`."""
        if not self._closing:
            self._thread.start()

    def send_again(self) -> None:
        """Send once more all that was sent of late and is still kept: the destination has lost it.

        What is under way now may be lost as well, and is confirmed in a moment: hence the thread
        that confirms does this afterwards.
        """
        self._losses += 1
        self.wake()

    @property
    def _is_lost(self) -> bool:
        return self._made_good < self._losses

    def close(self) -> None:
        """End after what is under way."""
        self._closing = True
        self._appended.call()
        self._ending.call()
        if self._thread.join(_CLOSE_SECONDS):
            self._lock.release()

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until all that waits by now has gone out, whoever sends, or what has replaced it.

        Others of the folder may go on to save all the time. False if the time was up before, or it
        was closed.
        """
        deadline = time.monotonic() + timeout_seconds
        flush_id, losses, is_asked = "", -1, False
        try:
            # The sender of an earlier release answers nobody: then it takes until nothing waits.
            # In this order: what was spilled goes to the file.
            while self._is_left():
                if losses != self._losses:  # at first, and where an answer holds no longer
                    self._take_back(flush_id)
                    flush_id, losses, is_asked = secrets.token_hex(8), self._losses, False
                is_asked = is_asked or not (self._is_lost or self._outbox.has_spilled)
                if is_asked and self._is_flushed(flush_id) and losses == self._losses:
                    return True
                if self._closing or time.monotonic() >= deadline:
                    return False
                self.wake()
                time.sleep(_FLUSH_LOOK_SECONDS)
            return True
        finally:
            if is_asked:
                self._take_back(flush_id)

    def _is_left(self) -> bool:
        """Whether anything is left to go out.

        What is lost while that is looked up is: it may be noted as sent, and not yet as lost.
        """
        losses = self._losses
        left = self._is_lost or self._outbox.has_spilled or bool(self._outbox.waiting(1))
        return left or losses != self._losses

    def _take_back(self, flush_id: str) -> None:
        if flush_id:
            with contextlib.suppress(OutboxError):
                self._outbox.forget_flush(flush_id)

    def _is_flushed(self, flush_id: str) -> bool:
        """Ask whoever sends, unless that is done, and return whether it has answered."""
        try:
            is_done = self._outbox.is_flushed(flush_id)
            if is_done is None:
                self._outbox.ask_flush(flush_id)
        except OutboxError:
            return False  # locked, or full to the last byte: it is asked later
        return is_done is True

    def _run(self) -> None:
        while not self._closing:
            try:
                pause = self._turn()
            except FirestateError as error:
                self._ending.wait(self._failed(str(error)))
            except Exception as error:  # noqa: BLE001 - whatever it is: nothing else would send
                _LOG.exception("the outbox cannot be sent for now")
                self._ending.wait(self._failed(f"{type(error).__name__}: {error}"))
            else:
                # What comes within the next moment goes in one request, and in one turn of this
                # thread: the agents' own threads want the processor as well.
                self._appended.wait(pause)
                self._ending.wait(min(pause, _GATHER_SECONDS))
        self._make_good()  # the next process sends it
        self._erase()

    def _make_good(self) -> None:
        """Have what the destination has lost be sent again; where that cannot be noted, later.

        Nothing else waits for that: the outbox may be locked for long, or its disk full.
        """
        losses = self._losses
        if self._made_good == losses:
            return
        is_new = losses != self._told_losses
        if is_new:
            self._unconfirmed = {}
        try:
            self._outbox.send_again()
        except OutboxError as error:
            if is_new:
                _LOG.warning("what was lost on its way is not sent again yet: %s", error)
            self._told_losses = losses
            return
        self._made_good = losses
        self._flushing = {}  # what those who flush wait for is more again

    def _failed(self, reason: str) -> float:
        self._link.lost(reason)
        self._note(reason)
        # What is wrong may be the outbox itself: this thread goes on all the same.
        with contextlib.suppress(OSError):
            self._tidy()
        self._pause = min(max(2 * self._pause, _LEAST_PAUSE), _MOST_PAUSE)
        return self._pause * random.uniform(0.5, 1.0)  # noqa: S311 - a wait, no secret

    def _turn(self) -> float:
        """Send what is due; give the seconds after which to look again."""
        self._outbox.look()
        self._make_good()
        now = time.monotonic()
        if now - self._adopted_at > _TIDY_EVERY_SECONDS:
            self._outbox.adopt()
            self._adopted_at = now
        mark = self._outbox.change_mark(_QUIET_SECONDS)
        owns = self._lock.acquire()
        is_same = mark is not None and (owns, mark) == self._at_rest
        if is_same and now - self._looked_at < _REST_SECONDS:
            # To look through 5,000 sessions four times a second takes 5 percent of a core.
            return _LOOK_SECONDS
        self._at_rest, self._looked_at = None, now
        if not owns:
            self._link.unknown()
            self._noted = _UNKNOWN
            self._flushing, self._unconfirmed = {}, {}
            # An earlier release, which knows no changes, may be the one that sends.
            self._outbox.fold(older_than_seconds=_FOLD_AFTER_SECONDS)
            self._at_rest = (owns, mark)
            return _LOOK_SECONDS
        # What cannot go out yet is to stay small all the same.
        self._outbox.fold(older_than_seconds=_FOLD_AFTER_SECONDS)
        self._forget_former_file()
        if self._unconfirmed:
            with contextlib.suppress(OutboxError):  # what waits goes out all the same
                self._confirm()
                self._came_through()
        flushes = self._outbox.flushes()  # before it is read what waits: all of it was there then
        most = _FIRST_AGAIN if self._pause else _MOST_WAITING
        most += len(self._outbox.held_back(in_file=True)) + len(self._unconfirmed)
        waiting = self._outbox.waiting(most)
        is_all = len(waiting) < most
        waiting = [each for each in waiting if _message_key(each) not in self._unconfirmed]
        # Again: of all that waits, it is known only now.
        held_back = self._outbox.held_back(in_file=True)
        self._look_at_flushes(flushes, waiting, is_all=is_all)
        choice = next_batch(
            [each for each in waiting if each.document not in held_back],
            self._sent_at,
            time.monotonic(),
            interval_seconds=self._interval_seconds,
            most_bytes=_MOST_BYTES,
        )
        self._tidy()
        if choice.chosen:
            sent = self._send(choice.chosen)
            self._came_through()
            return 0.0 if sent else _GATHER_SECONDS
        if choice.again_in is not None:
            return min(choice.again_in, _LOOK_SECONDS)
        if self._erased and not self._unconfirmed:
            self._at_rest = (owns, mark)
        return _LOOK_SECONDS

    def _came_through(self) -> None:
        """Say that the way is open: what was to be sent is sent, and noted so."""
        self._pause = 0.0
        self._link.back()
        self._note(None)

    def _look_at_flushes(
        self, flushes: set[str], waiting: list[PendingEntry], *, is_all: bool
    ) -> None:
        """Say to those who flush that what waited as they asked has gone out, once it has.

        `waiting` is what waits now, read after `flushes`.
        """
        if not flushes:
            self._flushing = {}
            return
        new = flushes - self._flushing.keys()
        if new and not is_all:
            waiting, is_all = self._outbox.waiting(-1), True
            waiting = [each for each in waiting if _message_key(each) not in self._unconfirmed]
        keys = {_flush_key(each) for each in waiting}
        self._flushing = {
            each: keys.copy()
            if each in new
            else (self._flushing[each] & keys if is_all else self._flushing[each])
            for each in flushes
        }
        for each, left in self._flushing.items():
            if not left:
                with contextlib.suppress(OutboxError):  # what goes out does not wait for that
                    self._outbox.note_flushed(each)

    def _send(self, chosen: list[PendingEntry]) -> int:
        """Send what was chosen, as far as it is there still; return how many that were."""
        sent = 0
        data = self._outbox.data(chosen)
        for each_round in batches(chosen):
            for topic, listed in each_round.items():
                # One that was replaced since then goes as its successor, which waits its second.
                there = [each for each in listed if each in data]
                if not there:
                    continue
                messages = [self._ready(each, data[each]) for each in there]
                self._destination.send(topic, messages, self._outbox.writer)
                sent += len(there)
                for left in self._flushing.values():
                    left.difference_update(map(_flush_key, there))
                self._unconfirmed |= {
                    _message_key(each): (each, each.is_snapshot and _is_deletion(data[each]))
                    for each in there
                }
                now = time.monotonic()
                self._sent_at |= {each.document: now for each in there if each.is_snapshot}
                self._confirm()
        if len(self._sent_at) > _MOST_SESSIONS:
            limit = time.monotonic() - self._interval_seconds
            self._sent_at = {name: at for name, at in self._sent_at.items() if at > limit}
        return sent

    def _confirm(self) -> None:
        """Note what was sent as sent; raise OutboxError where the file is locked, or its disk full.

        It is known here then, and goes out no second time: else it would come again and again, and
        keep from going out what comes next.
        """
        left = list(self._unconfirmed.values())
        for first in range(0, len(left), _CONFIRMED_AT_ONCE):
            some = left[first : first + _CONFIRMED_AT_ONCE]
            # Before it is confirmed: a crash in between brings it again.
            if any(is_deletion for _, is_deletion in some):
                self._outbox.note_deletion()
            self._outbox.confirm([each for each, _ in some])
            for each, _ in some:
                self._unconfirmed.pop(_message_key(each), None)

    def _forget_former_file(self) -> None:
        """Forget what is known of messages by their places, which are others in another file."""
        if self._outbox.place != self._known_in:
            self._known_in = self._outbox.place
            self._flushing, self._unconfirmed = {}, {}

    def _ready(self, entry: PendingEntry, data: bytes) -> bytes:
        """Return a message as it goes out, and keep it so where that is not as it was."""
        ready, document = as_it_goes(data, self._put_right)
        if document is not None:
            self._outbox.correct(entry, document, ready)
        return ready

    def _note(self, reason: str | None) -> None:
        """Note it beside the messages where it is another than before; else it costs nothing."""
        if reason != self._noted:
            with contextlib.suppress(FirestateError):
                self._outbox.note(reason)
                self._noted = reason

    def _tidy(self) -> None:
        now = time.monotonic()
        since = now - self._tidied_at
        # Not at each turn: where others read all the time, a large journal stays as it is.
        if since > _TIDY_EVERY_SECONDS or (
            since > _LOOK_SECONDS and self._outbox.has_large_journal()
        ):
            self._tidied_at = now
            # On a full disk what waits goes out all the same.
            try:
                self._outbox.tidy()
            except FirestateError as error:
                if not self._is_untidy:
                    _LOG.warning("what was sent long ago is not forgotten yet: %s", error)
                self._is_untidy = True
            else:
                self._is_untidy = False
            self._erase()

    def _erase(self) -> None:
        # What cannot be erased now, such as on a full disk, must not keep messages from going out.
        self._erased = False
        try:
            self._erased = self._outbox.erase()
        except FirestateError as error:
            _LOG.warning("what was deleted is not erased yet: %s", error)


def _message_key(entry: PendingEntry) -> tuple[str, int]:
    """Return what a message alone has: what takes its place has another one."""
    return entry.document, entry.seq


def _flush_key(entry: PendingEntry) -> str | int:
    """Return what a message and all that replace it have in common."""
    return entry.document if entry.is_snapshot else entry.seq


def _is_deletion(data: bytes) -> bool:
    return b'"deleted"' in data and "deleted" in from_json(data)


def as_it_goes(data: bytes, put_right: PutRight) -> tuple[bytes, str | None]:
    """Return a message that is put right, and the path of its document if that changed anything.

    No map of it holds a key twice: Python's may hold keys that are one in JSON (1 and "1"), which
    ingest refuses; the later one stays. To look for them costs as much as to save, and saves are
    many where messages are few: hence here.
    """
    try:
        message = from_json(data)
    except ValueError:
        return data, None  # no JSON of ours: whoever ingests it says so, and others go on
    document = put_right(message) if isinstance(message, dict) else None
    return to_json(message), document
