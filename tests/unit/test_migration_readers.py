"""What is read from old states: their shapes, their words, and what is kept of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestate.migration.formats.readers import readers
from firestate.migration.formats.records import Record, Refusal
from firestate.migration.formats.synonyms import hinted_type
from tests.migration.migration_run import SAMPLES, old_event, old_state
from tests.unit.old_file_samples import DATE, NINE, opened, records_of
from tests.unit.strategies import json_values


def state_of(**changes: Any) -> Record:
    """Give the record of one old state."""
    (record,) = records_of(old_state(**changes))
    return record


@pytest.mark.parametrize("path", sorted(SAMPLES.rglob("*.*")), ids=lambda path: str(path.name))
def test_each_sample_is_recognised_by_one_reader_alone(path: Any) -> None:
    """Formats exclude one another: in which order readers are asked does not matter."""
    value = json.loads(path.read_bytes())
    value = json.loads(value) if isinstance(value, str) else value
    (found,) = [each.NAME for each in readers() if each.recognises(value, path.name)]
    folders = {"adk": "google-adk", "states": "agent-states", "logs": "coordination-log"}
    folders["config"] = "system-config"
    assert found == folders.get(path.parent.name, path.parent.name)


@pytest.mark.parametrize(
    ("value", "positions"),
    [
        (old_state(), [""]),
        ({"status": "idle", "session_id": "s"}, [""]),
        ({"current_task": "x", "session_id": "s"}, [""]),
        ({"status": "running", "last_active": "2025-01-04T09:00:00", "metrics": {}}, [""]),
        (
            {"agents": {"a": {"status": "idle"}, "b": {"agent_type": "QA"}}},
            ["agents.a", "agents.b"],
        ),
        ({"agent_states": {"a": old_state()}}, ["agent_states.a"]),
        ([old_state(), {"status": "idle", "last_active": 5}], ["[0]", "[1]"]),
        ({"a": old_state(), "b": old_state()}, ["a", "b"]),
    ],
)
def test_the_shapes_of_states(value: Any, positions: list[str]) -> None:
    """One state, agents by their ids, a list, a system's status."""
    assert opened(value)[0] == "agent-states"
    assert [record.position for record in records_of(value)] == positions


@pytest.mark.parametrize(
    "value",
    [
        [1, 2],
        {"status": "idle"},
        {"name": "x", "version": "1.0", "dependencies": {"status": "idle"}},
        {"a": {"status": "idle"}, "b": {"status": "gone fishing"}},
        {"agents": {"a": {"model": "large"}}},
        {"events": [], "agents": [], "name": "x"},
        [old_state(), 1, 2],
    ],
)
def test_what_is_no_state(value: Any) -> None:
    """One word alone makes no state, nor does a list that mostly holds other things."""
    with pytest.raises(Exception, match="no state, log or configuration"):
        opened(value)


@pytest.mark.parametrize(
    "value", [None, {}, [], {"events": []}, {"agents": {}, "events": [], "agent_states": None}]
)
def test_what_holds_nothing(value: Any) -> None:
    """A log or a list in which nothing is yet is no mistake: there is nothing to do."""
    assert opened(value) == ("empty", [])


def test_a_systems_status_with_its_agents_beside_it() -> None:
    """They are the agents; a map in the state of one agent is its own affair."""
    status = {"status": "active", "last_active": "2025-01-04T09:00:00"}
    agents = {"dev_1": old_state(), "qa_1": {"status": "idle"}}
    one, two = records_of(status | {"agents": agents})
    assert (one.position, two.position) == ("agents.dev_1", "agents.qa_1")
    assert one.left["beside.status"] == "active"
    (record,) = records_of(old_state(agents=agents))
    assert (record.position, record.left["agents"]) == ("", agents)


def test_names_of_agents_of_whom_nothing_is_known() -> None:
    """They are no empty file: it names somebody."""
    with pytest.raises(Exception, match="no state"):
        opened({"agents": {"dev_1": {}, "qa_1": {}}})


def test_names_alone_need_the_name_of_a_file() -> None:
    """A map of names with statuses is taken for agents where the file is named so."""
    value = {"Aria": {"status": "idle"}, "Capri": {"status": "running"}}
    assert [each.fields["agent_id"] for each in records_of(value, "names_state.json")] == [
        "Aria",
        "Capri",
    ]
    with pytest.raises(Exception, match="no state"):
        opened(value, "other.json")


@pytest.mark.parametrize(
    ("changes", "field", "value", "kept"),
    [
        ({"status": "running"}, "status", "active", "running"),
        ({"status": "Stopped"}, "status", "terminated", "Stopped"),
        ({"status": "IDLE"}, "status", "idle", "IDLE"),
        ({"status": "fishing"}, "status", "idle", "fishing"),
        ({"status": {"a": 1}}, "status", "idle", {"a": 1}),
        ({"task_status": "running"}, "task_status", "in_progress", "running"),
        ({"agent_type": 3}, "agent_type", "Agent", 3),
        ({"session_id": 1.5}, "session_id", "legacy", 1.5),
        ({"session_id": ""}, "session_id", "legacy", ""),
        ({"last_updated": "soon"}, "last_updated", NINE, "soon"),
        ({"last_updated": "2025-01-04T10:00:00+01:00"}, "last_updated", NINE, None),
        ({"last_updated": "2025-01-04T09:00:00Z"}, "last_updated", NINE, None),
        ({"last_updated": NINE.timestamp()}, "last_updated", NINE, None),
        ({"last_updated": int(NINE.timestamp() * 1000)}, "last_updated", NINE, None),
    ],
)
def test_a_states_words(changes: dict[str, Any], field: str, value: object, kept: object) -> None:
    """Old words become today's, and stay beside them; what is no good for a field does as well."""
    record = state_of(**changes)
    assert record.fields[field] == value
    assert record.left.get(field) == kept


def test_old_names_of_fields() -> None:
    """`config` and `tools` are known; a field of another kind by that name is left as it is."""
    record = state_of(config={"m": 1}, tools=["t"], agent_config="x", metrics=[1], metric=2)
    assert record.fields["agent_config"] == {"m": 1}
    assert record.fields["tools_enabled"] == ["t"]
    assert record.left == {
        "status": "running",
        "agent_config": "x",
        "metrics": [1],
        "metric": 2,
    } | {"task_history[0].status": "done"}
    assert "config is agent_config" in record.mapped


def test_what_was_guessed_is_marked() -> None:
    """An agent without names has those of its content, and the date of its file."""
    one, two = records_of([{"status": "error", "current_task": x} for x in ("a", "b")])
    assert set(one.guessed) == {"agent_id", "agent_type", "session_id"} | {
        "created_at",
        "last_updated",
        "last_active",
    }
    assert one.fields["agent_id"] != two.fields["agent_id"]
    assert one.fields["last_updated"] == DATE
    assert (one.fields["agent_type"], one.fields["session_id"]) == ("Agent", "legacy")


def test_a_systems_status() -> None:
    """It becomes an agent of type System, what it does is its task."""
    sample = json.loads((SAMPLES / "states" / "autonomous_status.json").read_text())
    (record,) = records_of(sample)
    assert record.fields["agent_type"] == "System"
    assert record.fields["current_task"] == "watching"
    assert record.fields["performance_metrics"] == {"cpu": 0.4, "cycles": 1200}
    assert opened(sample | {"emergency_stop": True})[0] == "system-config"


def test_broken_entries_are_refused_by_their_paths() -> None:
    """Those around them arrive; what stands beside agents is kept with the first that does."""
    found = opened([old_state(), None, old_state("b")])[1]
    assert [each.place for each in found if isinstance(each, Refusal)] == ["[1]"]
    found = opened({"agents": {"a": 5, "b": old_state()}, "saved": "today"})[1]
    assert isinstance(found[0], Refusal)
    assert found[0].place == "agents.a"
    assert isinstance(found[1], Record)
    assert found[1].left["beside.saved"] == "today"
    found = opened({"events": [old_event(), 5, old_event()]})[1]
    assert [each.place for each in found if isinstance(each, Refusal)] == ["events[1]"]


@given(st.dictionaries(st.sampled_from(sorted(old_state())), json_values))
def test_any_value_in_any_field_of_a_state_is_read(changes: dict[str, Any]) -> None:
    """Nothing that a field may hold breaks the reader; what is no state is refused."""
    for reader in readers():
        value = old_state() | changes
        if reader.recognises(value, "x.json"):
            assert reader.NAME == "agent-states"
    assert hinted_type("developer_1") == "Developer"
