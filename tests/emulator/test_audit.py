"""The audit finds damage made by hand in every counter and analytics field, and repairs it."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from firestate.audit.repair import audit_and_repair
from firestate.pipeline.roll_up import RollUp
from firestate.pipeline.shard_audit import _MEMORY_SUMS, _ROW_SUMS, cheap_audit
from firestate.schema.ids import EVENTS, GLOBAL_CONFIG, MEMORIES, SESSIONS, SHARDS
from firestate.schema.values import time_text
from firestate.stores.protocol import Add, Query, Remove, Update, Where
from tests.emulator.harness import (
    NOW,
    Pipeline,
    event_message,
    everything,
    state_message,
    task,
    tombstone_message,
)

if TYPE_CHECKING:
    from firestate.stores.firestore import FirestoreStore

INDEXES = Path(__file__).parents[2] / "firestore.indexes.json"
MEMORY = "agent_memory/Developer_a_1"
ROW = f"{MEMORY}/sessions/s1"


@pytest.fixture
def filled(store: FirestoreStore) -> FirestoreStore:
    """A store with a bit of everything that is counted."""
    pipeline = Pipeline(store)
    memories = {"m": {"type": "fact", "importance": 0.7}, "n": {"type": "lesson", "importance": 9}}
    for message in (
        state_message(1, task_history=[task(1), task(2, "failed")], memory_context=memories),
        state_message(1, session_id="s2", status="busy", task_history=[task(3, "cancelled")]),
        state_message(1, session_id="s3", status="terminated"),
        state_message(1, agent_id="gone", session_id="s4"),
        tombstone_message(2, agent_id="gone", session_id="s4"),
        event_message("e1", "spawn", duration_seconds=0.25),
        event_message("e2", success=False, context={"error_type": "Timeout"}),
        event_message("e3", "error", success=False, context={"error_type": "Crash"}),
    ):
        pipeline.send(message)
    pipeline.settle()
    RollUp(store, sleep=lambda _: None).fold(
        {"stale_agent_count": 0, "quarantine_count": 0, "swept_at": store.now()}
    )
    assert pipeline.audit().findings == []
    return store


def repaired(store: FirestoreStore) -> int:
    """Repair; give how much was found; afterwards nothing more must be."""
    roll_up = RollUp(store, sleep=lambda _: None)
    found = audit_and_repair(store, roll_up, timedelta(0)).drift
    assert Pipeline(store).audit().findings == []
    return found


def paths_to_numbers(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Give the path to every number inside `value`."""
    if isinstance(value, dict):
        return [p for name, item in value.items() for p in paths_to_numbers(item, (*path, name))]
    return [path] if isinstance(value, int | float) and not isinstance(value, bool) else []


def changed(value: Any, path: tuple[str, ...], by: Any) -> Any:
    """Give a copy of `value` with what lies at `path` replaced by what `by` makes of it."""
    if not path:
        return by(value)
    return {**value, path[0]: changed(value[path[0]], path[1:], by)}


def damage(store: FirestoreStore, document: str, path: tuple[str, ...], by: Any) -> None:
    stored = store.read(document)
    assert stored is not None
    store.commit(
        [Update(document, stored.token, {path[0]: changed(stored.data[path[0]], path[1:], by)})]
    )


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


def test_a_damaged_version(filled: FirestoreStore) -> None:
    """A row that claims to be ahead of its state would keep out all that is to come."""
    expected = everything(filled)
    damage(filled, ROW, ("version",), lambda _: [1, 10**15, 0])
    assert repaired(filled) >= 1
    pipeline = Pipeline(filled)
    pipeline.send(state_message(2, status="busy", task_history=[task(1), task(2, "failed")]))
    pipeline.settle()
    pipeline.fold()
    assert pipeline.audit().findings == []
    row = filled.read(ROW)
    assert row is not None
    assert row.data["contribution"]["status"] == "busy"
    found, before = everything(filled)[GLOBAL_CONFIG], expected[GLOBAL_CONFIG]
    assert found["total_agents_spawned"] == before["total_agents_spawned"]


def test_a_session_that_comes_back_after_its_document_expired(filled: FirestoreStore) -> None:
    """It is counted, also where its row was recounted before: the new document knows of none."""
    damage(filled, ROW, ("contribution", "tasks", "failed"), lambda number: number + 1)
    assert repaired(filled) >= 1
    state = filled.read("agent_states/Developer_a_1_s1")
    row = filled.read(ROW)
    assert state is not None
    assert row is not None
    assert row.data["version"][0] == 2
    filled.commit([Remove(state.path, state.token)])
    pipeline = Pipeline(filled)
    pipeline.send(state_message(1, epoch=2, status="error"))
    pipeline.settle()
    pipeline.fold()
    assert pipeline.audit().findings == []
    again = filled.read(ROW)
    assert again is not None
    assert again.data["contribution"]["status"] == "error"


def test_events_that_have_expired(filled: FirestoreStore) -> None:
    """What they added stays, and damage beside them takes nothing else away."""
    pipeline = Pipeline(filled)
    long_ago = time_text(NOW - timedelta(days=200))
    for number in range(4):
        error = {"error_type": f"E{number % 2}"}
        old = event_message(f"old-{number}", timestamp=long_ago, success=False, context=error)
        pipeline.send(old | {"migration": True})
    pipeline.settle()
    pipeline.fold()
    assert pipeline.audit().findings == []
    for event in list(filled.query(Query(EVENTS, [Where("timestamp", "<", NOW)]))):
        filled.commit([Remove(event.path, event.token)])
    expected = everything(filled)
    report = pipeline.audit()
    assert report.findings == []
    assert report.expired_events == 4
    assert cheap_audit(filled) == "no drift"

    for path in paths_to_numbers(expected[MEMORY]["learning_context"]["coordination"]):
        damage(filled, MEMORY, ("learning_context", "coordination", *path), lambda n: n + 5)
        assert pipeline.audit().drift >= 1
        damage(filled, MEMORY, ("learning_context", "coordination", *path), lambda n: n - 5)
    # An error type less: that figure is lost for the expired, and nothing else is.
    damage(filled, MEMORY, ("learning_context", "errors", "by_error_type"), lambda _: {})
    repaired(filled)
    found = everything(filled)
    assert (
        found[MEMORY]["learning_context"]["coordination"]
        == (expected[MEMORY]["learning_context"]["coordination"])
    )
    coordination = found[GLOBAL_CONFIG]["system_metrics"]["coordination"]
    assert coordination == expected[GLOBAL_CONFIG]["system_metrics"]["coordination"]


def test_every_sum_of_the_scheduled_audit_has_its_index() -> None:
    """Production refuses a sum over a field that is not indexed; the emulator does not."""
    overrides = json.loads(INDEXES.read_text())["fieldOverrides"]
    indexed = {
        (each["collectionGroup"], each["fieldPath"], index["queryScope"])
        for each in overrides
        for index in each["indexes"]
    }
    assert indexed == {
        *((SESSIONS, f"contribution.{name}", "COLLECTION_GROUP") for name in _ROW_SUMS),
        *((MEMORIES, f"learning_context.coordination.{n}", "COLLECTION") for n in _MEMORY_SUMS),
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (("memory_count",), "x"),
        (("counted",), None),
        (("counted", "rows", "decisions"), None),
        (("learned_patterns",), {"kinds": 1}),
        (("learning_context",), []),
    ],
)
def test_a_damaged_memory_holds_nothing_up(
    filled: FirestoreStore, field: tuple[str, ...], value: Any
) -> None:
    """A state and an event that meet it are counted, and it is whole again."""
    pipeline = Pipeline(filled)
    damage(filled, MEMORY, field, lambda _: value)
    pipeline.send(state_message(2, status="busy", task_history=[task(1), task(2), task(9)]))
    pipeline.settle()
    damage(filled, MEMORY, field, lambda _: value)
    pipeline.send(event_message("e9"))
    pipeline.settle()
    pipeline.fold()
    assert pipeline.audit().findings == []


def test_a_damaged_memory_with_triggers_lost(filled: FirestoreStore) -> None:
    """The repair mends the memory first, and then counts what was not."""
    pipeline = Pipeline(filled)
    damage(filled, MEMORY, ("memory_count",), lambda _: "x")
    pipeline.send(state_message(2, status="busy", task_history=[task(1), task(2), task(9)]))
    pipeline.send(event_message("e9"))
    assert repaired(filled) >= 3
