"""Bad messages of every class are refused, and the refusal names the field."""

from __future__ import annotations

import json
from random import Random

import pytest

from firestate.errors import InvalidMessageError
from firestate.schema.messages import (
    EVENT_TOPIC,
    STATE_TOPIC,
    parse_event_message,
    parse_state_message,
)
from tests.chaos.bad_kinds import LARGE, MAYBE_GOOD
from tests.chaos.bad_messages import KINDS, BadMessage, bad_message, good_message
from tests.harness import NOW


def refusal(message: BadMessage) -> InvalidMessageError | None:
    """Give what the parser says, None if it takes the message."""
    parse = parse_state_message if message.topic == STATE_TOPIC else parse_event_message
    try:
        parse(message.data)
    except InvalidMessageError as error:
        return error
    return None


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in MAYBE_GOOD])
def test_each_class_names_its_field(kind: str) -> None:
    """Whatever good message it was made of, and wherever in that the mistake is."""
    for seed in range(2 if kind in LARGE else 25):
        message = bad_message(Random(seed), kind)
        error = refusal(message)
        assert error is not None, message
        assert message.field in {problem.field for problem in error.problems}, (message, error)
        for problem in error.problems:
            assert problem.field.encode()
            assert problem.reason.encode()


@pytest.mark.parametrize("kind", MAYBE_GOOD)
def test_what_may_be_good_is_read_or_refused(kind: str) -> None:
    """Some spoiled messages still are messages; no other error comes of any."""
    errors = [refusal(bad_message(Random(seed), kind)) for seed in range(600)]
    refused = sum(error is not None for error in errors)
    assert 300 < refused < 600


def test_good_messages_are_good() -> None:
    """What the bad ones are made of is accepted: they are bad for one reason."""
    for seed in range(50):
        random = Random(seed)
        for part in ("state", "deleted", "event"):
            message = good_message(random, NOW, part)
            topic = EVENT_TOPIC if part == "event" else STATE_TOPIC
            data = json.dumps(message).encode()
            assert refusal(BadMessage(topic, data, "good", None)) is None


def test_a_seed_is_a_message() -> None:
    """Equal seeds give equal messages, others others; all classes come up."""
    drawn = [bad_message(random) for random in [Random(1)] for _ in range(2_000)]
    again = [bad_message(random) for random in [Random(1)] for _ in range(2_000)]
    assert drawn == again
    assert len({message.data for message in drawn}) > 1_800
    assert len(KINDS) >= 40
    assert {message.kind for message in drawn} >= set(KINDS) - set(LARGE)
