"""Roll-ups killed at any moment, with wakes brought again: no change is left to the schedule."""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from firestate.errors import ConflictError
from firestate.ingest.outcomes import Outcome
from firestate.pipeline.deliveries import StepReport
from firestate.pipeline.roll_up import RollUp
from firestate.schema.ids import GLOBAL_CONFIG, shard_path
from firestate.stores.protocol import Add
from firestate.stores.sqlite import SqliteStore
from tests.chaos.settings import tell
from tests.harness import Crash

if TYPE_CHECKING:
    from datetime import datetime

_ROUNDS = 500
_AT_ONCE = 8
_TWICE = 0.3
_INTERVAL_SECONDS = 0.02


class Process:
    """One process with a roll-up: once it is killed it does nothing more, and confirms nothing."""

    def __init__(self, store: SqliteStore, interval_seconds: float) -> None:
        self._store = store
        self.killed = False
        self.roll_up = RollUp(self, interval_seconds=interval_seconds)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._live()
            result = method(*args, **kwargs)
            self._live()
            return result

        return call

    def wake(self, changed_at: datetime) -> Outcome:
        outcome = self.roll_up.wake(changed_at).outcome
        self._live()
        return outcome

    def _live(self) -> None:
        if self.killed:
            raise Crash


class Round:
    """A few changes, each with its wake, to two processes of which one is killed on the way.

    Some wakes are brought twice at once: confirmed once, they are not brought again.
    """

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.store = SqliteStore()
        intervals = (4 * _INTERVAL_SECONDS, self.draw.choice((0, _INTERVAL_SECONDS)))
        self.processes = [Process(self.store, seconds) for seconds in intervals]
        self.outcomes: Counter[str] = Counter()
        self._confirmed: set[datetime] = set()

    def play(self) -> int:
        """Bring all wakes until each is confirmed; give how many changes there were."""
        changes = self.draw.randrange(2, 7)
        waits = [self.draw.uniform(0, _INTERVAL_SECONDS) for _ in range(changes + 1)]
        killed_after = self.draw.uniform(0, sum(waits) + _INTERVAL_SECONDS)
        with ThreadPoolExecutor(2 * changes + 1) as pool:
            delivered = [pool.submit(self._kill, killed_after)]
            for number, wait in enumerate(waits[:-1], 1):
                delivery = self.draw.uniform(0, wait), self.draw.random()
                twice = self.draw.random() < _TWICE
                at = self.store.commit([Add(shard_path(number % 8), {"spawned": 1})])
                delivered += [pool.submit(self._deliver, at, *delivery) for _ in range(1 + twice)]
                time.sleep(wait)
            for each in delivered:
                each.result()
        return changes

    def folded(self) -> int:
        """Give how many changes `global_config` shows."""
        stored = self.store.read(GLOBAL_CONFIG)
        assert stored is not None
        total: int = stored.data["total_agents_spawned"]
        return total

    def _deliver(self, changed_at: datetime, delay: float, chosen: float) -> None:
        """Bring a wake, and bring it again until a living process confirms it."""
        time.sleep(delay)
        process = self.processes[round(chosen)]
        while changed_at not in self._confirmed:
            try:
                self.outcomes[process.wake(changed_at)] += 1
                self._confirmed.add(changed_at)
            except (Crash, ConflictError):
                self.outcomes["brought again"] += 1
                process = self.processes[1]

    def _kill(self, after: float) -> None:
        time.sleep(after)
        self.processes[0].killed = True


def left_behind(rounds: int) -> Counter[str]:
    """Play so many rounds; tell how many lost a change, and what became of all wakes."""
    outcomes: Counter[str] = Counter()

    def play(seed: int) -> Counter[str]:
        played = Round(seed)
        changes = played.play()
        if played.folded() != changes:
            tell(f"round {seed}: {played.folded()} of {changes} changes, {dict(played.outcomes)}")
            played.outcomes["left behind"] += 1
        played.store.close()
        return played.outcomes

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for each in pool.map(play, range(rounds)):
            outcomes += each
    return outcomes


@pytest.mark.usefixtures("own_turns")
def test_no_change_is_left_behind() -> None:
    """When the last wake is confirmed, `global_config` is the sum of the shards."""
    outcomes = left_behind(_ROUNDS)
    assert outcomes["left behind"] == 0
    assert outcomes["brought again"] > _ROUNDS / 4
    assert outcomes[Outcome.MERGED] > _ROUNDS / 4
    tell(f"{_ROUNDS} rounds with a roll-up killed: {dict(outcomes)}")


@pytest.mark.usefixtures("own_turns")
@pytest.mark.parametrize("left_to", ["any that waits", "one as late"])
def test_a_wake_left_to_a_wrong_one_is_found(left_to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a wake ends when another waits that is not for a later change."""
    wake = RollUp.wake

    def leaving(self: RollUp, changed_at: datetime | None = None) -> StepReport:
        waiting = self._latest_waiting
        if waiting == changed_at or (left_to == "any that waits" and waiting.year > 1):
            return StepReport(Outcome.MERGED, GLOBAL_CONFIG)
        return wake(self, changed_at)

    monkeypatch.setattr(RollUp, "wake", leaving)
    assert left_behind(_ROUNDS)["left behind"] > 0
