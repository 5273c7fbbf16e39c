"""How the bytes of a message are read, and what is refused with which reason."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestate.errors import FieldProblem, InvalidMessageError
from firestate.limits import (
    MAX_ENVELOPE_BYTES,
    MAX_ID_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_STATE_BYTES,
    MAX_VALUES,
)
from firestate.schema.export import FOLDER, schemas
from firestate.schema.messages import (
    EventMessage,
    StateMessage,
    TombstoneMessage,
    parse_event_message,
    parse_state_message,
)
from firestate.schema.values import extent, stored_size
from tests.harness import event_message, state_message, tombstone_message
from tests.unit.strategies import json_values

PARTS = ("state", "deleted", "event")


def parsed(message: dict[str, Any]) -> StateMessage | TombstoneMessage | EventMessage:
    """Read a message of either topic."""
    data = json.dumps(message).encode()
    return parse_event_message(data) if "event" in message else parse_state_message(data)


def problems(message: dict[str, Any]) -> dict[str, str]:
    """Give what is wrong with a message, by field."""
    with pytest.raises(InvalidMessageError) as caught:
        parsed(message)
    return {problem.field: problem.reason for problem in caught.value.problems}


def test_the_three_messages() -> None:
    """A state, a tombstone and an event are told apart by what they hold."""
    state = parsed(state_message(3, epoch=2))
    assert isinstance(state, StateMessage)
    assert state.order == (2, 3)
    assert state.identity.state_path == "agent_states/Developer_a_1_s1"
    tombstone = parsed(tombstone_message(4))
    assert isinstance(tombstone, TombstoneMessage)
    assert tombstone.identity == state.identity
    event = parsed(event_message("e1"))
    assert isinstance(event, EventMessage)
    assert event.path.endswith("Z_e1")


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"agent_type": "God_Father"}, "state.agent_type", "must not hold '_'"),
        ({"agent_id": "a/b"}, "state.agent_id", "must not hold '/'"),
        ({"session_id": "__s__"}, "state.session_id", "reserves"),
        ({"status": "sleeping"}, "state.status", "'idle'"),
        ({"created_at": "yesterday"}, "state.created_at", "no ISO 8601 time"),
        ({"created_at": 1700000000}, "state.created_at", "must be an ISO 8601 time, not int"),
        ({"task_history": [[1]]}, "state.task_history[0]", "dictionary"),
        ({"task_history": [{"a": [[1]]}]}, "state.task_history[0].a[0]", "inside an array"),
        ({"memory_context": {"k": {"": 1}}}, "state.memory_context.k.", "empty key"),
        ({"memory_context": {"k": 2**63}}, "state.memory_context.k", "64 bits"),
        ({"memory_context": {"\ud800": 1}}, "state.memory_context.\\ud800", "surrogate"),
        ({"performance_metrics": {"x": "fast"}}, "state.performance_metrics.x", "number"),
        ({"performance_metrics": {"x": True}}, "state.performance_metrics.x", "number"),
        ({"tools_enabled": [1]}, "state.tools_enabled[0]", "string"),
        ({"tools_enabled": ["\ud800"]}, "state.tools_enabled[0]", "surrogate"),
        ({"child_agent_ids": ["a/b"]}, "state.child_agent_ids[0]", "'/'"),
        ({"mood": "good"}, "state.mood", "Extra inputs"),
        (
            {"task_totals": {"kinds": {"code": {"tries": 1, "successes": 2}}}},
            "state.task_totals.kinds.code",
            "more than tries",
        ),
        (
            {"task_totals": {"tools": {"ed": {"tries": 1, "successes": 1, "timed": 2}}}},
            "state.task_totals.tools.ed",
            "timed is more than tries",
        ),
        (
            {"task_totals": {"kinds": {"code": {"tries": -1, "successes": 0}}}},
            "state.task_totals.kinds.code.tries",
            "greater than or equal to 0",
        ),
        (
            {"task_totals": {"kinds": {"__k__": {"tries": 1, "successes": 0}}}},
            "state.task_totals.kinds.__k__",
            "reserves",
        ),
    ],
)
def test_a_bad_state_is_refused(changes: dict[str, Any], field: str, reason: str) -> None:
    """The error names the field and says what is wrong with it."""
    assert reason in problems(state_message(1, **changes))[field]


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"success": "very"}, "event.success", "boolean"),
        ({"success": 1}, "event.success", "boolean"),
        ({"event_type": "dance"}, "event.event_type", "'spawn'"),
        ({"duration_seconds": -1}, "event.duration_seconds", "greater than or equal to 0"),
        ({"duration_seconds": "1"}, "event.duration_seconds", "number"),
        ({"context": {"a": [[1]]}}, "event.context.a[0]", "inside an array"),
        ({"target_agent_id": ""}, "event.target_agent_id", "empty"),
    ],
)
def test_a_bad_event_is_refused(changes: dict[str, Any], field: str, reason: str) -> None:
    """The error names the field and says what is wrong with it."""
    assert reason in problems(event_message("e", **changes))[field]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({**state_message(1), "revision": -1}, "revision"),
        ({**state_message(1), "revision": 2**63}, "revision"),
        ({**state_message(1), "revision": 1.0}, "revision"),
        ({**state_message(1), "epoch": "1"}, "epoch"),
        ({**state_message(1), "writer": ""}, "writer"),
        ({**state_message(1), "deleted": {}}, "state"),
        ({**state_message(1), "schema_version": 3}, "schema_version"),
        ({**state_message(1), "schema_version": 0}, "schema_version"),
        ({**state_message(1), "schema_version": True}, "schema_version"),
        ({**state_message(1), "schema_version": "1"}, "schema_version"),
        ({**event_message("e"), "writer": "w"}, "writer"),
        ({}, "state"),
    ],
)
def test_a_bad_envelope_is_refused(message: dict[str, Any], field: str) -> None:
    """Order, writer and version are checked like everything else."""
    assert field in problems(message)


def test_all_mistakes_are_named_at_once() -> None:
    """Who reads the quarantine sees everything that is wrong with a message."""
    message = state_message(
        1, status="sleeping", agent_id="", memory_context={"a": [[1]], "b": {"": 2}}
    )
    assert problems(message).keys() == {
        "state.status",
        "state.agent_id",
        "state.memory_context.a[0]",
        "state.memory_context.b.",
    }


def test_of_thousands_of_mistakes_some_are_named() -> None:
    """A small message can hold tens of thousands, and each costs more than what it is about."""
    bad = {f"x{n}": None for n in range(30)}
    found = problems(
        state_message(
            1,
            task_totals={"kinds": {"good": {"tries": 1, "successes": 1}}}
            | {"tools": {f"t{n}": bad for n in range(1_000)}},
            tools_enabled=["good", *[1] * 900],
            child_agent_ids=["good", *["/"] * 900],
            performance_metrics={"good": 1.5} | {f"m{n}": "" for n in range(900)},
        )
    )
    assert {"state.task_totals.tools.t0.x0", "state.performance_metrics.m0"} <= found.keys()
    assert {"state.tools_enabled[1]", "state.child_agent_ids[1]"} <= found.keys()
    assert len(found) < 20 * 32 + 20 + 5
    many = {f"m{n}": n for n in range(1_000)}
    message = parsed(state_message(1, performance_metrics=many))
    assert isinstance(message, StateMessage)
    assert message.state.performance_metrics == many


def test_a_state_too_large_for_a_document() -> None:
    """The error says how large, and which field is the largest."""
    found = problems(state_message(1, memory_context={"text": "x" * MAX_STATE_BYTES}))
    assert "at most 910,000" in found["state"]
    assert "largest field" in found["state.memory_context"]


@pytest.mark.parametrize("filler", ["", ",:", '["', {}, {"[": []}])
def test_the_largest_messages_pass_the_bounds(filler: Any) -> None:
    """Full to the byte, with the envelope, of values as short as can be: none is refused unread."""
    message: dict[str, Any] = state_message(1, memory_context={"pad": "", "of": []})
    message |= {"writer": ",:" * (MAX_ID_BYTES // 2), "migration": False, "schema_version": 1}
    assert stored_size(message | {"state": None}) < MAX_ENVELOPE_BYTES
    context = message["state"]["memory_context"]
    # An empty list counts one byte, which goes with its first entry.
    left = MAX_STATE_BYTES - stored_size(message["state"]) + 1
    size, values = extent(filler)
    number = min(left // size, (MAX_VALUES - 100) // values)
    context["of"] = [filler] * number
    context["pad"] = "," * (left - number * size)
    assert stored_size(message["state"]) == MAX_STATE_BYTES
    data = json.dumps(message, separators=(",", ":")).encode()
    assert isinstance(parse_state_message(data), StateMessage)
    context["pad"] += ","
    assert "at most 910,000" in problems(message)["state"]


def test_more_values_than_a_function_has_memory_for() -> None:
    """A message is refused for their number alone, however short they are."""
    values = extent(state_message(1, memory_context={"k": []})["state"]).values
    most = MAX_VALUES - values
    accepted = parsed(state_message(1, memory_context={"k": [None] * most}))
    assert isinstance(accepted, StateMessage)
    found = problems(state_message(1, memory_context={"k": [None] * (most + 1)}))
    assert found["state"] == "holds 100,001 values, at most 100,000 are allowed"


def test_no_constant_hides_in_a_message() -> None:
    """NaN in place of any value of any message is refused, with the path to it."""
    for message in (state_message(1), tombstone_message(1), event_message("e")):
        paths: list[tuple[str, ...]] = [(name,) for name in message]
        paths += [(part, name) for part in message if part in PARTS for name in message[part]]
        for part, *below in paths:
            bad = message[part] | {below[0]: math.nan} if below else math.nan
            found = problems(message | {part: bad})
            assert found == {".".join([part, *below]): "holds NaN, which JSON does not know"}


def test_a_message_too_large_for_pubsub() -> None:
    """It is refused before it is parsed."""
    with pytest.raises(InvalidMessageError, match="Pub/Sub takes 10,000,000"):
        parse_state_message(b" " * (MAX_MESSAGE_BYTES + 1))


@given(
    st.one_of(
        st.binary(max_size=40),
        json_values.map(lambda value: json.dumps(value).encode()),
        json_values.map(lambda value: json.dumps(state_message(1) | {"state": value}).encode()),
        json_values.map(lambda value: json.dumps(state_message(1, memory_context=value)).encode()),
        json_values.map(lambda value: json.dumps(event_message("e", context=value)).encode()),
    )
)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """No input makes anything but a message or an InvalidMessageError with a reason."""
    for parse in (parse_state_message, parse_event_message):
        found: tuple[FieldProblem, ...] = (FieldProblem("none", "a message"),)
        try:
            parse(data)
        except InvalidMessageError as error:
            found = error.problems
        assert found
        for problem in found:
            assert problem.field.encode()
            assert problem.reason.encode()


def test_a_time_without_a_zone_is_utc() -> None:
    """So are all times that are stored, to the microsecond."""
    message = parsed(state_message(1, created_at="2026-01-01T12:00:00.1234567"))
    assert isinstance(message, StateMessage)
    assert message.state.created_at.isoformat() == "2026-01-01T12:00:00.123456+00:00"
    other = parsed(state_message(1, created_at="2026-01-01T12:00:00.123456+02:00"))
    assert isinstance(other, StateMessage)
    assert other.state.created_at.isoformat() == "2026-01-01T10:00:00.123456+00:00"


def test_the_exported_schemas_are_current() -> None:
    """What agents in other languages read is what the models say."""
    stale = [name for name, text in schemas().items() if (FOLDER / name).read_text() != text]
    assert not stale, "run: .venv/bin/python -m firestate.schema.export"
