"""Models, Firestore documents and JSON hold the same."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestate.errors import InvalidMessageError, SchemaTooNewError
from firestate.schema.enums import AgentStatus, CoordinationEventType, TaskStatus
from firestate.schema.models import AgentMemory, AgentState, CoordinationEvent, SystemState
from firestate.schema.serialization import from_document, from_json, to_document, to_json
from firestate.schema.upgrades import (
    document_version,
    upgrade_document,
    upgrade_message,
    upgraded,
)
from tests.harness import event_message
from tests.unit.strategies import agent_types, any_times, good_maps, ids, texts, totals

if TYPE_CHECKING:
    from pydantic import BaseModel

agent_states = st.builds(
    AgentState,
    agent_id=ids,
    agent_type=agent_types,
    session_id=ids,
    status=st.sampled_from(AgentStatus),
    created_at=any_times,
    last_updated=any_times,
    last_active=any_times,
    memory_context=good_maps,
    task_history=st.lists(good_maps, max_size=2),
    performance_metrics=st.dictionaries(
        st.sampled_from(["a", "b.c"]), st.floats(allow_nan=False, allow_infinity=False)
    ),
    agent_config=good_maps,
    tools_enabled=st.lists(texts, max_size=2),
    current_task=st.none() | texts,
    task_status=st.none() | st.sampled_from(TaskStatus),
    parent_agent_id=st.none() | ids,
    parent_agent_type=st.none() | agent_types,
    parent_session_id=st.none() | ids,
    child_agent_ids=st.lists(ids, max_size=2),
    collaboration_context=good_maps,
    task_totals=st.none()
    | st.fixed_dictionaries(
        {
            "kinds": st.dictionaries(st.just("code"), totals()),
            "errors": st.dictionaries(st.just("Timeout"), st.integers(0, 9)),
        }
    ),
)
outcomes = st.sampled_from(
    [
        {"success": True},
        {"success": False},
        {"success": False, "cancelled": True},
        {"success": True, "cancelled": False},
    ]
)
coordination_events = st.builds(
    lambda outcome, **fields: CoordinationEvent(**outcome, **fields),
    outcome=outcomes,
    event_id=ids,
    event_type=st.sampled_from(CoordinationEventType),
    timestamp=any_times,
    source_agent_id=ids,
    source_agent_type=agent_types,
    context=good_maps,
    task_context=good_maps,
    target_agent_id=st.none() | ids,
    target_agent_type=st.none() | agent_types,
    session_id=st.none() | ids,
    error_message=st.none() | texts,
    duration_seconds=st.none() | st.floats(0, 1e9),
)
agent_memories = st.builds(
    AgentMemory,
    agent_type=agent_types,
    agent_id=ids,
    memory_count=st.integers(0),
    last_memory_sync=any_times,
    learning_context=good_maps,
    learned_patterns=good_maps,
    decision_history=st.lists(good_maps, max_size=2),
    performance_insights=good_maps,
    memory_types_count=st.dictionaries(texts, st.integers(0, 9), max_size=2),
    importance_distribution=st.dictionaries(texts, st.integers(0, 9), max_size=2),
    recent_activity=st.lists(good_maps, max_size=2),
)
system_states = st.builds(
    SystemState,
    system_version=texts,
    last_updated=any_times,
    active_sessions=st.lists(ids, max_size=2),
    total_agents_spawned=st.integers(0),
    current_agent_count=st.integers(0),
    system_metrics=good_maps,
    error_counts=good_maps,
    feature_flags=st.dictionaries(texts, st.booleans(), max_size=2),
    global_config=good_maps,
    emergency_stop=st.booleans(),
    emergency_reason=st.none() | texts,
)
models = st.one_of(agent_states, coordination_events, agent_memories, system_states)


@given(models)
def test_a_document_holds_all_of_a_model(model: BaseModel) -> None:
    """What is written to Firestore reads back as the same model."""
    document = to_document(model)
    assert from_document(type(model), {**stored(model), "epoch": 1}) == model
    _assert_plain(document)


def stored(model: BaseModel) -> dict[str, Any]:
    """Return a model's document with the version that ingest stores it under."""
    document = to_document(model)
    return {**document, "schema_version": document_version(document)}


@given(models)
def test_json_holds_all_of_a_model(model: BaseModel) -> None:
    """What is written as JSON reads back as the same model."""
    assert from_json(type(model), json.loads(json.dumps(to_json(model)))) == model


@given(models)
def test_a_document_says_the_same_as_json(model: BaseModel) -> None:
    """Both ways round lead to one model."""
    assert from_json(type(model), to_json(from_document(type(model), stored(model)))) == model


def _assert_plain(value: object) -> None:
    """Enums as strings and times as times: what Firestore's client takes."""
    if isinstance(value, dict):
        for item in value.values():
            _assert_plain(item)
    elif isinstance(value, list):
        for item in value:
            _assert_plain(item)
    else:
        assert type(value) in (type(None), bool, int, float, str, datetime)


def test_a_plain_map_is_not_copied() -> None:
    """The largest take a hundred times their JSON in memory; enums inside are still made plain."""
    context: dict[str, Any] = {"a": [{"b": {}}]}
    fields: dict[str, Any] = event_message("e", context=context)["event"]
    document = to_document(CoordinationEvent.model_validate(fields))
    assert document["context"]["a"] is context["a"]
    fields["context"] = {"a": [AgentStatus.IDLE, {}], "b": [1]}
    plain = to_document(CoordinationEvent.model_validate(fields))["context"]
    assert type(plain["a"][0]) is str
    assert plain == fields["context"]


def test_required_fields_come_first() -> None:
    """Optional ones follow, each with a default."""
    for model in (AgentState, CoordinationEvent, AgentMemory, SystemState):
        required = [info.is_required() for info in model.model_fields.values()]
        assert required == sorted(required, reverse=True), model


def test_models_do_not_change() -> None:
    """An instance is a value."""
    state = CoordinationEvent.model_validate(
        {
            "event_id": "e",
            "event_type": "spawn",
            "timestamp": "2026-01-01T00:00:00Z",
            "source_agent_id": "a",
            "source_agent_type": "QA",
            "context": {},
            "task_context": {},
            "success": True,
        }
    )
    with pytest.raises(ValueError, match="frozen"):
        state.event_id = "f"  # type: ignore[misc] # what mypy says too


def _step_1(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "steps": [*data.get("steps", []), 1]}


def _step_2(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "steps": [*data.get("steps", []), 2]}


@pytest.mark.parametrize(("version", "steps"), [(1, [1, 2]), (2, [2]), (3, None)])
def test_upgrades_run_from_the_version_on(version: int, steps: list[int] | None) -> None:
    """Each step runs once, in order, and only those that the data has not seen."""
    result = upgraded({"schema_version": version}, version, (_step_1, _step_2))
    assert result["schema_version"] == 3
    assert result.get("steps") == steps


@pytest.mark.parametrize("version", [0, 4, -1, True, "1", None, 1.0])
def test_versions_that_are_none_of_ours(version: object) -> None:
    """A version from the future, or no version at all, is refused and not guessed."""
    with pytest.raises(SchemaTooNewError, match="this release knows 1 to 3"):
        upgraded({}, version, (_step_1, _step_2))


def test_todays_versions() -> None:
    """A missing version is the first; a message of the future is refused as a message."""
    assert upgrade_document({"a": 1}) == {"a": 1, "schema_version": 2}
    assert upgrade_message({"a": 1}) == {"a": 1, "schema_version": 2}
    assert upgrade_document({"schema_version": 2}) == {"schema_version": 2}
    with pytest.raises(InvalidMessageError, match="schema_version: is 3"):
        upgrade_message({"schema_version": 3})
    with pytest.raises(SchemaTooNewError):
        upgrade_document({"schema_version": 3})
