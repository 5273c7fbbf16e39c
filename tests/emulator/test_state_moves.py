"""States of an earlier release on Firestore: moved with large parts, and audited field by field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.operations.rederive import rederive
from firestate.queries import PARTS_OF_OLD
from firestate.schema.ids import Identity
from firestate.stored_states import read_state
from firestate.stores.protocol import Create, Remove
from tests.harness import NOW, Pipeline, event_message, state_message, task

if TYPE_CHECKING:
    from firestate.stores.firestore import FirestoreStore

ALIKE = [
    Identity("QA", "red_team", "lead_7"),
    Identity("QA", "red", "team_lead_7"),
    Identity("QA", "red_team_lead", "7"),
    Identity("QA", "red_team", "lead_7~8"),
    Identity("Prüfer", "für_größe", "maß_🦊"),
    Identity("A", "x" * 400, "_" * 2 + "y" * 398),
]
ODD_VALUES: dict[str, Any] = {
    "memory_context": {
        "m": {"type": "fact", "importance": 0.1, "at": "2026-01-01T00:00:00Z"},
        "numbers": [0, -0.0, 1.0, 1e300, 5e-324, 2**63 - 1, -(2**63), 0.1 + 0.2],
        "texts": ["", "\0", "ä", "🦊", "__x", "~"],
        "empty": {"map": {}, "list": [], "none": None, "yes": True},
    },
    "performance_metrics": {"whole": 5, "part": 0.5, "none": -0.0},
    "agent_config": {"a.b": 1, "`": 2, "~/": [{"x": {"y": []}}]},
    "tools_enabled": ["editor", ""],
}


def of(who: Identity, revision: int, **changes: Any) -> dict[str, Any]:
    return state_message(revision, **who._asdict(), **changes)


def test_agents_whose_ids_join_alike_are_counted_exactly(store: FirestoreStore) -> None:
    """Each has its own documents, whatever is in their ids; the audit finds 0 drift."""
    pipeline = Pipeline(store)
    for number, who in enumerate(ALIKE):
        pipeline.send(of(who, 1, task_history=[task(number)]))
        pipeline.send(of(who, 2, status="busy", task_history=[task(number), task(9, "cancelled")]))
        source = {"source_agent_type": who.agent_type, "source_agent_id": who.agent_id}
        pipeline.send(event_message(f"e{number}", session_id=who.session_id, **source))
    pipeline.settle()
    pipeline.fold()
    assert pipeline.audit().findings == []
    for who in ALIKE:
        state = read_state(store, who).state
        assert state is not None
        assert state.path == who.state_path


def test_no_value_that_firestore_keeps_looks_edited(store: FirestoreStore) -> None:
    """What is read back has the digest of what came, for values of every kind."""
    pipeline = Pipeline(store)
    history = [task(1, started_at="2026-01-01T00:00:00.5+02:00", note=-0.0, deep={"a": [{"b": 1}]})]
    pipeline.send(of(ALIKE[0], 1, **ODD_VALUES, task_history=history, current_task="t"))
    pipeline.settle()
    pipeline.fold()
    assert pipeline.audit().findings == []


def test_a_state_moves_with_parts_that_no_single_request_holds(store: FirestoreStore) -> None:
    """Six parts of 900 kB go along with a state of nearly as much."""
    who = ALIKE[0]
    pipeline = Pipeline(store)
    pipeline.send(of(who, 1, memory_context={"m": "x" * 880_000}))
    pipeline.settle()
    pipeline.fold()
    stored = store.read(who.state_path)
    assert stored is not None
    former = Create(who.former_state_path, stored.data)
    store.commit([former, Remove(stored.path, stored.token)])
    parts = {f"abc-{number:04d}": bytes([number]) * 900_000 for number in range(6)}
    for name, data in parts.items():
        store.commit([Create(f"{who.former_state_path}/legacy/{name}", {"data": data})])
    outcomes = [report.outcome.value for report in rederive(store, clock=lambda: NOW)]
    assert outcomes == ["moved", "unchanged"]
    found = store.query(PARTS_OF_OLD.query(under=who.state_path))
    assert {part.id: part.data["data"] for part in found} == parts
    assert not list(store.query(PARTS_OF_OLD.query(under=who.former_state_path)))
    assert store.read(who.former_state_path) is None
    assert pipeline.audit().findings == []
