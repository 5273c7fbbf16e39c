"""What is written for a refused message, and what for one that was replayed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from firestate.errors import FieldProblem, InvalidMessageError
from firestate.ingest.refusal import (
    ON_REFUSAL,
    attributes_of_publisher,
    dead_letter,
    quarantine_creation,
    refused_again,
    replayed,
)
from firestate.limits import MAX_MESSAGE_BYTES, QUARANTINE_COMMIT_PARTS, QUARANTINE_PART_BYTES
from firestate.schema.quarantine_document import QuarantineDocument
from firestate.schema.serialization import from_document
from firestate.schema.values import stored_size
from firestate.stores.protocol import Stored
from tests.unit.strategies import NOW

REFUSED = InvalidMessageError("schema", [FieldProblem("state", "is none")])
LATER = NOW + timedelta(minutes=5)


def stored(**changes: Any) -> Stored:
    creation = quarantine_creation("agent-state", b"{}", {}, REFUSED, NOW)
    return Stored(creation.path, {**creation.data, **changes}, "token", NOW)


def test_a_new_one_waits() -> None:
    """It has come once, was never replayed, and reads as what the commands show."""
    creation = quarantine_creation("agent-state", b"{}", {"a": "1"}, REFUSED, NOW)
    document = from_document(QuarantineDocument, creation.data)
    assert creation.path == f"quarantine/{document.id}"
    assert document.waiting
    assert (document.deliveries, document.replays, document.replayed_at) == (1, 0, None)
    assert document.first_seen == document.last_seen == NOW


def test_refused_again() -> None:
    """The count grows, it waits again, and the reason is the latest."""
    before = stored(deliveries=3, waiting=False)
    masked = Stored(before.path, {k: before.data[k] for k in ON_REFUSAL}, "token", NOW)
    again = refused_again(masked, {}, InvalidMessageError("late", [FieldProblem("x", "y")]), LATER)
    assert again.token == before.token
    assert again.data == {
        "deliveries": 4,
        "last_seen": LATER,
        "waiting": True,
        "code": "late",
        "errors": [{"field": "x", "reason": "y"}],
    }


def test_a_dead_letter_that_is_known() -> None:
    """It raises the count, and leaves the reason that is there."""
    again = refused_again(stored(), {}, dead_letter({}), LATER)
    assert again.data == {"deliveries": 2, "last_seen": LATER, "waiting": True}


def test_replayed() -> None:
    """It waits no longer."""
    marked = replayed(stored(replays=1), stored(replays=1), LATER)
    assert marked.data == {"replays": 2, "replayed_at": LATER, "waiting": False}


@pytest.mark.parametrize("since", [{"deliveries": 2}, {"first_seen": LATER}])
def test_refused_while_it_was_replayed(since: dict[str, Any]) -> None:
    """Refused once more, or dropped and refused anew: it goes on waiting."""
    marked = replayed(stored(), stored(**since), LATER)
    assert marked.data == {"replays": 1, "replayed_at": LATER}


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({}, "each time"),
        ({"CloudPubSubDeadLetterSourceDeliveryCount": "7"}, "each time, 7 times"),
        (
            {
                "CloudPubSubDeadLetterSourceDeliveryCount": "5",
                "CloudPubSubDeadLetterSourceSubscription": "s",
            },
            "each time, 5 times (subscription s)",
        ),
    ],
)
def test_dead_letters(attributes: dict[str, str], told: str) -> None:
    """The problem says how often the message was tried, as far as Pub/Sub tells."""
    error = dead_letter(attributes)
    assert error.code == "dead_letter"
    assert error.problems[0].reason.endswith(told)


def test_what_pubsub_added_is_not_published() -> None:
    """It would refuse some of it; what the publisher set is kept."""
    attributes = {
        "traceparent": "00",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceTopicPublishTime": "2026-11-23T12:00:00Z",
        "googclient_schemaencoding": "JSON",
    }
    assert attributes_of_publisher(attributes) == {"traceparent": "00"}


def test_the_last_commit_fits_one_request() -> None:
    """The largest document there can be, and a full group of parts: below the emulator's 4 MiB."""
    problems = [FieldProblem("\U0001f600" * 600, "\U0001f600" * 600)] * 60
    attributes = {f"{number:0256}": "x" * 1_024 for number in range(100)}
    data = bytes(MAX_MESSAGE_BYTES)
    error = InvalidMessageError("schema", problems)
    creation = quarantine_creation("agent-coordination", data, attributes, error, NOW)
    # A commit names each field's type and length, and each document's path, on top of that.
    size = stored_size(dict(creation.data)) * 1.2
    assert size + QUARANTINE_COMMIT_PARTS * (QUARANTINE_PART_BYTES + 500) < 4 * 1024 * 1024


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"writer": "host-1"}, {"writer": "host-1"}),
        ({"writer": "é" * 1_000}, {"writer": "é" * 300}),
        ({"writer": ""}, {}),
        ({"Writer": "host-1"}, {}),
    ],
)
def test_the_writer(attributes: dict[str, str], told: dict[str, str]) -> None:
    """By this field its folder finds what was refused; also where it is known, and comes again."""
    new = quarantine_creation("agent-state", b"{}", attributes, REFUSED, NOW).data
    again = refused_again(stored(), attributes, REFUSED, LATER).data
    for each in (new, again):
        assert {k: v for k, v in each.items() if k == "writer"} == told
