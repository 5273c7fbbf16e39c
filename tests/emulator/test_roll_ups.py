"""Roll-ups of several processes: a second between their writes, never back, none shut out."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from firestate.ingest.outcomes import Outcome
from firestate.pipeline.roll_up import RollUp
from firestate.schema.ids import GLOBAL_CONFIG, SHARDS, shard_path
from firestate.stores.protocol import Add, Query, Stored, Update
from tests.emulator.roll_up_fixtures import WatchedStore, count, spawned, waiting_for, woken
from tests.harness import Crash

if TYPE_CHECKING:
    from firestate.stores.firestore import FirestoreStore


@pytest.mark.usefixtures("own_turns")
def test_at_most_once_a_second_and_never_back(store: FirestoreStore) -> None:
    """Two processes and a sweep at once: a second between writes, and no total ever falls."""
    watched = WatchedStore(store)
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


@pytest.mark.usefixtures("own_turns")
def test_a_clock_that_is_behind_shuts_nobody_out(store: FirestoreStore) -> None:
    """The sweep folds beside a roll-up that is woken all the time."""
    busy, over = RollUp(store), threading.Event()
    behind = timedelta(seconds=0.05)  # as long as a fold takes: most races are lost so
    sweeping = RollUp(store, now=lambda: datetime.now(UTC) - behind)

    def keep_busy() -> None:
        while not over.is_set():
            woken(busy, store)

    with ThreadPoolExecutor(4) as pool:
        waking = [pool.submit(keep_busy) for _ in range(4)]
        try:
            for stale in (1, 2):
                sweeping.fold({"stale_agent_count": stale})
                stored = store.read(GLOBAL_CONFIG)
                assert stored is not None
                assert stored.data["system_metrics"]["stale_agent_count"] == stale
        finally:
            over.set()
    for each in waking:
        each.result()


def test_a_killed_process_leaves_the_latest_wake_to_another(store: FirestoreStore) -> None:
    """That one folds also where it has read what the killed one had begun to wait for."""
    dead = threading.Event()

    class Killed(WatchedStore):
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


def test_what_another_process_has_folded(store: FirestoreStore) -> None:
    """`folded_at` tells up to when; it is believed up to when it was written."""
    change = count(store)
    RollUp(store).fold()
    watched = WatchedStore(store)
    assert RollUp(watched).wake(change).outcome is Outcome.MERGED
    assert watched.reads == 0
    stored = store.read(GLOBAL_CONFIG)
    assert stored is not None
    wrong = stored.data["system_metrics"] | {"folded_at": datetime(2999, 1, 1, tzinfo=UTC)}
    store.commit([Update(GLOBAL_CONFIG, stored.token, {"system_metrics": wrong})])
    assert woken(RollUp(store), store).outcome is Outcome.FOLDED
    assert spawned(store) == 2


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
