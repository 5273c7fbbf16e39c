"""The local engine under a bad network: whatever can happen to a delivery is drawn.

Messages and triggers are delivered twice, late, in any order, or (triggers of states) never; a
process dies before or after any call of the store, or is frozen there while others go on; time
passes and takes expired documents away; releases that count differently come and go.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from firestate.audit.full import FullAudit
from firestate.audit.repair import audit_and_repair
from firestate.counters.contribution import CODE
from firestate.errors import ConflictError
from firestate.ingest.outcomes import Outcome
from firestate.limits import SHARDS
from firestate.local.engine import LocalEngine
from firestate.local.triggers import DERIVE_STATE
from firestate.pipeline.sweep import sweep
from firestate.schema.ids import EVENTS, GLOBAL_CONFIG, STATES, shard_path
from firestate.stores.protocol import Add, Query, Remove
from tests.chaos import repair
from tests.chaos.code_versions import other_release, this_release
from tests.chaos.concurrent_writer import ConcurrentWriterStore, new_roll_up, process
from tests.chaos.fleet import Fleet
from tests.chaos.history_monitor import HistoryMonitor
from tests.harness import Crash, CrashingStore

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    import pytest

    from firestate.client.outgoing import Outgoing
    from firestate.pipeline.roll_up import RollUp
    from firestate.stores.protocol import Stored
    from firestate.stores.sqlite_triggers import Trigger

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
_ACCEPTED = {Outcome.STORED, Outcome.SUPERSEDED, Outcome.DUPLICATE}
_MOST_CALLS = 6
_DAMAGE = ({"spawned": 5}, {"tasks": {"completed": -3}}, {"coordination": {"total": 2}})
_STEPS = {
    "act": 12,
    "deliver": 14,
    "derive": 12,
    "lose": 2,
    "fold": 2,
    "sweep": 1,
    "audit": 1,
    "wait": 2,
    "release": 1,
    "damage": 1,
}


class SimulatedNetwork:
    """One history. `messages` are all that were sent, `accepted` those that are not refused."""

    def __init__(
        self,
        draw: random.Random,
        patch: pytest.MonkeyPatch,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._note = note
        self._draw = draw
        self.patch = patch
        # Conflicts are drawn here, one after the other: nobody has to be waited for.
        patch.setattr("firestate.pipeline.retry._STEP_SECONDS", 0)
        self.fleet = Fleet(draw, "h", draw.randrange(1, 4), START)
        self.engine = LocalEngine(clock=lambda: self.fleet.now, fold_interval_seconds=0)
        self.pending: list[Outgoing] = []
        self.accepted: dict[tuple[str, bytes], Outgoing] = {}
        self.refused: dict[tuple[str, bytes], Outgoing] = {}
        self.lost: set[str] = set()
        self.removed: set[str] = set()
        self.counted_differently = False
        self.damaged = False
        self._tried: set[tuple[str, bytes]] = set()
        self.watch = HistoryMonitor()
        if draw.random() < 0.3:
            self._other_release()
        self.send(self.fleet.begin())

    def step(self) -> None:
        """Let one thing happen, and look whether anything has gone back."""
        (chosen,) = self._draw.choices(list(_STEPS), weights=list(_STEPS.values()))
        self._note(f"{self.fleet.now:%m-%d %H:%M:%S.%f} {chosen}")
        getattr(self, f"_{chosen}")()
        self.watch.look(self.engine.store)

    def settle(self) -> None:
        """Deliver all that is on its way, and call all triggers, in any order."""
        while self.pending:
            self._deliver()
        while self._derive():
            pass
        self.watch.look(self.engine.store)

    def totals(self) -> Mapping[str, Any]:
        """Fold, and give what `global_config` says."""
        self.roll_up().fold()
        stored = self.engine.store.read(GLOBAL_CONFIG)
        assert stored is not None
        return stored.data

    def close(self) -> None:
        self.engine.close()

    def send(self, messages: list[Outgoing]) -> None:
        self.pending += messages

    def _act(self) -> None:
        self.send(self.fleet.step())

    def _deliver(self) -> None:
        if not self.pending:
            return
        message = self._draw.choice(self.pending)
        if self._done(lambda: self._ingest(message)) and self._draw.random() < 0.85:
            self.pending.remove(message)

    def _ingest(self, message: Outgoing) -> None:
        self._tried.add((message.topic, message.data))
        outcome = self.engine.publish(message).outcome
        known = self.accepted if outcome in _ACCEPTED else self.refused
        known[message.topic, message.data] = message
        self._note(f"  {outcome} {message.data[:200]!r}")

    def _derive(self) -> bool:
        due = self._due()
        if due:
            trigger = self._draw.choice(due)
            self._note(f"  {trigger.function} {trigger.document.path} {trigger.document.data}")
            if self._done(lambda: self.engine.run(trigger)) and self._draw.random() < 0.85:
                self.engine.store.triggers.done([trigger])
        return bool(due)

    def _lose(self) -> None:
        """Lose a state's trigger for good, as after 24 hours of failures."""
        states = [trigger for trigger in self._due() if trigger.function == DERIVE_STATE]
        if states:
            trigger = self._draw.choice(states)
            self.engine.store.triggers.done([trigger])
            self.lost.add(trigger.document.path)

    def _fold(self) -> None:
        self._done(lambda: self.roll_up().fold())

    def _sweep(self) -> None:
        self._done(lambda: sweep(self.engine.store, self.roll_up(), self.fleet.now))

    def _audit(self) -> None:
        """Audit with repair under traffic: what is on its way is none of its business."""
        try:
            report = audit_and_repair(self.engine.store, self.roll_up(), timedelta(days=400))
        except ConflictError:
            return  # another repair came between: the next audit sees what is left
        if not self.counted_differently and not self.damaged:
            assert report.findings == []

    def _wait(self) -> None:
        """Let days pass. By then all has been delivered but a straggler, and all is recounted.

        What has expired is counted for good, by whatever release counted it last.
        """
        # One that was delivered in vain is delivered again within a day.
        untried = [m for m in self.pending if (m.topic, m.data) not in self._tried]
        straggler = untried[-1] if untried else None
        self.pending = [m for m in self.pending if m is not straggler]
        self.settle()
        repair.to_this_release(self)
        if self.lost or self.damaged:
            repair.by_repair(self)
        if straggler is not None:
            self.pending.append(straggler)
        self.fleet.now += timedelta(days=self._draw.choice((1, 20, 32, 50, 95)))
        for collection in (STATES, EVENTS):
            for each in list(self.engine.store.query(Query(collection))):
                expire_at = each.data.get("expire_at")
                if expire_at is not None and expire_at < self.fleet.now:
                    self._expire(each)
        if self._draw.random() < 0.5:
            self.send(self.fleet.awakened())

    def _expire(self, document: Stored) -> None:
        self._note(f"  {document.path} has expired")
        self.engine.store.commit([Remove(document.path, document.token)])
        self.removed.add(document.path)

    def _release(self) -> None:
        if self._draw.random() < 0.5:
            self._other_release()
        else:
            this_release(self.patch)

    def _other_release(self) -> None:
        self.counted_differently = True
        other_release(self.patch, self._draw.choice((CODE - 1, CODE, CODE + 1)))

    def _damage(self) -> None:
        """Change a counter by hand, and repair it while others work."""
        number = self._draw.randrange(SHARDS)
        wrong = self._draw.choice(_DAMAGE)
        self.engine.store.commit([Add(shard_path(number), wrong)])
        self.damaged = True
        self._done(self._audit)

    def _done(self, work: Callable[[], object]) -> bool:
        """Do `work` in a process that may die, or be frozen, at any call of the store."""
        fate = self._draw.random()
        at = self._draw.randrange(_MOST_CALLS)
        store = self.engine.store
        if fate < 0.6:
            work()
            return True
        if fate < 0.8:
            meddling = ConcurrentWriterStore(store, at, lambda: self._meanwhile(work))
            with process(self.engine, meddling):
                work()
            return True
        try:
            crashing = CrashingStore(store, at, after=self._draw.random() < 0.5)
            with process(self.engine, crashing):
                work()
        except Crash:
            return False
        return True

    def _meanwhile(self, work: Callable[[], object]) -> None:
        """Let another process work while the first one stands still: maybe on the same thing."""
        with process(self.engine, self.engine.store):
            due = self._due()
            if self._draw.random() < 0.4:
                work()
            elif due and self._draw.random() < 0.5:
                self.engine.run(self._draw.choice(due))
            elif self.pending:
                self._ingest(self._draw.choice(self.pending))

    def _due(self) -> list[Trigger]:
        store = getattr(self.engine.store, "_store", self.engine.store)
        due: list[Trigger] = store.triggers.due(self.fleet.now, 1_000)
        return due

    def roll_up(self) -> RollUp:
        return new_roll_up(self.engine, self.engine.store)

    def audit(self) -> list[Any]:
        """Give what an audit without any grace finds."""
        return FullAudit(self.engine.store, timedelta(0)).run().findings
