"""Whatever an old object holds: what is built of it is valid, and nothing of it is lost."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from firestate.migration.formats.readers import agent_states, coordination_logs
from firestate.schema.messages import EventMessage, StateMessage
from firestate.schema.values import problems_of
from tests.migration.migration_run import old_event, old_state
from tests.unit.json_leaves import built_of, document_of, lost, old_values
from tests.unit.old_file_samples import record_of
from tests.unit.strategies import texts, words

KNOWN = (*old_state(), *agent_states._OLD_NAMES, "config", "tools", "metrics", "task_totals")
HOME = ("__x__", "", "\ud800", "legacy", "deleted", "~", "memory_context.a")
changed_states = st.dictionaries(
    st.one_of(st.sampled_from(KNOWN + HOME), words, texts), old_values, max_size=5
).map(lambda changes: old_state() | changes)
changed_events = st.dictionaries(
    st.one_of(st.sampled_from((*old_event(), "context", "error", *HOME)), words, texts),
    old_values,
    max_size=5,
).map(lambda changes: old_event() | changes)


@given(changed_states)
@example(old_state(task_history=[{"name": "x", "a": [[1]]}], current_task="\ud800"))
@example(old_state(task_history=[None, 1], tools=[None]))
@example(old_state(tools=["x", [1]], tools_enabled={"a": 1}, last_updated=["x"], timestamp="y"))
def test_nothing_of_a_state_is_lost(old: dict[str, Any]) -> None:
    """Whatever it holds, its message is valid, and each scalar is found again."""
    if agent_states.recognises(old, "x.json"):
        built = built_of(record_of(old))
        assert isinstance(built.message, StateMessage)
        assert list(problems_of(document_of(built), "")) == []
        assert lost(_without_times(old), [built]) == set()


@given(changed_events)
def test_nothing_of_an_event_is_lost(old: dict[str, Any]) -> None:
    """The same, for what agents did."""
    if not agent_states.recognises(old, "x.json") and coordination_logs.is_event(old):
        built = built_of(record_of(old), "m-1")
        assert isinstance(built.message, EventMessage)
        assert list(problems_of(document_of(built), "")) == []
        assert lost(_without_times(old), [built]) == set()


def _without_times(old: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is stored as a time: it has another form there."""
    times = {"created_at", "last_updated", "last_active", "timestamp"}
    times |= {name for each in times for name in agent_states._OLD_NAMES.get(each, ())}
    return {name: value for name, value in old.items() if name not in times}
