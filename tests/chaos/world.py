"""The local engine under a bad network: whatever can happen to a delivery is drawn.

Messages and triggers are delivered twice, late, in any order, or (triggers of states) never; a
process dies before or after any call of the store, or is frozen there while others go on; time
passes and takes expired documents away; releases that count differently come and go.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import note

from firestate.audit.findings import Kind
from firestate.audit.full import FullAudit
from firestate.audit.repair import audit_and_repair
from firestate.counters.contribution import contribution_of
from firestate.ingest.outcomes import Outcome
from firestate.local.engine import LocalEngine
from firestate.local.rules import DERIVE_STATE
from firestate.pipeline.rederive import rederive
from firestate.pipeline.roll_up import RollUp
from firestate.pipeline.sweep import sweep
from firestate.schema.ids import EVENTS, GLOBAL_CONFIG, STATES
from firestate.stores.protocol import Query, Remove
from tests.chaos.fleet import Fleet
from tests.emulator.harness import Crash, CrashingStore

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Mapping

    from firestate.client.outgoing import Outgoing
    from firestate.stores.sqlite_triggers import Trigger

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
_ACCEPTED = {Outcome.STORED, Outcome.SUPERSEDED, Outcome.DUPLICATE}
_MOST_CALLS = 6
_STEPS = {
    "act": 12,
    "deliver": 14,
    "derive": 12,
    "lose": 2,
    "fold": 2,
    "sweep": 1,
    "audit": 1,
    "wait": 1,
    "release": 1,
}


class World:
    """One history. `messages` are all that were sent, `accepted` those that are not refused."""

    def __init__(self, draw: random.Random, patch: pytest.MonkeyPatch) -> None:
        self._draw = draw
        self._patch = patch
        # Conflicts are drawn here, one after the other: nobody has to be waited for.
        patch.setattr("firestate.pipeline.contention._STEP_SECONDS", 0)
        self.fleet = Fleet(draw, "h", draw.randrange(1, 4), START)
        self.engine = LocalEngine(clock=lambda: self.fleet.now, sleep=_no_time)
        self.pending: list[Outgoing] = []
        self.accepted: dict[tuple[str, bytes], Outgoing] = {}
        self.refused: dict[tuple[str, bytes], Outgoing] = {}
        self.lost: set[str] = set()
        self.removed: set[str] = set()
        self.counted_differently = False
        self._tried: set[tuple[str, bytes]] = set()
        self._latest: dict[str, tuple[int, int]] = {}
        self._events: dict[str, dict[str, Any]] = {}
        self._folded_at: datetime | None = None
        if draw.random() < 0.3:
            self._other_release()
        self._send(self.fleet.begin())

    def step(self) -> None:
        """Let one thing happen, and look whether anything has gone back."""
        (chosen,) = self._draw.choices(list(_STEPS), weights=list(_STEPS.values()))
        note(f"{self.fleet.now:%m-%d %H:%M:%S.%f} {chosen}")
        getattr(self, f"_{chosen}")()
        self.check_nothing_went_back()

    def settle(self) -> None:
        """Deliver all that is on its way, and call all triggers, in any order."""
        while self.pending:
            self._deliver()
        while self._derive():
            pass
        self.check_nothing_went_back()

    def heal_by_next(self) -> None:
        """Let each session send once more: the next state heals what was lost before it."""
        self._send(self.fleet.farewell())
        self.settle()
        self.lost.clear()

    def heal_by_repair(self) -> None:
        """Audit with repair: it finds what was lost, and nothing else."""
        report = audit_and_repair(self.engine.store, self._roll_up(), timedelta(0))
        for finding in report.findings:
            if finding.kind is not Kind.GLOBAL:
                assert finding.kind is Kind.ROW, finding
                assert finding.field == "version", finding
                assert finding.path in self.lost, finding
        self.lost.clear()
        self.settle()

    def to_this_release(self) -> None:
        """Put today's release in place, and recount what others have counted."""
        self._this_release()
        if self.counted_differently:
            list(rederive(self.engine.store))
            self.lost.clear()
            self.settle()

    def totals(self) -> Mapping[str, Any]:
        """Fold, and give what `global_config` says."""
        self._roll_up().fold()
        stored = self.engine.store.read(GLOBAL_CONFIG)
        assert stored is not None
        return stored.data

    def close(self) -> None:
        self.engine.close()

    def check_nothing_went_back(self) -> None:
        """States only go forward, also past their removal; events stay as they are."""
        store = self.engine.store
        for state in store.query(Query(STATES)):
            order = (state.data["epoch"], state.data["revision"])
            assert order >= self._latest.get(state.path, order), state.path
            self._latest[state.path] = order
        for event in store.query(Query(EVENTS)):
            content = {k: v for k, v in event.data.items() if k != "counted"}
            assert self._events.setdefault(event.path, content) == content
        if folded := store.read(GLOBAL_CONFIG):
            folded_at = folded.data["system_metrics"]["folded_at"]
            assert self._folded_at is None or folded_at >= self._folded_at
            self._folded_at = folded_at

    def _send(self, messages: list[Outgoing]) -> None:
        self.pending += messages

    def _act(self) -> None:
        self._send(self.fleet.step())

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
        note(f"  {outcome} {message.data[:200]!r}")

    def _derive(self) -> bool:
        due = self._due()
        if due:
            trigger = self._draw.choice(due)
            note(f"  {trigger.function} {trigger.document.path} {trigger.document.data}")
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
        self._done(lambda: self._roll_up().fold())

    def _sweep(self) -> None:
        self._done(lambda: sweep(self.engine.store, self._roll_up(), self.fleet.now))

    def _audit(self) -> None:
        """Audit with repair under traffic: what is on its way is none of its business."""
        report = audit_and_repair(self.engine.store, self._roll_up(), timedelta(days=400))
        if not self.counted_differently:
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
        self.to_this_release()
        if self.lost:
            self.heal_by_repair()
        if straggler is not None:
            self.pending.append(straggler)
        self.fleet.now += timedelta(days=self._draw.choice((1, 20, 32, 50, 95)))
        for collection in (STATES, EVENTS):
            for each in list(self.engine.store.query(Query(collection))):
                expire_at = each.data.get("expire_at")
                if expire_at is not None and expire_at < self.fleet.now:
                    self.engine.store.commit([Remove(each.path, each.token)])
                    self.removed.add(each.path)
                    note(f"  {each.path} has expired")

    def _release(self) -> None:
        if self._draw.random() < 0.5:
            self._other_release()
        else:
            self._this_release()

    def _other_release(self) -> None:
        """Count tasks differently: earlier or later than today's release, it may be put back."""
        self.counted_differently = True
        self._put_release(self._draw.choice((0, 1, 2)), _other_contribution)

    def _this_release(self) -> None:
        self._put_release(1, contribution_of)

    def _put_release(self, code: int, contribution: Callable[..., Any]) -> None:
        self._patch.setattr("firestate.ingest.states.CODE", code)
        for module in ("firestate.ingest.states", "firestate.pipeline.rederive"):
            self._patch.setattr(f"{module}.contribution_of", contribution)

    def _done(self, work: Callable[[], object]) -> bool:
        """Do `work` in a process that may die, or be frozen, at any call of the store."""
        fate = self._draw.random()
        at = self._draw.randrange(_MOST_CALLS)
        store = self.engine.store
        if fate < 0.6:
            work()
            return True
        if fate < 0.8:
            meddling = _MeddlingStore(store, at, lambda: self._meanwhile(work))
            with self._process(meddling):
                work()
            return True
        try:
            with self._process(CrashingStore(store, at, after=self._draw.random() < 0.5)):
                work()
        except Crash:
            return False
        return True

    def _meanwhile(self, work: Callable[[], object]) -> None:
        """Let another process work while the first one stands still: maybe on the same thing."""
        with self._process(self.engine.store):
            due = self._due()
            if self._draw.random() < 0.4:
                work()
            elif due and self._draw.random() < 0.5:
                self.engine.run(self._draw.choice(due))
            elif self.pending:
                self._ingest(self._draw.choice(self.pending))

    @contextmanager
    def _process(self, store: Any) -> Iterator[None]:
        """Work on `store` as another process: with locks, and a roll-up, of its own."""
        before = (self.engine.store, self.engine.roll_up)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("firestate.pipeline.contention._TURNS", [Lock() for _ in range(64)])
            self.engine.store = store
            self.engine.roll_up = self._roll_up()
            try:
                yield
            finally:
                self.engine.store, self.engine.roll_up = before

    def _due(self) -> list[Trigger]:
        store = getattr(self.engine.store, "_store", self.engine.store)
        due: list[Trigger] = store.triggers.due(self.fleet.now, 1_000)
        return due

    def _roll_up(self) -> RollUp:
        return RollUp(self.engine.store, sleep=_no_time, now=lambda: self.fleet.now)

    def audit(self) -> list[Any]:
        """Give what an audit without any grace finds."""
        return FullAudit(self.engine.store, timedelta(0)).run().findings


class _MeddlingStore:
    """Passes calls on; before the one with the given number another process has its way, once."""

    def __init__(self, store: Any, at: int, meddle: Callable[[], None]) -> None:
        self._store = store
        self._at = at
        self._meddle = meddle
        self._calls = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            number, self._calls = self._calls, self._calls + 1
            if number == self._at:
                self._meddle()
            return method(*args, **kwargs)

        return call


def _other_contribution(document: Mapping[str, Any]) -> dict[str, Any]:
    contribution = contribution_of(document)
    tasks = {name: 2 * count + 1 for name, count in contribution["tasks"].items()}
    return contribution | {"tasks": tasks}


def _no_time(_: float) -> None:
    """Wait for nothing: there is nobody else."""
