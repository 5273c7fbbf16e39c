"""From shards and controls to `global_config`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestate.audit.recount_system import recount_system
from firestate.counters.contribution import contribution_of
from firestate.counters.events import event_counts
from firestate.counters.ledger import difference
from firestate.counters.totals import (
    active_sessions,
    ended_sessions,
    global_document,
    sum_of_shards,
)
from firestate.limits import MAX_ACTIVE_SESSIONS, MAX_DOCUMENT_BYTES, MAX_LABELS
from firestate.schema.documents import from_document
from firestate.schema.ids import Identity
from firestate.schema.models import SystemState
from firestate.schema.values import stored_size
from tests.unit.strategies import NOW, events, states, times

counts = st.integers(-2, 3)
figures: dict[str, Any] = {"total": counts, "succeeded": counts, "duration_ms": counts}
by_event_type = st.dictionaries(
    st.sampled_from(["spawn", "error"]), st.fixed_dictionaries({}, optional=figures)
)
# What events add to shards, and what rows do: tests below say if something is missing here.
OF_EVENTS: dict[str, dict[str, Any]] = {
    "coordination": figures | {"by_type": by_event_type},
    "errors": {
        "by_event_type": st.dictionaries(st.just("error"), counts),
        "by_error_type": st.dictionaries(st.sampled_from(["A", "B"]), counts),
    },
}
OF_ROWS: dict[str, Any] = {
    "spawned": counts,
    "current": counts,
    "by_status": st.dictionaries(st.sampled_from(["idle", "busy"]), counts),
    "by_type": st.dictionaries(st.sampled_from(["Father", "QA"]), counts),
    "tasks": st.dictionaries(st.sampled_from(["completed", "failed"]), counts),
    "sessions": st.dictionaries(
        st.sampled_from(["s1", "s2", "s3"]),
        st.fixed_dictionaries({"agents": counts}, optional={"at": times}),
    ),
}
shards = st.fixed_dictionaries(
    {},
    optional=OF_ROWS
    | {name: st.fixed_dictionaries({}, optional=group) for name, group in OF_EVENTS.items()},
)
controls = st.fixed_dictionaries(
    {},
    optional={
        "emergency_stop": st.booleans(),
        "emergency_reason": st.just("why"),
        "feature_flags": st.just({"new": True}),
        "global_config": st.just({"limit": 3}),
        "last_updated": times,
    },
)


@given(
    st.lists(shards, max_size=4),
    st.none() | controls,
    st.randoms(),
    st.sampled_from([MAX_LABELS, 2, 1]),
)
def test_the_recount_agrees(
    found: list[dict[str, Any]], settings: dict[str, Any] | None, random: Any, most: int
) -> None:
    """Code of its own finds the same totals, in whatever order the shards come."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("firestate.counters.labels.MAX_LABELS", most)
        patch.setattr("firestate.audit.recount_system._MOST_NAMES", most)
        _total_and_recount(found, settings, random)


def _total_and_recount(
    found: list[dict[str, Any]], settings: dict[str, Any] | None, random: Any
) -> None:
    document = global_document(found, settings, {})
    expected = recount_system(found, settings or {})
    # Whatever is shown is counted twice: none is left out by either.
    versions = {"schema_version", "system_version"}
    assert document["system_metrics"] == expected["system_metrics"]
    assert {name: document[name] for name in document.keys() - versions} == expected
    shuffled = list(found)
    random.shuffle(shuffled)
    assert global_document(shuffled, settings, {}) == document


@given(events)
def test_random_shards_have_all_that_events_add(event: dict[str, Any]) -> None:
    """Else two countings of what is never drawn would agree about nothing."""
    for group, members in event_counts(event).items():
        assert members.keys() <= OF_EVENTS[group].keys()


@given(states())
def test_random_shards_have_all_that_rows_add(document: dict[str, Any]) -> None:
    """The same for agents."""
    identity = Identity("Father", "a", "s1")
    assert difference(identity, None, contribution_of(document)).keys() <= OF_ROWS.keys()


def test_nothing_counted_yet() -> None:
    """Without shards and controls there is a whole document of zeros."""
    document = global_document([], None, {})
    state = from_document(SystemState, document | {"last_updated": NOW})
    assert state.total_agents_spawned == state.current_agent_count == 0
    assert state.active_sessions == []
    assert not state.emergency_stop


def test_what_the_sweep_counted_stays() -> None:
    """A roll-up keeps the figures that it does not make."""
    document = global_document([], None, {"stale_agent_count": 3, "active_session_count": 9})
    assert document["system_metrics"]["stale_agent_count"] == 3
    assert document["system_metrics"]["active_session_count"] == 0


def test_it_fits_a_document_however_many_words_users_have() -> None:
    """The largest counts are shown, all others together."""
    words = {f"{number:0128}": number for number in range(1, 20_001)}
    document = global_document([{"by_type": words, "errors": {"by_error_type": words}}], None, {})
    assert stored_size(document) < MAX_DOCUMENT_BYTES / 10
    for shown in (
        document["system_metrics"]["agents_by_type"],
        document["error_counts"]["by_error_type"],
    ):
        assert len(shown) == MAX_LABELS
        assert sum(shown.values()) == sum(words.values())
        assert shown[f"{20_000:0128}"] == 20_000


def test_a_session_is_active_while_it_has_an_agent() -> None:
    """Its agents are added up over the shards."""
    found = [
        {"sessions": {"a": {"agents": 1}, "b": {"agents": 1}, "c": {"agents": 0}}},
        {"sessions": {"a": {"agents": 1}, "b": {"agents": -1}}},
    ]
    assert active_sessions(found) == (["a"], 1)
    assert ended_sessions(found[0]) == ["c"]
    assert sum_of_shards(found) == {}


def test_past_a_thousand_sessions_the_latest_are_listed() -> None:
    """The count stays exact."""
    most = MAX_ACTIVE_SESSIONS + 5
    sessions = {
        f"s{number:05}": {"agents": 1, "at": NOW + timedelta(seconds=number)}
        for number in range(most)
    }
    listed, count = active_sessions([{"sessions": sessions}])
    assert count == most
    assert listed == sorted(sessions)[5:]
