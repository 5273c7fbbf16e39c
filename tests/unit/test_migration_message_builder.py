"""From records to messages: each is valid, and nothing of the old object is lost."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from firestate.counters.contribution import contribution_of
from firestate.errors import InvalidMessageError
from firestate.limits import LEGACY_PART_BYTES, MAX_DOCUMENT_BYTES, MAX_HISTORY, MAX_NAMES
from firestate.migration.plan.message_builder import build_message, revision_of
from firestate.migration.plan.schema_fitting import fit_agent_id
from firestate.schema.messages import EventMessage, StateMessage
from firestate.schema.values import stored_size
from tests.migration.migration_run import old_event, old_state
from tests.unit.json_leaves import WRITER, built_of, document_of, legacy_of, lost
from tests.unit.old_file_samples import NINE, record_of


def state_with(**changes: Any) -> Any:
    """Build an old state with these changes."""
    return built_of(record_of(old_state(**changes)))


def event_with(**changes: Any) -> Any:
    """Build an old event with these changes; it has an id where they say none."""
    return built_of(record_of(old_event(**changes)), None if "event_id" in changes else "m-1")


def test_a_state_and_its_legacy() -> None:
    """What has a field goes there, the rest beside it; what was guessed is said."""
    old = {k: v for k, v in old_state(mood="good", grid=[[1]]).items() if "session" not in k}
    built = built_of(record_of(old))
    assert isinstance(built.message, StateMessage)
    assert built.path == "agent_states/Developer_dev_1_legacy"
    assert built.message.state.memory_context["legacy"] == {
        "format": "reader",
        "guessed": ["session_id"],
        "fields": {"mood": "good", "status": "running", "task_history[0].status": "done"},
        "unfit": '{"grid":[[1]]}',
    }
    assert built.kept == ("grid", "mood", "status", "task_history[0].status")
    assert (built.message.epoch, built.message.writer) == (0, WRITER)
    assert built.message.revision == revision_of(NINE) == 1_735_981_200_000_000


def test_a_state_that_says_all_has_no_legacy() -> None:
    """Nothing is added to what fits as it is."""
    built = state_with(status="idle", task_history=[])
    assert built.message.state.memory_context == {}
    assert built.guessed == frozenset()


def test_an_old_legacy_entry_makes_room() -> None:
    """One that the file itself has is kept below ours."""
    built = state_with(memory_context={"legacy": {"a": 1}, "b": 2})
    assert built.message.state.memory_context["b"] == 2
    assert legacy_of(built)["memory_context.legacy"] == {"a": 1}


@pytest.mark.parametrize(
    ("changes", "field", "value", "kept"),
    [
        ({"agent_type": "code_writer"}, "agent_type", "code-writer", {"agent_type": "code_writer"}),
        ({"agent_id": "a/b"}, "agent_id", fit_agent_id("a/b"), {"agent_id": "a/b"}),
        ({"agent_id": 7}, "agent_id", "7", {"agent_id": 7}),
        ({"session_id": "__x__"}, "session_id", fit_agent_id("__x__"), {"session_id": "__x__"}),
        ({"parent_agent_id": "\ud800"}, "parent_agent_id", "--de7f56",
            {"parent_agent_id": "\ud800"}),
        ({"parent_agent_id": {"a": 1}}, "parent_agent_id", None, {"parent_agent_id": {"a": 1}}),
        ({"current_task": ["x"]}, "current_task", None, {"current_task": ["x"]}),
        ({"current_task": "\udfff"}, "current_task", None, {"current_task": "\udfff"}),
        ({"task_status": "odd"}, "task_status", None, {"task_status": "odd"}),
        ({"tools": ["a", 5]}, "tools_enabled", ["a"], {"tools_enabled[1]": 5}),
        (
            {"tools": [{"name": "t", "grid": [[1]]}]},
            "tools_enabled",
            ["t"],
            {"tools_enabled[0]": {"name": "t", "grid": [[1]]}},
        ),
        ({"child_agents": ["a/b", "c"]}, "child_agent_ids", [fit_agent_id("a/b"), "c"],
            {"child_agent_ids[0]": "a/b"}),
        ({"metrics": {"n": 1, "p": "5%"}}, "performance_metrics", {"n": 1},
            {"performance_metrics.p": "5%"}),
        ({"metrics": {"n": 2**53 + 1}}, "performance_metrics", {},
            {"performance_metrics.n": 2**53 + 1}),
        ({"metrics": {"n": 2**80}}, "performance_metrics", {}, {"performance_metrics.n": 2**80}),
        ({"config": {"a": 1, "__x__": 2}}, "agent_config", {"a": 1}, {"agent_config.__x__": 2}),
        ({"config": {"a": [[1]]}}, "agent_config", {}, {"agent_config.a": [[1]]}),
        ({"config": {"": 1}}, "agent_config", {}, {"agent_config.": 1}),
        ({"config": {"\ud800": {"\ud800": 1}}}, "agent_config", {},
            {"agent_config.\ud800": {"\ud800": 1}}),
        ({"task_totals": {"kinds": 5}}, "task_totals", None, {"task_totals": {"kinds": 5}}),
        ({"deleted": True}, "status", "active", {"deleted": True}),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_kept_as_it_was(
    changes: dict[str, Any], field: str, value: object, kept: dict[str, Any]
) -> None:
    """The field has what of it can be stored, the legacy entry the whole."""
    built = state_with(task_history=[], **{"status": "active"} | changes)
    assert getattr(built.message.state, field) == value
    assert legacy_of(built) == kept


def test_an_unfit_task_still_counts() -> None:
    """Only what of an entry cannot be stored goes; what is no entry goes whole."""
    task = {"name": "t", "kind": "code", "status": "completed", "grid": [[1]], "\ud800": 2}
    built = state_with(task_history=[task, "x", task | {"status": "done"}], status="idle")
    ended = {"name": "t", "kind": "code", "status": "completed"}
    assert built.message.state.task_history == [ended, ended]
    assert legacy_of(built)["task_history[0].grid"] == [[1]]
    assert legacy_of(built)["task_history[1]"] == "x"


def test_mistakes_of_several_kinds_at_once() -> None:
    """One that hides another does not keep the state out."""
    built = state_with(
        memory_context={"big": "x" * 950_000, "grid": [[1]], "half": "\ud800", "fine": 1},
        task_status="odd",
        metrics={"a": "b"},
    )
    assert built.message.state.memory_context.keys() == {"fine", "legacy"}
    assert legacy_of(built)["memory_context.grid"] == [[1]]
    assert lost(old_state(memory_context={"grid": [[1]], "half": "\ud800"}), [built]) == set()


@pytest.mark.parametrize(
    "changes",
    [
        {"memory_context": {f"k{n}": "x" * 90_000 for n in range(20)}},
        {"memory_context": {"k": "x" * 3_000_000}},
        {"agent_config": {"k": "ö" * 500_000}},
        {"tools_enabled": ["x" * 2_000 for _ in range(MAX_NAMES)]},
        {"metrics": {f"{n:03d}" * 400: n for n in range(MAX_NAMES)}},
        {"current_task": "x" * 1_000_000},
        {"task_status": "x" * 1_000_000},
        {"parent_agent_id": {"x": "x" * 1_000_000}},
        {"collaboration_context": ["x" * 500_000, "y" * 500_000]},
        {"diary": ["x" * 1_000_000]},
        {"memory_context": {"k": list(range(120_000))}},
        {"task_history": [{"status": "completed", "out": "x" * 40_000}] * 100},
    ],
)
def test_what_is_too_large_goes_into_parts(changes: dict[str, Any]) -> None:
    """Each part fits into a document, together they are what they say they are."""
    built = state_with(**changes)
    entry = built.message.state.memory_context["legacy"]
    data = b"".join(built.parts[path] for path in sorted(built.parts))
    assert entry["parts"] == len(built.parts) > 0
    assert entry["bytes"] == len(data)
    assert entry["sha256"] == hashlib.sha256(data).hexdigest()
    assert all(len(part) <= LEGACY_PART_BYTES for part in built.parts.values())
    assert all(path.startswith(f"{built.path}/legacy/") for path in built.parts)
    assert stored_size(document_of(built)) < MAX_DOCUMENT_BYTES - 100_000
    assert lost(old_state(**changes), [built]) == set()


def test_an_event_that_is_too_large() -> None:
    """Its context goes into parts, what it says of itself stays."""
    built = event_with(context={"log": "x" * 1_000_000}, error="y" * 1_000, task={"a": "z"})
    assert isinstance(built.message, EventMessage)
    assert len(built.parts) == 2
    assert built.message.event.task_context == {"a": "z"}
    assert legacy_of(built)["context.log"] == "x" * 1_000_000
    assert len(event_with(to_agent={"x": "y" * 2_000_000}).parts) == 3


@pytest.mark.parametrize(
    ("given", "stored", "kept"),
    [("e1", "e1", None), ("a/b", "a-b", "a/b"), (7, "7", 7), ("__x__", "--x__", "__x__")],
)
def test_the_id_of_an_event(given: object, stored: str, kept: object) -> None:
    """One that cannot be part of a path is made so, and kept as it was."""
    built = event_with(event_id=given)
    assert built.message.event.event_id == stored
    assert legacy_of(built).get("event_id") == kept


def test_a_long_history_keeps_its_totals_exact() -> None:
    """The newest entries stay where the state is too large; all that ended are counted."""
    history = [
        {"kind": f"k{n % 7}", "tool": "t", "status": "failed" if n % 3 else "done",
         "duration_seconds": n / 8, "ended_at": "2025-01-04T08:00:00Z", "out": "x" * 4_000}
        for n in range(MAX_HISTORY + 150)
    ]  # fmt: skip
    built = state_with(task_history=history)
    whole = record_of(old_state(task_history=history))
    before = contribution_of(document_of(state_with(task_history=[])) | whole.fields)
    after = contribution_of(document_of(built))
    for name in ("kinds", "tools", "tasks"):
        assert after[name] == before[name]
    assert 0 < len(built.message.state.task_history) <= MAX_HISTORY
    assert built.message.state.task_history == whole.fields["task_history"][
        -len(built.message.state.task_history) :
    ]  # fmt: skip
    assert lost(old_state(task_history=history), [built]) == set()


def test_what_no_fitting_helps_is_refused() -> None:
    """A record without what a message must have is refused in ingest's words."""
    record = record_of(old_state())
    del record.fields["agent_id"]
    with pytest.raises(InvalidMessageError, match=r"state\.agent_id"):
        build_message(record, "reader", WRITER)
