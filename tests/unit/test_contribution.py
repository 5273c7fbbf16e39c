"""What a state is worth to the counters."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestate.audit.recount import recount_event, recount_row, recount_state
from firestate.counters.contribution import CODE, contribution_of
from firestate.counters.event_counts import event_counts
from firestate.counters.ledger import difference, new_row
from firestate.counters.task_history import ended_task
from firestate.limits import MAX_DOCUMENT_BYTES, MAX_LABEL_BYTES, MAX_LABELS, MAX_STATE_BYTES
from firestate.schema.ids import Identity
from firestate.schema.upgrades import upgrade_document
from firestate.schema.values import digest, stored_size
from tests.harness import state_message
from tests.unit.strategies import (
    NOW,
    events,
    former_task_totals,
    states,
)

IDENTITY = Identity("Developer", "a_1", "s1")
RECORDED = {
    1: "8e2ead5049dc98f9ae1fc6ed5e52895a",  # pragma: allowlist secret - a digest
    2: "37266bcefd9b361c7dfb59eb4bed8d90",  # pragma: allowlist secret - a digest
}
"""What `whole_state` below contributes, by the number of the code that computes it."""


def state(**changes: Any) -> dict[str, Any]:
    """Give a live state as stored, with all the fields that each has."""
    times = dict.fromkeys(("created_at", "last_updated", "last_active"), NOW)
    found: dict[str, Any] = state_message(1, status="active")["state"] | times | changes
    return found


def flat(counts: dict[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], int]:
    """Give nested counts by path, without zeros."""
    found: dict[tuple[str, ...], int] = {}
    for name, value in counts.items():
        if isinstance(value, dict):
            found |= flat(value, (*path, name))
        elif value:
            found[*path, name] = value
    return found


def whole_state() -> dict[str, Any]:
    """Give a state in which every field says something."""
    return state(
        memory_context={"m": {"type": "fact", "importance": 0.75}},
        task_history=[
            {
                "task_id": "t",
                "kind": "code",
                "tool": "editor",
                "status": outcome,
                "duration_ms": 7,
                "error_type": f"Error of one that is {outcome}",
            }
            for outcome in ("completed", "failed", "cancelled", "in_progress")
        ],
        performance_metrics={"tokens": 5.0},
        agent_config={"model": "m"},
        tools_enabled=["editor", "shell"],
        current_task="t",
        task_status="in_progress",
        parent_agent_id="father",
        parent_agent_type="Father",
        parent_session_id="s0",
        child_agent_ids=["child"],
        collaboration_context={"with": "qa"},
    )


def test_the_code_has_a_number_for_what_it_computes() -> None:
    """What contributes otherwise has another number: raise CODE, and add to RECORDED."""
    contributed = [contribution_of(whole_state()), contribution_of({"deleted": True})]
    found = digest({"of": contributed})
    assert found == RECORDED.get(CODE), f"raise CODE, and add to RECORDED what it gives: {found}"


@given(states())
def test_the_recount_agrees(document: dict[str, Any]) -> None:
    """Two programs that share no code find the same worth in any state."""
    assert contribution_of(document) == recount_state(document)


@given(states())
def test_the_recount_of_a_row_agrees(document: dict[str, Any]) -> None:
    """Also about what a row adds to the shards."""
    row = row_of(document)
    recounted = recount_row("Developer", "s1", row["contribution"], row.get("task_errors"))
    found = {k: v for k, v in recounted.items() if v}
    assert flat(difference(IDENTITY, None, row)) == found


def row_of(document: dict[str, Any], before: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the row of a session after a state, given the one before."""
    return new_row(before, IDENTITY, (CODE, 1, 1), NOW, contribution_of(document))


@given(states(), former_task_totals)
def test_the_recount_of_a_former_document_agrees(
    document: dict[str, Any], totals: dict[str, Any]
) -> None:
    """It is worth what it is worth to readers, who bring it up to date first."""
    former = document | {"schema_version": 1, "task_totals": totals}
    assert recount_state(former) == contribution_of(upgrade_document(former))


@given(events)
def test_the_recount_of_an_event_agrees(event: dict[str, Any]) -> None:
    """And about what an event is worth."""
    assert flat(event_counts(event)) == {k: v for k, v in recount_event(event).items() if v}


@given(states())
def test_tasks_are_counted_once(document: dict[str, Any]) -> None:
    """Completed and failed are the tries of all kinds, without the cancelled; none is negative."""
    contribution = contribution_of(document)
    tasks = contribution["tasks"]
    assert min(tasks.values()) >= 0
    kinds = contribution.get("kinds", {}).values()
    assert tasks["completed"] + tasks["failed"] == sum(kind["tries"] for kind in kinds)
    assert tasks["completed"] == sum(kind["successes"] for kind in kinds)
    assert tasks["cancelled"] == sum(kind["cancelled"] for kind in kinds)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("completed", {"tries": 1, "successes": 1, "cancelled": 0, "timed": 1, "duration_ms": 7}),
        ("failed", {"tries": 1, "successes": 0, "cancelled": 0, "timed": 1, "duration_ms": 7}),
        ("cancelled", {"tries": 0, "successes": 0, "cancelled": 1, "timed": 0, "duration_ms": 0}),
    ],
)
def test_a_cancelled_task_is_no_try(outcome: str, expected: dict[str, int]) -> None:
    """By kind and by tool: it is neither tried nor timed, but seen."""
    one = {"status": outcome, "kind": "code", "tool": "ed", "duration_ms": 7, "ended_at": NOW}
    worth = contribution_of(state(task_history=[one]))
    assert worth["kinds"] == {"code": expected | {"last_seen": NOW}}
    assert worth["tools"] == {"ed": expected | {"last_seen": NOW}}


@pytest.mark.parametrize(
    ("history", "totals", "expected"),
    [
        ([], None, None),
        ([{"status": "failed"}], None, None),
        ([{"status": "failed", "error_type": ""}], None, None),
        ([{"status": "failed", "error_type": 7}], None, None),
        ([{"status": "failed", "error_type": "A", "session_id": "s0"}], None, None),
        ([{"status": "completed", "error_type": "A"}], None, None),
        ([{"status": "cancelled", "error_type": "A"}], None, None),
        ([{"status": "failed", "error_type": "A"}] * 2, None, {"A": 2}),
        ([{"status": "failed", "error_type": "__A__"}], None, {"~__A__": 1}),
        ([{"status": "failed", "error_type": "A"}], {}, None),
        ([], {"errors": {}}, None),
        ([], {"errors": {"A": 0}}, None),
        ([], {"errors": {"A": 3, "B": 1}}, {"A": 3, "B": 1}),
    ],
)
def test_failed_tasks_by_error_type(
    history: list[dict[str, Any]], totals: dict[str, Any] | None, expected: dict[str, int] | None
) -> None:
    """Counted where a failed task of this session names one; left out where there are none."""
    given_totals = {} if totals is None else {"task_totals": totals}
    document = state(task_history=history, **given_totals) | {"schema_version": 2}
    assert contribution_of(document).get("task_errors") == expected
    assert recount_state(document).get("task_errors") == expected
    counted = difference(IDENTITY, None, row_of(document)).get("errors", {})
    assert counted.get("by_task_error_type") == expected


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"status": "pending"}, None),
        ({}, None),
        ({"status": "completed", "session_id": "s2"}, None),
        ({"status": "completed"}, ("unspecified", (), None)),
        ({"status": "failed", "kind": "code", "tool": "ed"}, ("code", ("ed",), None)),
        ({"status": "failed", "task_type": "a", "type": "b"}, ("a", (), None)),
        ({"status": "failed", "kind": 7}, ("unspecified", (), None)),
        ({"status": "completed", "tools": ["b", "a", "b", 3]}, ("unspecified", ("a", "b"), None)),
        ({"status": "completed", "duration_seconds": 1.2345}, ("unspecified", (), 1234)),
        ({"status": "completed", "duration_seconds": -1}, ("unspecified", (), None)),
        ({"status": "completed", "duration_seconds": True}, ("unspecified", (), None)),
        ({"status": "completed", "duration_ms": 1500}, ("unspecified", (), 1500)),
        (
            {
                "status": "completed",
                "started_at": "2026-01-01T00:00:00Z",
                "completed_at": "2026-01-01T00:00:02",
            },
            ("unspecified", (), 2000),
        ),
    ],
)
def test_entries_of_a_task_history(
    entry: dict[str, Any], expected: tuple[str, tuple[str, ...], int | None] | None
) -> None:
    """Only what ended in this session counts, by its kind and tools, with its duration."""
    task = ended_task(entry, "s1")
    found = task and (task.kind, task.tools, task.duration_ms)
    assert found == expected


def test_what_a_resumed_agent_carries_along_is_not_counted_again() -> None:
    """Entries that name another session count there alone."""
    history = [
        {"status": "completed", "kind": "code", "session_id": "s0"},
        {"status": "failed", "kind": "code", "session_id": "s1"},
    ]
    context = {
        "a": {"type": "fact", "session_id": "s0"},
        "b": {"type": "fact", "session_id": "s1"},
        "c": {"type": "fact"},
        "d": "plain",
    }
    worth = contribution_of(state(task_history=history, memory_context=context))
    assert worth["tasks"] == {"completed": 0, "failed": 1, "cancelled": 0}
    assert worth["memory"] == {"count": 3, "types": {"fact": 2}, "importance": {}}


def test_totals_are_used_instead_of_the_history() -> None:
    """An agent that gives its totals may trim its history."""
    totals = {
        "kinds": {"code": {"tries": 300, "successes": 290, "cancelled": 4, "duration_ms": 9}},
        "tools": {"ed": {"tries": 10, "successes": 10, "timed": 0}},
    }
    history = [{"status": "completed", "kind": "code", "task_id": "t"}]
    worth = contribution_of(state(task_history=history, task_totals=totals))
    assert worth["tasks"] == {"completed": 290, "failed": 10, "cancelled": 4}
    assert worth["kinds"]["code"]["timed"] == 300
    assert worth["tools"]["ed"]["timed"] == 0
    assert [decision["id"] for decision in worth["decisions"]] == ["t"]


def test_a_task_tried_twice_under_one_id_is_two_decisions() -> None:
    """Each attempt has its number."""
    history = [
        {"status": status, "task_id": "t", "ended_at": NOW + timedelta(seconds=n)}
        for n, status in enumerate(["failed", "completed"])
    ]
    decisions = contribution_of(state(task_history=history))["decisions"]
    found = [(each["id"], each["attempt"], each["outcome"]) for each in decisions]
    assert found == [("t", 2, "completed"), ("t", 1, "failed")]


@pytest.mark.parametrize(
    ("importance", "key"),
    [
        (0, "0.0"),
        (0.75, "0.7"),
        (1, "1.0"),
        (8, "8"),
        (8.9, "8"),
        (-3, "-3"),
        (5000, "other"),
        ("high", "high"),
        ("", None),
        (True, None),
        (None, None),
        ([1], None),
    ],
)
def test_importance(importance: Any, key: str | None) -> None:
    """Words as they are, shares by the tenth, other numbers whole."""
    context = {"m": {"importance": importance}}
    found = contribution_of(state(memory_context=context))["memory"]["importance"]
    assert found == ({key: 1} if key else {})


def test_the_largest_contribution_fits_beside_the_largest_state() -> None:
    """It takes at most 95,000 bytes, and a state with all of ours stays below 1 MiB."""

    def word(number: int) -> str:
        return f"{number:04}".rjust(MAX_LABEL_BYTES, "x")

    most = MAX_LABELS + 50
    history = [
        {
            # The newest hundred, which are decisions, have the longest word for how they ended.
            "status": "cancelled" if n >= 400 else "failed",
            "error_type": word(n % most),
            "task_id": word(n),
            "kind": word(n % most),
            "tools": [word(n % most)],
            "duration_ms": 1,
            "ended_at": NOW + timedelta(seconds=n),
        }
        for n in range(500)
    ]
    context = {str(n): {"type": word(n % most), "importance": word(n % most)} for n in range(500)}
    contribution = contribution_of(state(task_history=history, memory_context=context))
    assert len(contribution["kinds"]) == len(contribution["tools"]) == MAX_LABELS
    assert len(contribution["task_errors"]) == MAX_LABELS
    assert {each["outcome"] for each in contribution["decisions"]} == {"cancelled"}
    assert stored_size(contribution) < 95_000
    digests = {f"{number:22}": "0" * 32 for number in range(20)}
    ours = {"contribution": contribution, "digests": digests, "writer": "w" * 400}
    assert MAX_STATE_BYTES + stored_size(ours) + 20 * 32 + 2_000 < MAX_DOCUMENT_BYTES


@given(st.lists(states(), min_size=2, max_size=5))
def test_differences_add_up(history: list[dict[str, Any]]) -> None:
    """However many steps a session takes, they sum to what it is worth at the end."""
    rows: list[dict[str, Any]] = []
    for each in history:
        rows.append(row_of(each, rows[-1] if rows else None))
    total: dict[tuple[str, ...], int] = {}
    for before, after in zip([None, *rows], rows, strict=False):
        for path, change in flat(difference(IDENTITY, before, after)).items():
            total[path] = total.get(path, 0) + change
    expected = flat(difference(IDENTITY, None, row_of(history[-1])))
    assert {path: count for path, count in total.items() if count} == expected
