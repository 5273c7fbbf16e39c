"""The roll-up: once a second at most, no change left behind, never back."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from firestate.errors import UnavailableError
from firestate.ingest.outcomes import Outcome
from firestate.pipeline.roll_up import RollUp
from firestate.schema.ids import CONTROLS, GLOBAL_CONFIG, SHARDS, shard_path
from firestate.stores.protocol import Add, Create, Query, Stored, Update
from tests.emulator.harness import Crash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from firestate.pipeline.deliveries import Report
    from firestate.stores.firestore import FirestoreStore
    from firestate.stores.protocol import Store, Write


class Watched:
    """A store that notes each `global_config` that was written, and when."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.writes: list[tuple[datetime, int]] = []
        self.reads = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def snapshot(self, query: Any) -> Any:
        self.reads += 1
        return self._store.snapshot(query)

    def commit(self, writes: Sequence[Write]) -> datetime:
        at = self._store.commit(writes)
        for write in writes:
            if write.path == GLOBAL_CONFIG and isinstance(write, Create | Update):
                spawned = write.data.get("total_agents_spawned", -1)
                self.writes.append((at, spawned))
        return at


class Halting(Watched):
    """A store that stops at each commit until it may go on."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.reached, self.go_on = threading.Event(), threading.Event()

    def commit(self, writes: Sequence[Write]) -> datetime:
        self.reached.set()
        assert self.go_on.wait(10)
        return super().commit(writes)


def count(store: Store, shard: int = 0) -> datetime:
    """Count one agent more, as a derive function does."""
    return store.commit([Add(shard_path(shard), {"spawned": 1})])


def spawned(store: Store) -> int:
    stored = store.read(GLOBAL_CONFIG)
    assert stored is not None
    total: int = stored.data["total_agents_spawned"]
    return total


def woken(roll_up: RollUp, store: FirestoreStore, shard: int = 0) -> Report:
    """Count one, and wake the roll-up for it."""
    return roll_up.wake(count(store, shard))


def waiting_for(roll_up: RollUp, changed_at: datetime) -> None:
    """Wait until a wake for that change waits for its turn."""
    deadline = time.monotonic() + 10
    while roll_up._latest_waiting != changed_at:
        assert time.monotonic() < deadline
        time.sleep(0.01)


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
    watched = Watched(store)
    roll_up = RollUp(watched)
    with ThreadPoolExecutor(20) as pool:
        reports = list(pool.map(lambda number: woken(roll_up, store, number % 8), range(100)))
    assert spawned(store) == 100
    outcomes = [report.outcome for report in reports]
    assert outcomes.count(Outcome.MERGED) > 50
    assert watched.reads == 100 - outcomes.count(Outcome.MERGED)


def test_at_most_once_a_second_and_never_back(store: FirestoreStore) -> None:
    """Two processes and a sweep at once: a second between writes, and no total ever falls."""
    watched = Watched(store)
    processes = [RollUp(watched), RollUp(watched)]
    end = time.monotonic() + 5

    def busy(number: int) -> None:
        while time.monotonic() < end:
            woken(processes[number % 2], store, number)

    threads = [threading.Thread(target=busy, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        processes[0].fold({"stale_agent_count": 0})
    for thread in threads:
        thread.join()
    total = sum(shard.data["spawned"] for shard in store.query(Query(SHARDS)))
    assert spawned(store) == total
    times = [at for at, _ in watched.writes]
    totals = [value for _, value in watched.writes if value >= 0]
    assert len(times) >= 3
    assert totals == sorted(totals)
    # The wait is measured by this machine's clock from the commit's time by the store's.
    gaps = [(after - before).total_seconds() for before, after in pairwise(times)]
    assert min(gaps) > 0.95


def test_the_wake_for_the_latest_change_folds_for_those_before(store: FirestoreStore) -> None:
    """Earlier ones end, whether they came before it or come after it."""
    halting = Halting(store)
    roll_up = RollUp(halting, interval_seconds=0.1)
    with ThreadPoolExecutor(3) as pool:
        folding = pool.submit(roll_up.wake, count(store))
        assert halting.reached.wait(10)
        earlier, later = count(store), count(store)
        waiting = pool.submit(roll_up.wake, earlier)
        waiting_for(roll_up, earlier)
        latest = pool.submit(roll_up.wake, later)
        assert waiting.result(10).outcome is Outcome.MERGED
        assert roll_up.wake(earlier).outcome is Outcome.MERGED
        halting.go_on.set()
        assert folding.result().outcome is Outcome.FOLDED
        assert latest.result().outcome is Outcome.FOLDED
    assert spawned(store) == 3
    assert halting.reads == 2


def test_a_killed_process_leaves_the_latest_wake_to_another(store: FirestoreStore) -> None:
    """That one folds also where it has read what the killed one had begun to wait for."""
    dead = threading.Event()

    class Killed(Watched):
        def snapshot(self, query: Any) -> Any:
            if dead.is_set():
                raise Crash
            return super().snapshot(query)

    one, two = RollUp(Killed(store)), RollUp(store, interval_seconds=0)
    woken(one, store)
    first = count(store)
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(one.wake, first)
        waiting_for(one, first)
        woken(two, store)  # has read what `first` is for
        second = count(store)
        left = pool.submit(one.wake, second)
        assert waiting.result(10).outcome is Outcome.MERGED
        dead.set()
        with pytest.raises(Crash):
            left.result()
    assert spawned(store) == 3
    assert two.wake(first).outcome is Outcome.MERGED
    assert two.wake(second).outcome is Outcome.FOLDED  # brought again
    assert spawned(store) == 4


def test_what_was_folded_is_not_folded_again(store: FirestoreStore) -> None:
    """Changes that a fold has read cost nothing more, one by one or while it is under way."""
    halting = Halting(store)
    roll_up = RollUp(halting)
    changes = [count(store) for _ in range(3)]
    with ThreadPoolExecutor(2) as pool:
        folding = pool.submit(roll_up.wake, changes[0])
        assert halting.reached.wait(10)
        waiting = pool.submit(roll_up.wake, changes[1])
        waiting_for(roll_up, changes[1])
        halting.go_on.set()
        assert folding.result().outcome is Outcome.FOLDED
        assert waiting.result().outcome is Outcome.MERGED
    assert [roll_up.wake(at).outcome for at in changes] == [Outcome.MERGED] * 3
    assert halting.reads == 1
    assert spawned(store) == 3


def test_a_wake_brought_twice_waits_twice(store: FirestoreStore) -> None:
    """Confirmed once it would not come again, should the process be killed that still waits."""
    halting = Halting(store)
    roll_up = RollUp(halting, interval_seconds=0.1)
    with ThreadPoolExecutor(3) as pool:
        folding = pool.submit(roll_up.wake, count(store))
        assert halting.reached.wait(10)
        change = count(store)
        both = [pool.submit(roll_up.wake, change) for _ in range(2)]
        waiting_for(roll_up, change)
        time.sleep(0.2)
        assert not any(each.done() for each in both)
        halting.go_on.set()
        assert folding.result().outcome is Outcome.FOLDED
        assert {each.result().outcome for each in both} == {Outcome.FOLDED, Outcome.MERGED}
    assert spawned(store) == 2


def test_what_another_process_has_folded(store: FirestoreStore) -> None:
    """`folded_at` tells up to when; it is believed up to when it was written."""
    change = count(store)
    RollUp(store).fold()
    watched = Watched(store)
    assert RollUp(watched).wake(change).outcome is Outcome.MERGED
    assert watched.reads == 0
    stored = store.read(GLOBAL_CONFIG)
    assert stored is not None
    wrong = stored.data["system_metrics"] | {"folded_at": datetime(2999, 1, 1, tzinfo=UTC)}
    store.commit([Update(GLOBAL_CONFIG, stored.token, {"system_metrics": wrong})])
    assert woken(RollUp(store), store).outcome is Outcome.FOLDED
    assert spawned(store) == 2


def test_a_clock_that_is_set_back_holds_nothing_up(store: FirestoreStore) -> None:
    """A second is waited for by a clock that is not."""
    back = [timedelta(0)]
    roll_ups = [RollUp(store, now=lambda: datetime.now(UTC) - back[0]) for _ in range(2)]
    woken(roll_ups[0], store)
    back[0] = timedelta(hours=1)
    began = time.monotonic()
    for roll_up in roll_ups:
        assert woken(roll_up, store).outcome is Outcome.FOLDED
    assert time.monotonic() - began < 10
    assert spawned(store) == 3


def test_a_change_without_a_time_is_always_folded(store: FirestoreStore) -> None:
    """A removed document tells none. And nothing is left to its wake."""
    halting = Halting(store)
    roll_up = RollUp(halting, interval_seconds=0.1)
    with ThreadPoolExecutor(3) as pool:
        folding = pool.submit(roll_up.wake, count(store))
        assert halting.reached.wait(10)
        removed = pool.submit(roll_up.wake, None)
        time.sleep(0.1)
        changed = pool.submit(woken, roll_up, store)
        time.sleep(0.2)
        assert not removed.done()
        assert not changed.done()
        halting.go_on.set()
        assert folding.result().outcome is Outcome.FOLDED
        assert Outcome.FOLDED in {removed.result().outcome, changed.result().outcome}
    assert spawned(store) == 2
    assert roll_up.wake(None).outcome is Outcome.UNCHANGED


def test_what_another_process_has_counted_and_is_taken_back(store: FirestoreStore) -> None:
    """A process does not take what it wrote itself for what is stored."""
    one, two = RollUp(store, interval_seconds=0), RollUp(store, interval_seconds=0)
    assert woken(one, store).outcome is Outcome.FOLDED
    assert woken(two, store).outcome is Outcome.FOLDED
    assert spawned(store) == 2
    store.commit([Add(shard_path(0), {"spawned": -1})])
    assert one.wake().outcome is Outcome.FOLDED
    assert spawned(store) == 1
    assert one.wake().outcome is Outcome.UNCHANGED


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

    class Broken(Watched):
        def snapshot(self, query: Any) -> Any:
            if broken.pop() if broken else False:
                raise fault
            return super().snapshot(query)

    roll_up = RollUp(Broken(store))
    with pytest.raises(fault):
        woken(roll_up, store)
    assert roll_up.wake().outcome is Outcome.FOLDED
    assert spawned(store) == 1


def test_damage_to_what_was_written_is_noticed(store: FirestoreStore) -> None:
    """Who has written `global_config` meanwhile is found out by the precondition, and read."""
    roll_up = RollUp(store)
    woken(roll_up, store)
    stored = store.read(GLOBAL_CONFIG)
    assert isinstance(stored, Stored)
    store.commit([Update(GLOBAL_CONFIG, stored.token, {"total_agents_spawned": 99, "own": 1})])
    woken(roll_up, store)
    again = store.read(GLOBAL_CONFIG)
    assert again is not None
    assert again.data["total_agents_spawned"] == 2
    assert again.data["own"] == 1
