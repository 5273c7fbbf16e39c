"""What an agent saves is judged exactly as ingest judges it, however quickly it is looked at."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from firestate.agents.state.encoded_state import EncodedState, no_suspect
from firestate.agents.state.json_values import to_json_values
from firestate.agents.state.message_encoding import (
    checked_event,
    checked_state,
    event_data,
    state_data,
)
from firestate.errors import InvalidMessageError
from firestate.limits import MAX_DEPTH, MAX_KEY_BYTES, MAX_NAMES
from firestate.outbox.sender import as_it_goes, nothing_wrong
from firestate.schema.messages import (
    Order,
    StateMessage,
    TombstoneMessage,
    parse_event_message,
    parse_state_message,
)
from firestate.schema.models import AgentState
from firestate.schema.strict_json import depth_of
from tests.agents.value_strategies import changes, halves, maps, marks, values
from tests.harness import event_message, state_message

BASE = state_message(1, memory_context={"k": 1}, agent_config={"a": {}})["state"]
FIELDS = EncodedState.of(AgentState.model_validate(BASE))


def changed_by(fields: EncodedState, changes: dict[str, Any]) -> EncodedState:
    """Return the state with changes of whole fields."""
    return fields.edited(fields.edits(changes))


def ingested(fields: EncodedState) -> StateMessage | TombstoneMessage:
    return parse_state_message(state_data(fields.body(), Order(1, 1), "w"))


def named(error: InvalidMessageError) -> set[str]:
    return {problem.field for problem in error.problems}


def judged(changed: dict[str, Any]) -> set[str]:
    """Give the fields that the schema refuses."""
    try:
        checked_state(BASE | changed)
    except InvalidMessageError as error:
        return named(error)
    return set()


def refused_by_ingest(state: dict[str, Any]) -> bool:
    """Say what ingest makes of a state that somebody else has encoded."""
    message = {"epoch": 1, "revision": 1, "writer": "w", "state": state}
    try:
        parse_state_message(json.dumps(message).encode())
    except InvalidMessageError:
        return True
    return False


@given(changes)
@example({"memory_context": {'"__x__":': 1}})
@example({"memory_context": {"a": {"b": [1, [2]]}}})
@example({"memory_context": {"a": [{}, [2]]}})
@example({"current_task": "__x__"})
@example({"performance_metrics": {"a": True}})
@example({"performance_metrics": {"a": 10**25}})
@example({"task_history": [[]]})
@example({"task_history": {}})
def test_what_is_let_through_is_what_the_schema_and_ingest_accept(changed: dict[str, Any]) -> None:
    refused = judged(changed)
    assert bool(refused) is refused_by_ingest(BASE | changed)
    if refused:
        with pytest.raises(InvalidMessageError) as caught:
            changed_by(FIELDS, changed)
        assert named(caught.value) == refused
    else:
        new = changed_by(FIELDS, changed)
        message = ingested(new)
        assert isinstance(message, StateMessage)
        assert message.state == checked_state(BASE | changed) == new.state()


@given(st.lists(changes, max_size=4))
def test_changes_one_after_the_other_are_the_changes_together(
    following: list[dict[str, Any]],
) -> None:
    fields, together = FIELDS, dict(BASE)
    for changed in following:
        with suppress(InvalidMessageError):
            fields = changed_by(fields, changed)
            together |= changed
    assert fields.state() == checked_state(together)
    assert json.loads(fields.body()) | together == json.loads(fields.body())


@given(value=maps, in_list=st.booleans())
def test_what_is_surely_in_order_is_in_order(value: dict[str, Any], *, in_list: bool) -> None:
    name, held = ("task_history", [value]) if in_list else ("agent_config", value)
    encoded = json.dumps(held, ensure_ascii=False, separators=(",", ":")).encode()
    if no_suspect(encoded):
        assert judged({name: held}) == set()


@given(changes)
def test_what_goes_out_is_what_was_kept(changed: dict[str, Any]) -> None:
    if not judged(changed):
        data = state_data(changed_by(FIELDS, changed).body(), Order(1, 1), "w")
        assert parse_state_message(as_it_goes(data, nothing_wrong)[0]) == parse_state_message(data)


@pytest.mark.parametrize("data", [b"", b"x", b"{", b"\xff", b"[" * 5_000])
def test_what_is_no_json_goes_out_as_it_is(data: bytes) -> None:
    assert as_it_goes(data, nothing_wrong) == (data, None)


@given(halves, st.sampled_from(["key", "value", "deep"]))
def test_half_a_surrogate_pair_is_refused_and_named(half: str, place: str) -> None:
    value = {"key": {half: 1}, "value": {"k": half}, "deep": {"k": [{"l": {half: 1}}]}}[place]
    for name in ("memory_context", "current_task", "collaboration_context"):
        with pytest.raises(InvalidMessageError, match="surrogate") as caught:
            changed_by(FIELDS, {name: half if name == "current_task" else value})
        (problem,) = caught.value.problems
        assert problem.field.startswith(name)
        assert problem.field.isascii()


@given(values, values)
def test_events_are_judged_as_ingest_judges_them(context: Any, task_context: Any) -> None:
    fields = event_message("e1", context=context, task_context=task_context)["event"]
    try:
        message = checked_event(to_json_values(fields))
    except InvalidMessageError:
        with pytest.raises(InvalidMessageError):
            parse_event_message(json.dumps({"event": fields}).encode())
    else:
        assert parse_event_message(event_data(message)) == message


@pytest.mark.parametrize(
    ("value", "is_fine"),
    [
        ({"x" * MAX_KEY_BYTES: 1}, True),
        ({"x" * (MAX_KEY_BYTES + 1): 1}, False),
        ({"\\" * MAX_KEY_BYTES: 1}, True),
        ({'"' * (MAX_KEY_BYTES + 1): 1}, False),
        ({"a": '"' * 5_000, "ä" * (MAX_KEY_BYTES // 2): 1}, True),
        ({"a": "\\", "x" * (MAX_KEY_BYTES + 1): '"'}, False),
        ({"a": "x" * 5_000}, True),
    ],
)
def test_keys_are_measured_whatever_they_and_the_texts_beside_them_hold(
    value: dict[str, Any], *, is_fine: bool
) -> None:
    if is_fine:
        ingested(changed_by(FIELDS, {"memory_context": value}))
    else:
        with pytest.raises(InvalidMessageError, match="is a key of more than 1500 bytes"):
            changed_by(FIELDS, {"memory_context": value})


@pytest.mark.parametrize(("name", "levels"), [("agent_config", 0), ("task_history", 1)])
def test_nesting_ends_where_the_schema_says(name: str, levels: int) -> None:
    def nested(depth: int) -> Any:
        value: Any = {"[[": "{{"}
        for _ in range(depth - levels - 1):
            value = {"{": value, '"[[': "]"}
        return [value] if levels else value

    ingested(changed_by(FIELDS, {name: nested(MAX_DEPTH)}))
    with pytest.raises(InvalidMessageError, match="nests deeper than 20 levels"):
        changed_by(FIELDS, {name: nested(MAX_DEPTH + 1)})


def test_so_many_metrics_are_kept_and_no_more() -> None:
    metrics = {f"m{number}": 1.5 for number in range(MAX_NAMES)}
    ingested(changed_by(FIELDS, {"performance_metrics": metrics}))
    with pytest.raises(InvalidMessageError, match="holds 1,001 entries"):
        changed_by(FIELDS, {"performance_metrics": metrics | {"one more": 1}})


def test_who_changes_a_state_that_was_read_changes_nothing_that_is_saved() -> None:
    fields = changed_by(FIELDS, {"memory_context": {"plan": {"steps": [1]}}})
    read = fields.state()
    read.memory_context["plan"]["steps"].append(2)
    read.agent_config["a"]["b"] = 1
    assert fields["memory_context"] == {"plan": {"steps": [1]}}
    assert fields.state().memory_context == {"plan": {"steps": [1]}}
    assert fields.state().agent_config == {"a": {}}


def slow_depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(slow_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(slow_depth, value), default=0)
    return 0


trees = st.recursive(
    st.one_of(marks, st.integers(0, 9)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(marks, inner, max_size=3)),
    max_leaves=15,
)


@given(value=st.one_of(trees, maps), spaced=st.booleans())
@example(value=['"', "[", "\\", "]"], spaced=False)
@example(value=["\\", [], "[["], spaced=False)
@example(value={'\\"': {"": []}, "": "{"}, spaced=True)
def test_depth_is_counted_as_a_parser_counts_it(value: Any, *, spaced: bool) -> None:
    text = json.dumps(value, ensure_ascii=spaced, separators=None if spaced else (",", ":"))
    assert depth_of(text.encode()) == slow_depth(value)
