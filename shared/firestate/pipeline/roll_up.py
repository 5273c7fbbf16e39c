"""Folding the shards and the controls into `system_state/global_config`, once a second at most.

Many wakes make few folds. A wake that finds another one waiting, which has not read yet, ends at
once: that one will read what this one came for.

    wakes      a         b  c   d        e
    a          [fold 1]
    b                    waits ─────[fold 2]        a second after fold 1, sees b, c and d
    c, d                    ends ends
    e                                    waits ───  d's second has begun anew

If the waiting one fails or is killed, its own event is delivered again, and it folds then, for
those that ended. Only where another process has read what it came for, the sweep does that.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from firestate.counters.totals import global_document
from firestate.errors import ConflictError
from firestate.ingest.outcomes import Outcome
from firestate.limits import FOLD_INTERVAL_SECONDS
from firestate.pipeline.contention import until_settled
from firestate.pipeline.deliveries import Report
from firestate.schema.ids import CONTROLS, GLOBAL_CONFIG, SHARDS
from firestate.stores.protocol import Query, Stored, changed_fields, replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from firestate.stores.protocol import Store


_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class RollUp:
    """The roll-up of one process. It remembers what it wrote last, which saves reading it."""

    def __init__(
        self,
        store: Store,
        *,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take a store; `sleep` and `now` are to be replaced by tests alone."""
        self._store = store
        self._sleep = sleep
        self._now = now
        self._state = threading.Lock()  # guards what follows
        self._waiting = False
        self._latest = _LONG_AGO
        self._folding = threading.Lock()  # one fold at a time, and what it knows
        self._recalled = False
        self._written: Stored | None = None
        self._folded_at = _LONG_AGO
        self._read_at: datetime | None = None

    def wake(self, changed_at: datetime | None = None) -> Report:
        """Fold, unless somebody is about to, or has read the change of `changed_at` already.

        The second is for runtimes that call with one change after the other: each would wait.
        """
        with self._state:
            # The latest that has come, not its own: others may have been left to it.
            self._latest = max(self._latest, changed_at or self._latest)
            if self._waiting or (changed_at and self._read_at and self._latest <= self._read_at):
                return Report(Outcome.MERGED, GLOBAL_CONFIG)
            self._waiting = True
        with self._folding:
            try:
                self._recall()
                self._wait_for_turn()
            finally:
                # Before the shards are read: who comes from here on must fold for himself.
                with self._state:
                    self._waiting = False
            return self._fold({})

    def fold(self, metrics: Mapping[str, Any] | None = None) -> Report:
        """Fold now, with `metrics` set in `system_metrics` beside: what the sweep has counted."""
        with self._folding:
            self._recall()
            self._wait_for_turn()
            return self._fold(metrics or {})

    def _recall(self) -> None:
        if not self._recalled:
            self._written = self._store.read(GLOBAL_CONFIG)
            self._recalled = True

    def _wait_for_turn(self) -> None:
        # Since the last fold of this process, or the last write of any: also a fold that finds
        # nothing to write reads all shards.
        last = self._folded_at
        if self._written is not None:
            last = max(last, self._written.updated_at)
        since = (self._now() - last).total_seconds()
        self._sleep(min(max(FOLD_INTERVAL_SECONDS - since, 0), FOLD_INTERVAL_SECONDS))

    def _fold(self, metrics: Mapping[str, Any]) -> Report:
        def attempt() -> Report:
            if not self._recalled:
                self._recall()
                self._wait_for_turn()
            self._folded_at = self._now()
            # The shards are read after the token of what they will replace is known, and the
            # write is refused if that is no longer there: so a fold never replaces one that
            # has read later. `global_config` cannot move back.
            snapshot = self._store.snapshot(Query(SHARDS))
            self._read_at = None  # until it is written, or needs not be
            controls = self._store.read(CONTROLS)
            stored = self._written.data if self._written else {}
            document = global_document(
                [shard.data for shard in snapshot.documents],
                controls.data if controls else None,
                stored.get("system_metrics", {}) | dict(metrics),
            )
            try:
                return self._write(stored, document, snapshot.read_at)
            except ConflictError:
                self._recalled = False
                raise

        return until_settled(GLOBAL_CONFIG, attempt, sleep=self._sleep)

    def _write(
        self, stored: Mapping[str, Any], document: dict[str, Any], read_at: datetime
    ) -> Report:
        if not changed_fields(stored, document):
            # As it was when this process wrote it. Another one may have written since, and what
            # that had counted may be taken back by now: only the token tells.
            latest = self._store.read(GLOBAL_CONFIG, ["system_version"])
            if latest is None or latest.token != (self._written and self._written.token):
                raise ConflictError(f"{GLOBAL_CONFIG}: was folded by another process")
            self._read_at = read_at
            return Report(Outcome.UNCHANGED, GLOBAL_CONFIG)
        document["last_updated"] = self._now()
        document["system_metrics"]["folded_at"] = read_at
        written_at = self._store.commit(replacing(self._written, GLOBAL_CONFIG, document))
        self._written = Stored(GLOBAL_CONFIG, document, written_at, written_at)
        self._read_at = read_at
        return Report(Outcome.FOLDED, GLOBAL_CONFIG)
