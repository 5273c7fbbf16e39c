"""Folding the shards and the controls into `system_state/global_config`, once a second at most.

Many wakes make few folds. Of the wakes that wait in a process, only the one for the latest change
stays; the others end. When its turn comes it folds for all of them.

    wakes      a         b  c   d        e
    a          [fold 1]
    b                    waits; ends as c comes
    c                       waits; ends as d comes
    d                           waits ── [fold 2]     a second after fold 1, sees b, c and d
    e                                    waits ──     until a second after fold 2

A wake whose change has been read and folded, by this process or, as `folded_at` tells, by another,
ends at once.

To end is to be confirmed, and not to come again. That is safe, also where processes are killed and
wakes come twice: either a fold that has read the change is written, or a wake for a strictly later
change is not confirmed yet. That one comes again, and is not confirmed before all earlier changes
have been read. (Strictly later: the second delivery of a wake that waits must wait as well.) It
rests on the store's word that a read as of some time sees every commit up to that time.
"""

from __future__ import annotations

import random
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from firestate.counters.shard_totals import global_document
from firestate.errors import ConflictError
from firestate.ingest.outcomes import Outcome
from firestate.limits import FOLD_INTERVAL_SECONDS
from firestate.pipeline.deliveries import StepReport
from firestate.pipeline.retry import retry_on_conflict
from firestate.queries import SHARDS
from firestate.schema.ids import CONTROLS, GLOBAL_CONFIG
from firestate.stores.protocol import Stored, changed_fields, replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from firestate.stores.protocol import Store


_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_MOST_JITTER = 1.25  # intervals


class RollUp:
    """The roll-up of one process. It remembers what it wrote last, which saves reading it."""

    def __init__(
        self,
        store: Store,
        *,
        interval_seconds: float = FOLD_INTERVAL_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take a store; the other two are to be replaced by tests alone."""
        self._store = store
        self._interval_seconds = interval_seconds
        self._now = now
        self._turn = threading.Condition()  # guards who waits and who folds
        self._latest_waiting = _LONG_AGO
        self._folding = False
        self._folded_until = _LONG_AGO
        self._next_at = 0.0  # not by a clock that can be set back
        self._recalled = False  # this and the next belong to whoever folds
        self._written: Stored | None = None
        self.shards: list[Stored] = []
        """The shards as the last fold has read them."""

    def wake(self, changed_at: datetime | None = None) -> StepReport:
        """Fold, unless a wake for a later change is about to, or this change has been folded.

        `changed_at` is when the change was committed, by the store's clock; a change without one
        (a removed document) is never taken for folded, and nothing is left to its wake.
        """
        if changed_at is None:
            return self.fold()
        with self._turn:
            try:
                self._latest_waiting = max(changed_at, self._latest_waiting)
                self._turn.notify_all()
                if not self._take_turn(
                    lambda: self._folded_until < changed_at >= self._latest_waiting
                ):
                    return StepReport(Outcome.MERGED, GLOBAL_CONFIG)
            finally:
                # Before the shards are read: who comes from here on must fold for himself.
                if self._latest_waiting == changed_at:
                    self._latest_waiting = _LONG_AGO
        return self._fold({}, changed_at)

    def fold(self, metrics: Mapping[str, Any] | None = None) -> StepReport:
        """Fold now, with `metrics` set in `system_metrics` beside: what the sweep has counted."""
        with self._turn:
            self._take_turn(lambda: True)
        return self._fold(metrics or {}, None)

    def _take_turn(self, wanted: Callable[[], bool]) -> bool:
        """Wait until nobody folds and a second has passed, and begin to fold.

        Gives up, and returns False, as soon as that is not `wanted` any more.
        """
        while wanted():
            if self._folding:
                self._turn.wait()
            elif (seconds := self._next_at - time.monotonic()) > 0:
                self._turn.wait(seconds)
            else:
                self._folding = True
                return True
        return False

    def _fold(self, metrics: Mapping[str, Any], until: datetime | None) -> StepReport:
        try:
            return retry_on_conflict(GLOBAL_CONFIG, lambda: self._attempt(metrics, until))
        finally:
            with self._turn:
                self._folding = False
                self._turn.notify_all()

    def _attempt(self, metrics: Mapping[str, Any], until: datetime | None) -> StepReport:
        if not self._recalled:
            self._recall()
            if until is not None and until <= self._folded_until:
                return StepReport(Outcome.MERGED, GLOBAL_CONFIG)
            time.sleep(max(self._next_at - time.monotonic(), 0))
        # Also a fold that finds nothing to write reads all shards: a second from here on.
        self._next_at = time.monotonic() + self._interval_seconds
        # The shards are read after the token of what they will replace is known, and the write is
        # refused if that is no longer there: so a fold never replaces one that has read later.
        # `global_config` cannot move back.
        snapshot = self._store.snapshot(SHARDS.query())
        self.shards = snapshot.documents
        controls = self._store.read(CONTROLS)
        stored = self._written.data if self._written else {}
        document = global_document(
            [shard.data for shard in snapshot.documents],
            controls.data if controls else None,
            stored.get("system_metrics", {}) | dict(metrics),
        )
        try:
            report = self._write(stored, document, snapshot.read_at)
        except ConflictError:
            self._recalled = False
            raise
        self._folded_until = snapshot.read_at
        return report

    def _recall(self) -> None:
        """Read what is stored: the process is new, or another one has written."""
        self._written = self._store.read(GLOBAL_CONFIG)
        self._recalled = True
        if self._written is None:
            return
        read_at = self._written.data.get("system_metrics", {}).get("folded_at")
        if isinstance(read_at, datetime):
            # It was written after it was read; what says otherwise was changed by hand.
            self._folded_until = max(self._folded_until, min(read_at, self._written.updated_at))
        since = (self._now() - self._written.updated_at).total_seconds()
        # Its second counts too, and is no longer than that by a clock that was set back.
        left = min(self._interval_seconds - since, self._interval_seconds)
        self._next_at = time.monotonic() + left

    def _write(
        self, stored: Mapping[str, Any], document: dict[str, Any], read_at: datetime
    ) -> StepReport:
        if not changed_fields(stored, document):
            # As it was when this process wrote it. Another one may have written since, and what
            # that had counted may be taken back by now: only the token tells.
            latest = self._store.read(GLOBAL_CONFIG, ["system_version"])
            if latest is None or latest.token != (self._written and self._written.token):
                raise ConflictError(f"{GLOBAL_CONFIG}: was folded by another process")
            return StepReport(Outcome.UNCHANGED, GLOBAL_CONFIG)
        document["last_updated"] = self._now()
        document["system_metrics"]["folded_at"] = read_at
        written_at = self._store.commit(replacing(self._written, GLOBAL_CONFIG, document))
        self._written = Stored(GLOBAL_CONFIG, document, written_at, written_at)
        # With some jitter for who has written: else another process whose clock is a little behind
        # would lose each race against one that is woken all the time.
        jitter = random.uniform(1, _MOST_JITTER)  # noqa: S311 - a wait, no secret
        self._next_at = time.monotonic() + self._interval_seconds * jitter
        return StepReport(Outcome.FOLDED, GLOBAL_CONFIG)
