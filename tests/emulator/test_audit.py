"""The audit finds damage made by hand in every counter and analytics field, and repairs it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from firestate.pipeline.shard_audit import cheap_audit
from firestate.schema.ids import GLOBAL_CONFIG, SHARDS
from firestate.stores.protocol import Add, Query, Remove
from tests.emulator.damage import MEMORY, ROW, changed, damage, paths_to_numbers, repaired
from tests.harness import (
    NOW,
    Pipeline,
    event_message,
    everything,
    state_message,
    task,
)

if TYPE_CHECKING:
    from firestate.stores.firestore import FirestoreStore

INDEXES = Path(__file__).parents[2] / "firestore.indexes.json"


def test_every_counter_of_the_shards(filled: FirestoreStore) -> None:
    """Each number in each shard, made wrong by hand, is found and added back."""
    expected = everything(filled)
    count = 0
    for shard in list(filled.query(Query(SHARDS))):
        for path in paths_to_numbers(shard.data):
            damage(filled, shard.path, path, lambda number: number + 7)
            assert repaired(filled) >= 1, (shard.path, path)
            count += 1
    assert count > 20
    assert everything(filled)[GLOBAL_CONFIG] == expected[GLOBAL_CONFIG]
    assert everything(filled)[MEMORY] == expected[MEMORY]


def test_every_counter_of_global_config(filled: FirestoreStore) -> None:
    """Each number in `global_config`, made wrong by hand, is found and folded anew."""
    expected = everything(filled)
    stored = filled.read(GLOBAL_CONFIG)
    assert stored is not None
    paths = [p for p in paths_to_numbers(stored.data) if p != ("schema_version",)]
    assert ("system_metrics", "stale_agent_count") in paths
    for path in paths:
        damage(filled, GLOBAL_CONFIG, path, lambda number: number + 7)
        assert repaired(filled) == 1, path
    damage(filled, GLOBAL_CONFIG, ("active_sessions",), lambda sessions: [*sessions, "ghost"])
    assert repaired(filled) >= 1
    assert everything(filled) == expected


ANALYTICS = (
    "memory_count",
    "memory_types_count",
    "importance_distribution",
    "last_memory_sync",
    "learning_context",
    "learned_patterns",
    "decision_history",
    "recent_activity",
    "performance_insights",
    "counted",
)


@pytest.mark.parametrize("field", ANALYTICS)
def test_every_analytics_field(filled: FirestoreStore, field: str) -> None:
    """Each analytics field, emptied, gone or with one number off, is found and folded anew."""
    expected = everything(filled)
    stored = filled.read(MEMORY)
    assert stored is not None
    value = stored.data[field]
    wrong: list[Any] = [None]
    wrong += [changed(value, path, lambda n: n + 1) for path in paths_to_numbers(value) if path]
    if isinstance(value, list):
        wrong += [value[1:], [{**value[0], "id": "forged"}, *value[1:]]]
    elif not isinstance(value, dict):
        wrong += [NOW + timedelta(days=1) if field == "last_memory_sync" else value + 1]
    for each in wrong:
        damage(filled, MEMORY, (field,), lambda _, each=each: each)
        assert repaired(filled) >= 1, each
        assert everything(filled)[MEMORY] == expected[MEMORY]
    assert everything(filled)[GLOBAL_CONFIG] == expected[GLOBAL_CONFIG]


def test_damaged_rows(filled: FirestoreStore) -> None:
    """Each number in a ledger row, made wrong by hand, is found and computed from its state."""
    expected = everything(filled)
    row = filled.read(ROW)
    assert row is not None
    for path in paths_to_numbers(row.data["contribution"]):
        damage(filled, ROW, ("contribution", *path), lambda number: number + 3)
        assert repaired(filled) >= 1, path
    found = everything(filled)
    assert found[GLOBAL_CONFIG] == expected[GLOBAL_CONFIG]
    assert found[MEMORY] == expected[MEMORY]


@pytest.mark.parametrize("gone", [ROW, MEMORY, GLOBAL_CONFIG, "all shards"])
def test_removed_documents(filled: FirestoreStore, gone: str) -> None:
    """A derived document that was removed by hand is made again as it was."""
    expected = everything(filled)
    documents = [each.path for each in filled.query(Query(SHARDS))] if "all" in gone else [gone]
    for path in documents:
        stored = filled.read(path)
        assert stored is not None
        filled.commit([Remove(path, stored.token)])
    assert repaired(filled) >= 1
    found = everything(filled)
    if gone != GLOBAL_CONFIG:  # the sweep's own figures come with its next run
        assert found[GLOBAL_CONFIG] == expected[GLOBAL_CONFIG]
    assert found[MEMORY] == expected[MEMORY]


def test_lost_triggers(store: FirestoreStore) -> None:
    """A state and an event whose triggers never came are found, and counted the usual way."""
    pipeline = Pipeline(store)
    pipeline.send(state_message(1, task_history=[task(1)]))
    pipeline.send(event_message("e1"))
    assert len(pipeline.triggers) == 2
    assert {finding.kind for finding in pipeline.audit().findings} == {"row", "event"}
    assert repaired(store) == 2
    stored = store.read(GLOBAL_CONFIG)
    assert stored is not None
    assert stored.data["total_agents_spawned"] == 1
    assert stored.data["system_metrics"]["coordination"]["total"] == 1


def test_what_is_under_way_is_no_drift(store: FirestoreStore) -> None:
    """Within its grace a trigger that has not come yet is counted as in flight, not as drift."""
    from firestate.audit.full import FullAudit  # noqa: PLC0415 - used here alone

    pipeline = Pipeline(store)
    pipeline.send(state_message(1))
    pipeline.send(event_message("e1"))
    report = FullAudit(store, timedelta(minutes=1)).run()
    assert report.findings == []
    assert report.in_flight == 2


def test_cheap_audit(filled: FirestoreStore) -> None:
    """The scheduled audit finds wrong sums in the shards, adds the difference, and says so."""
    assert cheap_audit(filled) == "no drift"
    filled.commit([Add(f"{SHARDS}/3", {"spawned": 2, "tasks": {"failed": -1}})])
    assert "repaired" in cheap_audit(filled)
    assert cheap_audit(filled) == "no drift"
    assert [f for f in Pipeline(filled).audit().findings if f.kind == "shards"] == []


def test_two_repairs_at_once(filled: FirestoreStore) -> None:
    """Of two audits that find the same drift only one repairs it: the other is refused."""
    from firestate.errors import ConflictError  # noqa: PLC0415
    from firestate.pipeline.shard_audit import REPAIRS, repair_shards  # noqa: PLC0415 - used here alone

    for _ in range(2):
        before = filled.read(REPAIRS)
        filled.commit([Add(f"{SHARDS}/3", {"spawned": 1})])
        repair_shards(filled, {"spawned": -1}, before)
        with pytest.raises(ConflictError):
            repair_shards(filled, {"spawned": -1}, before)
    assert cheap_audit(filled) == "no drift"
