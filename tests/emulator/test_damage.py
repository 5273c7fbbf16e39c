"""Documents that are not as they were written: damaged, expired, come back; nothing is held up."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from firestate.counters.contribution import CODE
from firestate.pipeline.shard_audit import cheap_audit
from firestate.schema.ids import EVENTS, GLOBAL_CONFIG
from firestate.schema.values import time_text
from firestate.stores.protocol import Query, Remove, Where
from tests.emulator.damage import MEMORY, ROW, damage, paths_to_numbers, repaired
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
    assert row.data["version"][0] == CODE + 1
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
    then = NOW - timedelta(days=200)
    for number in range(4):
        error = {"error_type": f"E{number % 2}"}
        old = event_message(
            f"old-{number}", timestamp=time_text(then), success=False, context=error
        )
        pipeline.send(old, then)
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
    report = pipeline.trigger(pipeline.triggers.pop())
    assert MEMORY in report.detail, "it is told, not passed over"
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
