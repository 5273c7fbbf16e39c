"""An agent's memory is the fold of its rows and events, however these came."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firestate.audit.recount_agent import as_memories_show, recount_agent, recount_events
from firestate.counters.contribution import contribution_of
from firestate.derive.memory import memory_document, parts_of
from firestate.derive.memory_events import EventsPart, add_event
from firestate.derive.memory_rows import RowsPart, fold_rows, replace_row
from firestate.derive.newest_entries import newest, replaced
from firestate.limits import (
    MAX_ACTIVITIES,
    MAX_DECISIONS,
    MAX_DOCUMENT_BYTES,
    MAX_LABEL_BYTES,
    MAX_LABELS,
)
from firestate.schema.models import AgentMemory
from firestate.schema.serialization import from_document
from firestate.schema.values import stored_size
from tests.unit.strategies import NOW, events, states, times
from tests.unit.test_contribution import flat, state

if TYPE_CHECKING:
    from collections.abc import Iterator

Row = dict[str, Any]

SESSIONS = st.sampled_from(["s1", "s2", "s3"])
steps = st.tuples(states(SESSIONS), times)


def row(state: dict[str, Any], at: Any) -> Row:
    """Give the ledger row of a state that was counted."""
    return {
        "session_id": state["session_id"],
        "counted_at": at,
        "contribution": contribution_of(state),
    }


@contextlib.contextmanager
def labels_shown(most: int | None) -> Iterator[None]:
    """Let a memory show so few labels that the bound is met all the time."""
    with pytest.MonkeyPatch.context() as patch:
        if most is not None:
            patch.setattr("firestate.derive.label_groups.MAX_LABELS", most)
            patch.setattr("firestate.audit.recount_agent._MOST_NAMES", most)
        yield


@settings(max_examples=300)
@given(st.lists(steps, min_size=1, max_size=8), st.sampled_from([None, 1, 2, 3]))
def test_replacing_a_row_gives_what_folding_all_gives(
    history: list[tuple[Row, Any]], most: int | None
) -> None:
    """Step by step or all at once: the same part; or the step says that it cannot know."""
    with labels_shown(most):
        _replace_and_fold(history)


def _replace_and_fold(history: list[tuple[Row, Any]]) -> None:
    rows: dict[str, Row] = {}
    part = RowsPart()
    for each, at in history:
        new = row(each, at)
        old = rows.get(new["session_id"])
        rows[new["session_id"]] = new
        folded = fold_rows(rows.values())
        stepped = replace_row(part, old, new)
        if stepped is not None:
            assert stepped == folded
        part = folded


@given(st.lists(steps, min_size=1, max_size=6), st.randoms(), st.sampled_from([None, 1, 2, 3]))
def test_rows_fold_in_any_order(
    history: list[tuple[Row, Any]], random: Any, most: int | None
) -> None:
    """The order of arrival cannot matter."""
    rows = list({state["session_id"]: row(state, at) for state, at in history}.values())
    shuffled = list(rows)
    random.shuffle(shuffled)
    with labels_shown(most):
        assert fold_rows(shuffled) == fold_rows(rows)


@given(st.lists(events, max_size=8), st.randoms(), st.sampled_from([None, 1, 2]))
def test_events_add_up_in_any_order(
    happened: list[dict[str, Any]], random: Any, most: int | None
) -> None:
    """So it is with events."""
    shuffled = list(happened)
    random.shuffle(shuffled)
    parts = []
    for sequence in (happened, shuffled):
        part = EventsPart()
        with labels_shown(most):
            for event in sequence:
                part = add_event(part, event)
        parts.append(part)
    assert parts[0] == parts[1]


@given(st.lists(steps, max_size=6), st.lists(events, max_size=6), st.sampled_from([None, 1, 2, 3]))
def test_the_recount_agrees(
    history: list[tuple[Row, Any]], happened: list[dict[str, Any]], most: int | None
) -> None:
    """Code that shares nothing with the fold finds every field the same."""
    with labels_shown(most):
        _fold_and_recount(history, happened)


def _fold_and_recount(history: list[tuple[Row, Any]], happened: list[dict[str, Any]]) -> None:
    rows = {state["session_id"]: row(state, at) for state, at in history}
    part = EventsPart()
    for event in happened:
        part = add_event(part, event)
    document = memory_document("Developer", "a_1", fold_rows(rows.values()), part)
    expected = recount_agent(list(rows.values()), happened)
    learning = document["learning_context"]
    for name in ("sessions", "tasks"):
        assert learning.pop(name) == expected.pop(name), name
    assert flat(learning) == as_memories_show(recount_events(happened))
    last = expected.pop("last_memory_sync")
    if last is not None:
        assert document["last_memory_sync"] == last
    for name, value in expected.items():
        assert document[name] == value, name


@given(st.lists(steps, max_size=6), st.lists(events, max_size=6))
def test_the_document_holds_its_parts(
    history: list[tuple[Row, Any]], happened: list[dict[str, Any]]
) -> None:
    """What is stored is all that the next step needs, and a memory as the model has it."""
    rows = fold_rows({s["session_id"]: row(s, at) for s, at in history}.values())
    part = EventsPart()
    for event in happened:
        part = add_event(part, event)
    document = memory_document("Developer", "a_1", rows, part)
    assert parts_of(document) == (rows, part)
    assert from_document(AgentMemory, document).agent_id == "a_1"


def test_nothing_stored_is_empty_parts() -> None:
    """The first step starts from nothing."""
    assert parts_of(None) == (RowsPart(), EventsPart())


entries = st.lists(
    st.builds(
        lambda second, id_: {"at": NOW + timedelta(seconds=second), "id": id_},
        st.integers(0, 9),
        st.sampled_from("abc"),
    ),
    unique_by=lambda entry: (entry["at"], entry["id"]),
    max_size=12,
)


@given(entries, entries, st.data(), st.integers(1, 6))
def test_a_window_is_exact_or_says_so(
    before: list[dict[str, Any]], more: list[dict[str, Any]], data: st.DataObject, most: int
) -> None:
    """The newest after taking and adding are known, or known not to be known."""
    taken = data.draw(st.lists(st.sampled_from(before), max_size=4)) if before else []
    kept = [entry for entry in before if entry not in taken]
    added = [entry for entry in more if entry not in kept]
    found = replaced(newest(before, most), most, taken, added)
    if found is not None:
        assert found == newest([*kept, *added], most)


def test_a_window_that_only_grows_is_always_known() -> None:
    """Nothing taken, nothing unknown."""
    window = newest([{"at": NOW, "id": str(n)} for n in range(9)], 5)
    added = [{"at": NOW - timedelta(days=1), "id": "old"}]
    assert replaced(window, 5, [], added) == window


def test_the_largest_memory_fits_a_document() -> None:
    """An agent whose every session fills every bound stays below 1 MiB."""

    def word(number: int) -> str:
        return f"{number:04}".rjust(MAX_LABEL_BYTES, "x")

    part = RowsPart()
    for number in range(60):
        history = [
            {
                "status": "failed",
                "task_id": word(n),
                "kind": word(number * 100 + n),
                "tools": [word(number * 100 + n)],
                "duration_ms": 1,
            }
            for n in range(2 * MAX_LABELS)
        ]
        memories = {
            str(n): {"type": word(number * 100 + n), "importance": word(number * 100 + n)}
            for n in range(2 * MAX_LABELS)
        }
        session = f"{number:0400}"
        large = state(session_id=session, memory_context=memories, task_history=history)
        part = fold_or_fail(part, row(large, NOW))
    assert len(part.decisions) == MAX_DECISIONS
    assert len(part.sessions) == MAX_ACTIVITIES
    happened = EventsPart()
    for number in range(2 * MAX_DECISIONS):
        happened = add_event(
            happened,
            {
                "event_id": f"{number:0400}",
                "event_type": "handoff",
                "timestamp": NOW,
                "session_id": "s" * 400,
                "target_agent_id": "t" * 400,
                "target_agent_type": "t" * 400,
                "context": {"error_type": word(number)},
                "success": False,
                "duration_seconds": 1,
            },
        )
    document = memory_document("D" * 400, "a" * 400, part, happened)
    assert len(document["learning_context"]["errors"]["by_error_type"]) == MAX_LABELS + 1
    assert stored_size(document) < MAX_DOCUMENT_BYTES


def fold_or_fail(part: RowsPart, new: Row) -> RowsPart:
    """Give the part with one row more."""
    grown = replace_row(part, None, new)
    assert grown is not None
    return grown


@pytest.mark.parametrize("name", ["sessions", "tasks", "coordination", "errors"])
def test_a_memory_that_lacks_a_group_is_damaged(name: str) -> None:
    """It is not taken for one in which nothing was counted, and folded anew."""
    document = memory_document("Developer", "a_1", RowsPart(), EventsPart())
    del document["learning_context"][name]
    with pytest.raises(KeyError, match=name):
        parts_of(document)
