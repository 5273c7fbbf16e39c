"""The demo's story holds what it promises."""

from __future__ import annotations

from collections import Counter

from firestate.demo.scenario import scenario
from firestate.errors import InvalidMessageError
from firestate.schema.messages import EVENT_TOPIC, parse_event_message, parse_state_message
from tests.unit.strategies import NOW


def test_the_story() -> None:
    """About 150 distinct messages: all kinds of events, several sessions, and some nonsense."""
    messages = scenario(NOW)
    distinct = list(dict.fromkeys((m.topic, m.data) for m in messages))
    assert 140 <= len(distinct) <= 180
    assert len(messages) > len(distinct), "some come twice"
    kinds: Counter[str] = Counter()
    for topic, data in distinct:
        try:
            if topic == EVENT_TOPIC:
                kinds[parse_event_message(data).event.event_type.value] += 1
            else:
                kinds[type(parse_state_message(data)).__name__] += 1
        except InvalidMessageError as error:
            kinds[error.code] += 1
    # One more, an event that is stored with other content, is found out by what is stored alone.
    assert kinds["json"] + kinds["schema"] == 5
    assert {"spawn", "handoff", "collaboration", "termination", "error"} < kinds.keys()


def test_the_story_is_always_the_same() -> None:
    """So that what it shows can be relied on."""
    assert scenario(NOW) == scenario(NOW)
