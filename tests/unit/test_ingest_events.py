"""What becomes of an event, and of a message that is refused."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestate.errors import FieldProblem, InvalidMessageError
from firestate.ingest.events import (
    decide_known_event,
    event_creation,
    may_be_expired,
)
from firestate.ingest.outcomes import Outcome
from firestate.ingest.refusal import parts, quarantine_creation, quarantine_id
from firestate.limits import (
    EVENT_LIFETIME,
    LATEST_ARRIVAL,
    QUARANTINE_PART_BYTES,
)
from firestate.schema.messages import (
    EventMessage,
    parse_event_message,
)
from firestate.schema.values import time_text
from firestate.stores.protocol import Stored
from tests.harness import (
    NOW,
    event_message,
)

OLD = NOW - LATEST_ARRIVAL - timedelta(seconds=1)


def read_event(message: dict[str, Any]) -> EventMessage:
    return parse_event_message(json.dumps(message).encode())


def test_an_event_is_created_once() -> None:
    """It is stored with its digest, without a mark, for 90 days."""
    message = read_event(event_message("e1"))
    creation = event_creation(message, NOW)
    assert creation.path == message.path
    assert creation.data["expire_at"] == NOW + EVENT_LIFETIME
    assert "counted" not in creation.data
    known = Stored(creation.path, {"digest": creation.data["digest"]}, "t", NOW)
    assert decide_known_event(known, message) is Outcome.DUPLICATE
    with pytest.raises(InvalidMessageError, match="other content") as caught:
        decide_known_event(known, read_event(event_message("e1", success=False)))
    assert caught.value.code == "conflict"


def test_too_early() -> None:
    """An event that is dated more than a day ahead would stay the latest for as long."""
    ahead, soon = (time_text(NOW + timedelta(hours=hours)) for hours in (25, 23))
    event_creation(read_event(event_message("e", timestamp=soon)), NOW)
    with pytest.raises(InvalidMessageError, match="yet to come") as caught:
        event_creation(read_event(event_message("e", timestamp=ahead)), NOW)
    assert caught.value.code == "too_early"


def test_an_event_that_may_have_been_removed() -> None:
    """One older than 30 days is looked up first, and is too late if it is not there."""
    assert not may_be_expired(read_event(event_message("e1")), NOW)
    old = event_message("e1", timestamp=time_text(OLD))
    assert may_be_expired(read_event(old), NOW)
    assert not may_be_expired(read_event(old | {"migration": True}), NOW)
    with pytest.raises(InvalidMessageError, match="older than 30 days"):
        decide_known_event(None, read_event(old))


@pytest.mark.parametrize("size", [0, 1, QUARANTINE_PART_BYTES, QUARANTINE_PART_BYTES + 1])
def test_quarantine_keeps_every_byte(size: int) -> None:
    """The parts together are the message; the document says how many there are."""
    data = bytes(n % 251 for n in range(size))
    kept = list(parts("agent-state", data))
    assert b"".join(part for _, part in kept) == data
    error = InvalidMessageError("schema", [FieldProblem("f" * 1000, "r" * 1000)] * 100)
    creation = quarantine_creation("agent-state", data, {"b": "2", "a": "1"}, error, NOW)
    assert creation.data["parts"] == len(kept)
    assert creation.data["size"] == size
    assert creation.data["attributes"] == [
        {"name": "a", "value": "1"},
        {"name": "b", "value": "2"},
    ]
    assert len(creation.data["errors"]) == 50
    assert len(creation.data["errors"][0]["reason"]) == 500


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_quarantine_ids_go_by_topic_and_bytes(one: bytes, other: bytes) -> None:
    """The same message again has the same id, any other has another."""
    assert (quarantine_id("agent-state", one) == quarantine_id("agent-state", other)) == (
        one == other
    )
    assert quarantine_id("agent-state", one) != quarantine_id("agent-coordination", one)
