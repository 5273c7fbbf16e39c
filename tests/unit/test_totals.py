"""From shards and controls to `global_config`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestate.audit.recount_system import recount_system
from firestate.counters.shard_totals import (
    active_sessions,
    ended_sessions,
    global_document,
    sum_of_shards,
)
from firestate.limits import MAX_ACTIVE_SESSIONS, MAX_DOCUMENT_BYTES, MAX_LABELS
from firestate.schema.models import SystemState
from firestate.schema.serialization import from_document
from firestate.schema.values import stored_size
from tests.unit.random_shards import CLOSED_OF_ROWS, OF_EVENTS, OF_ROWS, by_word, shards
from tests.unit.strategies import NOW, times

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
    shard = {group: dict.fromkeys(by_word(group), words) for group in OF_EVENTS}
    of_rows = {name for name in OF_ROWS if name.startswith("by_")} - set(CLOSED_OF_ROWS)
    document = global_document([shard | dict.fromkeys(of_rows, words)], None, {})
    assert stored_size(document) < MAX_DOCUMENT_BYTES / 10
    for shown in (
        document["system_metrics"]["agents_by_type"],
        document["error_counts"]["by_error_type"],
        document["error_counts"]["by_task_error_type"],
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
