"""The roll-up of one process: few folds for many wakes, and no change left behind."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from firestate.errors import UnavailableError
from firestate.ingest.outcomes import Outcome
from firestate.pipeline.roll_up import RollUp
from firestate.schema.ids import CONTROLS, GLOBAL_CONFIG
from firestate.stores.protocol import Create
from tests.emulator.roll_up_fixtures import (
    WatchedStore,
    count,
    held_up,
    spawned,
    waiting_for,
    woken,
)
from tests.harness import Crash

if TYPE_CHECKING:
    from firestate.stores.firestore import FirestoreStore


def test_a_wake_folds_what_woke_it(store: FirestoreStore) -> None:
    """All shards are added up, and the controls are folded in."""
    count(store, 1)
    store.commit([Create(CONTROLS, {"emergency_stop": True, "emergency_reason": "fire"})])
    report = woken(RollUp(store), store, 2)
    assert report.outcome is Outcome.FOLDED
    stored = store.read(GLOBAL_CONFIG)
    assert stored is not None
    assert stored.data["total_agents_spawned"] == 2
    assert stored.data["emergency_stop"] is True
    assert stored.data["emergency_reason"] == "fire"


def test_many_wakes_make_few_folds(store: FirestoreStore) -> None:
    """Wakes for a hundred changes at once are merged; the last change is folded all the same."""
    watched = WatchedStore(store)
    roll_up = RollUp(watched)
    with ThreadPoolExecutor(20) as pool:
        reports = list(pool.map(lambda number: woken(roll_up, store, number % 8), range(100)))
    assert spawned(store) == 100
    outcomes = [report.outcome for report in reports]
    assert outcomes.count(Outcome.MERGED) > 50
    assert watched.reads == 100 - outcomes.count(Outcome.MERGED)


def test_the_wake_for_the_latest_change_folds_for_those_before(store: FirestoreStore) -> None:
    """Earlier ones end, whether they came before it or come after it."""
    with held_up(store, 0.1) as (roll_up, halting, pool):
        earlier, later = count(store), count(store)
        waiting = pool.submit(roll_up.wake, earlier)
        waiting_for(roll_up, earlier)
        latest = pool.submit(roll_up.wake, later)
        assert waiting.result(10).outcome is Outcome.MERGED
        assert roll_up.wake(earlier).outcome is Outcome.MERGED
        halting.go_on.set()
        assert latest.result().outcome is Outcome.FOLDED
    assert spawned(store) == 3
    assert halting.reads == 2


def test_what_was_folded_is_not_folded_again(store: FirestoreStore) -> None:
    """Changes that a fold has read cost nothing more, one by one or while it is under way."""
    changes = [count(store) for _ in range(2)]
    with held_up(store, 1) as (roll_up, halting, pool):
        waiting = pool.submit(roll_up.wake, changes[1])
        waiting_for(roll_up, changes[1])
        halting.go_on.set()
        assert waiting.result().outcome is Outcome.MERGED
    assert [roll_up.wake(at).outcome for at in changes] == [Outcome.MERGED] * 2
    assert halting.reads == 1
    assert spawned(store) == 3


def test_a_wake_brought_twice_waits_twice(store: FirestoreStore) -> None:
    """Confirmed once it would not come again, should the process be killed that still waits."""
    with held_up(store, 0.1) as (roll_up, halting, pool):
        change = count(store)
        both = [pool.submit(roll_up.wake, change) for _ in range(2)]
        waiting_for(roll_up, change)
        time.sleep(0.2)
        assert not any(each.done() for each in both)
        halting.go_on.set()
        assert {each.result().outcome for each in both} == {Outcome.FOLDED, Outcome.MERGED}
    assert spawned(store) == 2


def test_a_change_without_a_time_is_always_folded(store: FirestoreStore) -> None:
    """A removed document tells none. And nothing is left to its wake."""
    with held_up(store, 0.1) as (roll_up, halting, pool):
        removed = pool.submit(roll_up.wake, None)
        time.sleep(0.1)
        changed = pool.submit(woken, roll_up, store)
        time.sleep(0.2)
        assert not removed.done()
        assert not changed.done()
        halting.go_on.set()
        assert Outcome.FOLDED in {removed.result().outcome, changed.result().outcome}
    assert spawned(store) == 2
    assert roll_up.wake(None).outcome is Outcome.UNCHANGED


def test_nothing_new_is_not_written(store: FirestoreStore) -> None:
    """A fold that finds the same as before leaves `global_config` as it is."""
    woken(RollUp(store), store)
    stored = store.read(GLOBAL_CONFIG)
    assert stored is not None
    assert RollUp(store, interval_seconds=0).wake().outcome is Outcome.UNCHANGED
    again = store.read(GLOBAL_CONFIG)
    assert again is not None
    assert again.updated_at == stored.updated_at


@pytest.mark.parametrize("fault", [Crash, UnavailableError])
def test_a_fold_that_fails_leaves_the_way_open(
    store: FirestoreStore, fault: type[BaseException]
) -> None:
    """Its own event comes again, and other wakes do not wait for it."""
    broken = [True]

    class Broken(WatchedStore):
        def snapshot(self, query: Any) -> Any:
            if broken.pop() if broken else False:
                raise fault
            return super().snapshot(query)

    roll_up = RollUp(Broken(store))
    with pytest.raises(fault):
        woken(roll_up, store)
    assert roll_up.wake().outcome is Outcome.FOLDED
    assert spawned(store) == 1
