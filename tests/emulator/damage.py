"""Damage made by hand, and its repair."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from firestate.audit.repair import audit_and_repair
from firestate.pipeline.roll_up import RollUp
from firestate.pipeline.sweep import swept_figures
from firestate.stores.protocol import Update
from tests.harness import (
    Pipeline,
    event_message,
    state_message,
    task,
    tombstone_message,
)

if TYPE_CHECKING:
    from firestate.stores.firestore import FirestoreStore

MEMORY = "agent_memory/Developer_a_1"
ROW = f"{MEMORY}/sessions/s1"


def fill(store: FirestoreStore) -> None:
    """Store a bit of everything that is counted."""
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
    swept_at = store.now()
    figures = swept_figures(store, swept_at)
    RollUp(store, interval_seconds=0).fold({**figures, "swept_at": swept_at})
    findings = pipeline.audit().findings
    assert findings == [], findings


def repaired(store: FirestoreStore) -> int:
    """Repair; give how much was found; afterwards nothing more must be."""
    roll_up = RollUp(store, interval_seconds=0)
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
