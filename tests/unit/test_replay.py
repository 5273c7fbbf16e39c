"""Recorded runs become the messages that their agents would have published."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from firestate.client.outgoing import outgoing
from firestate.errors import InvalidMessageError
from firestate.replay.message_files import made_bad, read_messages
from firestate.replay.transcript_messages import read_transcript
from firestate.schema.messages import (
    EVENT_TOPIC,
    STATE_TOPIC,
    EventMessage,
    StateMessage,
    parse_event_message,
    parse_state_message,
)
from tests.harness import event_message, state_message, tombstone_message
from tests.unit.strategies import NOW

if TYPE_CHECKING:
    from pathlib import Path

    from firestate.client.outgoing import Outgoing

NAMED = {
    "history": [
        {"name": "Planner_A", "role": "user", "content": "begin"},
        {"name": "Coder", "role": "assistant", "content": "code"},
        {"name": "Coder", "role": "assistant", "content": "more"},
        {"name": "Planner_A", "role": "user", "content": None},
    ],
    "mistake_agent": "Coder",
    "mistake_step": "1",
    "mistake_reason": "wrong",
}
REMARKED = {
    "history": [
        {"role": "human", "content": "do it"},
        {"role": "Orchestrator (thought)", "content": "hm"},
        {"role": "Orchestrator (-> WebSurfer)", "content": "go"},
        {"role": "WebSurfer", "content": "went"},
    ],
}


def write(folder: Path, name: str, run: dict[str, Any]) -> Path:
    path = folder / name
    path.write_text(json.dumps(run))
    return path


def played(messages: list[Outgoing]) -> tuple[list[StateMessage], list[EventMessage]]:
    """Give the states and the events; each must be a message that is accepted."""
    states = [parse_state_message(m.data) for m in messages if m.topic == STATE_TOPIC]
    events = [parse_event_message(m.data) for m in messages if m.topic == EVENT_TOPIC]
    return [each for each in states if isinstance(each, StateMessage)], events


def test_a_run_with_names(tmp_path: Path) -> None:
    """Turns are states, changes handoffs, first turns spawns, a mistake is an error."""
    states, events = played(read_transcript(write(tmp_path, "1.json", NAMED), NOW))
    kinds = [event.event.event_type.value for event in events]
    assert kinds == ["spawn", "handoff", "error", "handoff", "termination", "termination"]
    error = events[2].event
    assert error.source_agent_id == "Coder"
    assert not error.success
    assert error.error_message == "wrong"
    assert len(states) == 4 + 2
    assert {each.state.agent_type for each in states} == {"Planner-A", "Coder"}
    assert {each.state.session_id for each in states} == {f"{tmp_path.name}-1"}
    last = {each.state.agent_id: each.state for each in states}
    assert {each.status.value for each in last.values()} == {"terminated"}
    assert last["Coder"].parent_agent_id == "Planner_A"
    assert last["Planner_A"].child_agent_ids == ["Coder"]
    outcomes = Counter(task["status"] for each in last.values() for task in each.task_history)
    assert outcomes == {"completed": 3, "failed": 1}


def test_a_run_with_remarks(tmp_path: Path) -> None:
    """A remark behind the role is no other speaker; no label, no error."""
    states, events = played(read_transcript(write(tmp_path, "2.json", REMARKED), NOW))
    assert {each.state.agent_id for each in states} == {"human", "Orchestrator", "WebSurfer"}
    kinds = Counter(event.event.event_type.value for event in events)
    assert kinds == {"spawn": 2, "handoff": 2, "termination": 3}


def test_runs_replay_the_same(tmp_path: Path) -> None:
    """The same file at the same start gives the same bytes: a second replay is all duplicates."""
    path = write(tmp_path, "1.json", NAMED)
    assert read_transcript(path, NOW) == read_transcript(path, NOW)


def test_folders_files_and_lines(tmp_path: Path) -> None:
    """A folder is read in order of names, transcripts and JSON Lines alike."""
    write(tmp_path, "b.json", NAMED)
    lines = [state_message(1), event_message("e"), tombstone_message(2)]
    raw = {"topic": "agent-state", "raw": "no json"}
    text = "\n".join([*map(json.dumps, lines), "", json.dumps(raw)])
    (tmp_path / "a.jsonl").write_text(text)
    (tmp_path / "notes.txt").write_text("not read")
    messages = read_messages([tmp_path], NOW)
    assert [message.topic for message in messages[:4]] == [
        STATE_TOPIC,
        EVENT_TOPIC,
        STATE_TOPIC,
        STATE_TOPIC,
    ]
    assert messages[3].data == b"no json"
    assert messages[4:] == read_transcript(tmp_path / "b.json", NOW)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "is not JSON"),
        ("[]", "is no message"),
        ("{}", "is no message"),
        ('{"topic": "elsewhere", "raw": ""}', "is no message"),
    ],
)
def test_a_line_that_is_no_message(tmp_path: Path, line: str, reason: str) -> None:
    """The error names the file and the line."""
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(state_message(1)) + "\n" + line)
    with pytest.raises(InvalidMessageError, match=rf"m\.jsonl:2: {reason}"):
        read_messages([path], NOW)


def test_a_file_that_is_no_transcript(tmp_path: Path) -> None:
    """The error names it."""
    with pytest.raises(InvalidMessageError, match=r"x\.json: is no transcript"):
        read_transcript(write(tmp_path, "x.json", {"history": []}), NOW)


def test_made_bad() -> None:
    """Each message twice, in an order that its seed alone decides."""
    messages = [outgoing(event_message(f"e{n}")) for n in range(20)]
    bad = made_bad(messages, duplicate=True, shuffle_seed=3)
    assert Counter(m.data for m in bad) == {m.data: 2 for m in messages}
    assert bad == made_bad(messages, duplicate=True, shuffle_seed=3)
    assert bad != made_bad(messages, duplicate=True, shuffle_seed=4)
    assert made_bad(messages, duplicate=False, shuffle_seed=None) == messages
