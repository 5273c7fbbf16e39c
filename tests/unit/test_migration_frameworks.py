"""What is read from the files of other frameworks: their agents, their handoffs, all they hold."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestate.errors import InvalidMessageError
from firestate.limits import MAX_NESTING
from firestate.migration.formats.readers import readers
from firestate.migration.formats.records import Facts, Record, RecordKind, Refusal
from tests.migration.migration_run import SAMPLES
from tests.unit.json_leaves import built_of, document_of, legacy_of, lost
from tests.unit.old_file_samples import DATE, opened, records_of
from tests.unit.strategies import json_values

FRAMEWORKS = ("adk", "autogen", "letta", "metagpt")


def sample(name: str) -> Any:
    """Give the JSON of a sample; one that was written as a text is parsed twice."""
    value = json.loads((SAMPLES / name).read_bytes())
    return json.loads(value) if isinstance(value, str) else value


def ids(records: list[Record]) -> list[str]:
    """Name the agents, in the order of the file."""
    return [each.fields["agent_id"] for each in records if each.kind is RecordKind.STATE]


@pytest.mark.parametrize(
    "path",
    [path for name in FRAMEWORKS for path in sorted((SAMPLES / name).iterdir())],
    ids=lambda path: f"{path.parent.name}-{path.name}",
)
def test_nothing_of_a_sample_is_lost(path: Any) -> None:
    """Each word and number of a file is in one of its documents, and each document is valid."""
    value = sample(f"{path.parent.name}/{path.name}")
    records = opened(value, path.name)[1]
    built = [built_of(each, "m-1") for each in records if isinstance(each, Record)]
    if not built:
        assert [each.place for each in records if isinstance(each, Refusal)] == ["agents"]
        return
    keys = {repr(key) for key in _keys(value)}
    sessions = {
        repr(record.fields["session_id"]) for record in records if isinstance(record, Record)
    }
    _without_secrets(value)
    missing = {each for each in lost(value, built) if each not in keys | sessions}
    dated = {each for each in missing if each.startswith("'20")}  # a time, as a time
    assert missing - dated == set()


def _without_secrets(value: dict[str, Any]) -> None:
    for each in (value, *value.get("agents", ())):
        if isinstance(each, dict):
            each.pop("secrets", None)
            each.pop("tool_exec_environment_variables", None)


def _keys(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(_keys, value))
    if isinstance(value, dict):
        return set(value).union(*map(_keys, value.values()))
    return set()


@pytest.mark.parametrize(
    ("name", "agents", "events"),
    [
        ("adk/transfer.session.json", ["planner", "coder"], 1),
        ("adk/context_transfer.session.json", ["planner", "coder"], 1),
        ("adk/before_untouched.session.json", ["team"], 0),
        ("autogen/one_agent.json", ["coder"], 0),
        (
            "autogen/before_round_robin.json",
            ["group_chat_manager", "planner", "critic", "owner"],
            0,
        ),
        ("autogen/swarm_handoff.json", ["planner", "coder", "SwarmGroupChatManager"], 2),
        ("letta/planner_v1.af", ["planner"], 0),
        ("letta/in_a_string.af", ["planner"], 0),
        ("letta/team_with_group.af", ["lead", "coder", "tester"], 0),
        ("metagpt/software_team.json", ["Eve", "Alex", "Kim"], 0),
        ("metagpt/no_roles.json", ["team"], 0),
    ],
)
def test_who_is_in_a_sample(name: str, agents: list[str], events: int) -> None:
    """Each agent has a state, each handoff an event, all in one session."""
    records = records_of(sample(name), name.rpartition("/")[2])
    assert ids(records) == agents
    assert [each.fields["event_type"] for each in records if each.kind is RecordKind.EVENT] == (
        ["handoff"] * events
    )
    assert len({each.fields["session_id"] for each in records}) == 1
    assert all("status" in each.guessed for each in records if each.kind is RecordKind.STATE)


def test_teams_within_teams() -> None:
    """The inner agents are named by their team, which is their parent."""
    records = records_of(sample("autogen/team_in_team.json"))
    parents = {each.fields["agent_id"]: each.fields.get("parent_agent_id") for each in records}
    assert parents["builders.coder"] == "builders"
    assert parents["builders"] is None


def test_what_a_file_of_letta_says() -> None:
    """Blocks are the memory, a group's manager is the parent, tools are named."""
    lead, coder, _ = records_of(sample("letta/team_with_group.af"), "x.af")
    assert coder.fields["parent_agent_id"] == lead.fields["agent_id"]
    (tester,) = records_of(sample("letta/tester_tools_v1.af"), "x.af")
    assert all(block["type"] == "block" for block in tester.fields["memory_context"].values())
    assert tester.fields["tools_enabled"]


def test_letta_without_ids_or_with_odd_ones() -> None:
    """Blocks and tools that no agent names are kept, agents of one name are told apart."""
    value = {
        "agents": [{"name": "a", "id": [1], "tools": ["x"]}, {"name": "a"}, {"id": "z"}, {}],
        "blocks": [{"label": "spare-block"}, {"id": "b", "v": 1}, {"id": "b", "v": 2}],
        "tools": [{"name": "spare-tool"}],
        "groups": [{"manager_config": {"manager_agent_id": [1]}, "agent_ids": 5}],
    }
    found = opened(value)[1]
    records = [each for each in found if isinstance(each, Record)]
    assert ids(records)[:2] == ["a", "a-2"]
    assert [each.place for each in found if isinstance(each, Refusal)] == ["agents[3]"]
    assert lost(value, map(built_of, records)) == set()


def test_small_sessions_of_adk() -> None:
    """Who is silent has the name of the app; both `state` and `context` are kept."""
    value = {
        "id": "s",
        "appName": "app",
        "state": {"a": "in state"},
        "context": {"b": "in context"},
        "events": [{"author": "user", "content": {"parts": [{"text": "hello"}]}}],
    }
    (record,) = records_of(value)
    assert record.fields["agent_id"] == "app"
    assert record.fields["memory_context"] == {"a": "in state"}
    assert lost(value, [built_of(record)]) == set()


def test_invocations_of_adk_are_tasks() -> None:
    """Each has its tools and its end; one with an error code has failed."""
    event = {"author": "a", "invocationId": "i", "errorCode": "SAFETY"}
    (record,) = records_of({"id": "s", "appName": "app", "events": [event, event]})
    assert record.fields["task_history"] == [
        {"task_id": "i", "kind": "invocation", "status": "failed", "tools": []}
    ]
    (record,) = records_of(sample("adk/tools_and_state.session.json"))
    assert any(each["tools"] for each in record.fields["task_history"])


@pytest.mark.parametrize("agents", [{}, {"collector": {}}])
def test_a_team_of_nobody_is_refused(agents: dict[str, Any]) -> None:
    """A file of which nothing would arrive is named."""
    (found,) = opened({"type": "TeamState", "agent_states": agents})[1]
    assert isinstance(found, Refusal)
    assert found.place == "agent_states"


def test_finished_tasks_of_metagpt_are_history() -> None:
    """They have succeeded or failed, two roles of one name are told apart by their keys."""
    (record,) = records_of(sample("metagpt/with_plan.json"))
    assert {each["status"] for each in record.fields["task_history"]} <= {"completed", "failed"}
    roles = {"One": {"name": "Eve", "key": "k"}, "Two": {"name": "Eve"}, "Three": 5}
    value = {"env": {"roles": roles}, "idea": "x"}
    found = opened(value)[1]
    records = [each for each in found if isinstance(each, Record)]
    assert ids(records) == ["One", "Two"]
    assert [each.place for each in found if isinstance(each, Refusal)] == ["env.roles.Three"]
    assert lost(value | {"env": {"roles": {**roles, "Three": 1}}}, map(built_of, records)) <= {"1"}


RUN: dict[str, Any] = {
    "history": [
        {"role": "Lead (thought)", "content": "go"},
        {"role": "Coder", "content": "done", "grid": [[1]]},
    ],
    "mistake_agent": "Coder",
    "mistake_step": "1",
    "mistake_reason": "wrong",
    "question": "why?",
}


def test_a_transcript() -> None:
    """Speakers have ended, who spoke after whom are events, each word is kept with its speaker."""
    records = records_of(RUN)
    kinds = [each.fields["event_type"] for each in records if each.kind is RecordKind.EVENT]
    assert kinds == ["spawn", "handoff", "error", "termination", "termination"]
    assert ids(records) == ["Lead", "Coder"]
    built = [built_of(each, None) for each in records]
    assert lost(RUN, built) == set()
    assert {document_of(each).get("status") for each in built[-2:]} == {"terminated"}
    assert legacy_of(built[-1])["turns"][0]["grid"] == [[1]]
    dated = [each for each in records if each.fields.get("timestamp", DATE) > DATE]
    assert dated == []


@pytest.mark.parametrize(
    "changes",
    [{"mistake_step": "x"}, {"mistake_step": [1]}, {"mistake_agent": 5}, {"mistake_step": 1e400}],
)
def test_a_mistake_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    """The run's label is named as what is wrong."""
    facts = Facts("x.json", DATE)
    (reader,) = [each for each in readers() if each.NAME == "transcript"]
    found = [each for each in reader.read(RUN | changes, facts) if isinstance(each, Refusal)]
    assert [each.place for each in found] == ["mistake_step"]


PATHS = [path for name in FRAMEWORKS for path in sorted((SAMPLES / name).iterdir())]


@given(st.data())
def test_any_value_anywhere_in_a_sample_is_read_or_refused(data: st.DataObject) -> None:
    """One part of a file replaced by anything breaks no reader."""
    path = data.draw(st.sampled_from(PATHS))
    value = sample(f"{path.parent.name}/{path.name}")
    place: Any = value
    for _ in range(MAX_NESTING):
        keys = list(place) if isinstance(place, dict) else range(len(place))
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or data.draw(st.integers(0, 3)) == 0:
            place[key] = data.draw(json_values)
            break
        place = place[key]
    for reader in readers():
        if reader.recognises(value, path.name):
            facts = Facts(path.name, datetime(2025, 1, 4, tzinfo=UTC))
            for found in reader.read(value, facts):
                if isinstance(found, Record) and found.kind is not RecordKind.CONTROLS:
                    with suppress(InvalidMessageError):
                        built_of(found, "m-1")
