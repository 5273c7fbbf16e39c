"""What the tests of the roll-up share: stores that watch it or hold it up, changes that wake it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from firestate.ingest.outcomes import Outcome
from firestate.pipeline.roll_up import RollUp
from firestate.schema.ids import GLOBAL_CONFIG, shard_path
from firestate.stores.protocol import Add, Create, Update

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from firestate.pipeline.deliveries import StepReport
    from firestate.stores.protocol import Store, Write


class WatchedStore:
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


class HaltingStore(WatchedStore):
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


def woken(roll_up: RollUp, store: Store, shard: int = 0) -> StepReport:
    """Count one, and wake the roll-up for it."""
    return roll_up.wake(count(store, shard))


def waiting_for(roll_up: RollUp, changed_at: datetime) -> None:
    """Wait until a wake for that change waits for its turn."""
    deadline = time.monotonic() + 10
    while roll_up._latest_waiting != changed_at:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def held_up(
    store: Store, interval_seconds: float
) -> Iterator[tuple[RollUp, HaltingStore, ThreadPoolExecutor]]:
    """Give a roll-up in the middle of a fold for one change, and threads for more wakes.

    At the end the fold has been written; before that it waits for `go_on`.
    """
    halting = HaltingStore(store)
    roll_up = RollUp(halting, interval_seconds=interval_seconds)
    with ThreadPoolExecutor(4) as pool:
        folding = pool.submit(woken, roll_up, store)
        assert halting.reached.wait(10)
        yield roll_up, halting, pool
        assert halting.go_on.is_set()
        assert folding.result().outcome is Outcome.FOLDED
