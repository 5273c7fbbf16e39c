"""What the schedule does when part of it cannot be done."""

from __future__ import annotations

from typing import Any

import pytest

from firestate.errors import StoreError
from firestate.local.engine import LocalEngine
from firestate.pipeline.roll_up import RollUp
from firestate.pipeline.sweep import sweep
from firestate.schema.ids import GLOBAL_CONFIG, shard_path
from firestate.stores.protocol import Add
from tests.harness import NOW


class WithoutIndexes:
    """A store that cannot count: the index that it would need is not built yet."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def total(self, *_: object, **__: object) -> None:
        raise StoreError("the query requires an index")


def test_a_lost_wake_is_made_good_though_nothing_can_be_counted() -> None:
    """The fold is done all the same; and the fault is raised, so that somebody sees it."""
    with LocalEngine() as engine:
        engine.store.commit([Add(shard_path(3), {"spawned": 7})])
        store: Any = WithoutIndexes(engine.store)
        with pytest.raises(StoreError, match="requires an index"):
            sweep(store, RollUp(store, interval_seconds=0), NOW)
        stored = engine.store.read(GLOBAL_CONFIG)
        assert stored is not None
        assert stored.data["total_agents_spawned"] == 7
