"""Document paths, and what can be an id."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestate.schema.ids import (
    Identity,
    agent_type_problem,
    event_path,
    id_problem,
    memory_path,
    part_path,
)
from tests.unit.strategies import agent_types, any_times, ids


def test_paths_read_as_people_expect() -> None:
    """Ids are joined plainly."""
    identity = Identity("Father", "agent_001", "session_123")
    assert identity.state_path == "agent_states/Father_agent_001_session_123"
    assert identity.memory_path == "agent_memory/Father_agent_001"
    assert identity.row_path == "agent_memory/Father_agent_001/sessions/session_123"
    assert part_path("q", 3) == "quarantine/q/parts/0003"


def test_event_ids_sort_by_time() -> None:
    """The time comes first, in UTC, always with microseconds."""
    noon = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=1)))
    assert event_path(noon, "e") == "coordination/2026-01-01T11:00:00.000000Z_e"


@given(any_times, any_times)
def test_event_paths_keep_the_order_of_times(one: datetime, other: datetime) -> None:
    """Sorting paths sorts events."""
    assert (event_path(one, "e") < event_path(other, "e")) == (one < other)


@pytest.mark.parametrize(
    "text", ["", "a/b", ".", "..", "__x__", "____", "__a\nb__", "\ud800", "x" * 401, "ä" * 201]
)
def test_what_cannot_be_an_id(text: str) -> None:
    """What Firestore reserves, or reads as another path, is refused with the reason."""
    assert id_problem(text)
    assert agent_type_problem(text)


@pytest.mark.parametrize("text", ["a", "...", "__x", "x__", "___", "a b", "`", "x" * 400, "\x00"])
def test_what_can_be_an_id(text: str) -> None:
    """Everything else is taken."""
    assert id_problem(text) is None


@given(agent_types, ids, agent_types, ids)
def test_memory_ids_name_one_agent(type_1: str, id_1: str, type_2: str, id_2: str) -> None:
    """Since a type holds no underscore, no two agents share a memory."""
    same = (type_1, id_1) == (type_2, id_2)
    assert (memory_path(type_1, id_1) == memory_path(type_2, id_2)) == same


@given(st.text(max_size=5), st.text(max_size=5))
def test_agent_types_hold_no_underscore(left: str, right: str) -> None:
    """An underscore in a type is refused, with what to write instead."""
    assert "'-'" in (agent_type_problem(f"{left}_{right}") or "")


def test_times_without_microseconds_are_told_apart() -> None:
    """Equal times give equal paths, whatever their precision was."""
    time = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert event_path(time, "e") == event_path(time.replace(microsecond=0), "e")
