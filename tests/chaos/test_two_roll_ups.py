"""Two roll-ups that fold at the same moment, again and again, while the counters grow."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from google.cloud import firestore

from firestate.errors import ConflictError, ContentionError
from firestate.pipeline.roll_up import RollUp
from firestate.schema.ids import GLOBAL_CONFIG, SHARDS, shard_path
from firestate.stores.firestore import FirestoreStore
from firestate.stores.protocol import Add, Create, Query, Update
from tests.chaos.settings import folds, tell

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from firestate.stores.protocol import Write

_WRITERS = 2
_SHARDS = 8
_TRIES = 5
_PAUSE_SECONDS = 0.01


class Noted(FirestoreStore):
    """A store of its own client, which notes each `global_config` that it wrote or was refused."""

    def __init__(self, client: firestore.Client) -> None:
        super().__init__(client)
        self.written: list[tuple[datetime, dict[str, Any]]] = []
        self.refused = 0

    def commit(self, writes: Sequence[Write]) -> datetime:
        try:
            at = super().commit(writes)
        except ConflictError:
            self.refused += 1
            raise
        self.written += [
            (at, dict(write.data)) for write in writes if isinstance(write, Create | Update)
        ]
        return at


@pytest.mark.usefixtures("own_turns")
def test_two_roll_ups_at_once(store: FirestoreStore, project: str) -> None:
    """What only grows never falls, and in the end `global_config` is the sum of the shards."""
    stores = [Noted(firestore.Client(project=project)) for _ in range(2)]
    # Without the second between two folds, which is measured elsewhere: here they are to meet.
    roll_ups = [RollUp(each, interval_seconds=0) for each in stores]
    over, began = threading.Event(), time.monotonic()
    watched: list[dict[str, Any]] = []
    with ThreadPoolExecutor(2 + _WRITERS + 1) as pool:
        others = [pool.submit(_add, project, over) for _ in range(_WRITERS)]
        others.append(pool.submit(_watch, project, over, watched))
        together = threading.Barrier(2)
        folding = [pool.submit(_fold, roll_up, together) for roll_up in roll_ups]
        outcomes = sum((each.result() for each in folding), Counter[str]())
        over.set()
        for other in others:
            other.result()
    for roll_up in roll_ups:
        roll_up.wake()
    for each in stores:
        each._client.close()

    written = [data for _, data in sorted(stores[0].written + stores[1].written, key=_at)]
    assert all(each.written for each in stores)
    for seen in (written, watched):
        spawned = [data["total_agents_spawned"] for data in seen if "total_agents_spawned" in data]
        folded = [data["system_metrics"]["folded_at"] for data in seen]
        assert spawned == sorted(spawned)
        assert folded == sorted(folded)
    assert sum(each.refused for each in stores) > folds() / 10  # else they have hardly met
    stored = store.read(GLOBAL_CONFIG)
    assert stored is not None
    shards = [shard.data for shard in store.query(Query(SHARDS))]
    assert stored.data["total_agents_spawned"] == sum(shard["spawned"] for shard in shards)
    completed = sum(shard["tasks"]["completed"] for shard in shards)
    assert stored.data["system_metrics"]["tasks"]["completed"] == completed
    tell(
        f"{folds()} rounds of two roll-ups in {time.monotonic() - began:.1f} s: {dict(outcomes)}, "
        f"{sum(each.refused for each in stores)} refused, {completed} changes counted meanwhile"
    )


def _fold(roll_up: RollUp, together: threading.Barrier) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    for _ in range(folds()):
        together.wait(60)
        for _ in range(_TRIES):
            try:
                outcomes[roll_up.wake().outcome] += 1
            except ContentionError:
                outcomes["brought again"] += 1
            else:
                break
        else:
            message = f"no fold in {_TRIES} deliveries"
            raise AssertionError(message)
    return outcomes


def _add(project: str, over: threading.Event) -> None:
    client = firestore.Client(project=project)
    store = FirestoreStore(client)
    for number in itertools.count():
        store.commit([Add(shard_path(number % _SHARDS), {"spawned": 1, "tasks": {"completed": 2}})])
        if over.wait(_PAUSE_SECONDS):
            break
    client.close()


def _watch(project: str, over: threading.Event, watched: list[dict[str, Any]]) -> None:
    client = firestore.Client(project=project)
    store = FirestoreStore(client)
    while not over.wait(_PAUSE_SECONDS):
        if stored := store.read(GLOBAL_CONFIG):
            watched.append(stored.data)
    client.close()


def _at(noted: tuple[datetime, dict[str, Any]]) -> datetime:
    return noted[0]
