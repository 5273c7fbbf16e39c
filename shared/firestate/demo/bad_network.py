"""What a network, and other people's clients, make of a story on its way."""

from __future__ import annotations

import json

from firestate.client.outgoing import Outgoing
from firestate.schema.messages import EVENT_TOPIC, STATE_TOPIC

_LATE_EVERY, _LATE_BY = 9, 3
_TWICE_EVERY = 11
_REWORDED_EVERY = 43


def badly_delivered(story: list[Outgoing]) -> list[Outgoing]:
    """Give the story with some twice, some in other words, some late, and nonsense in between."""
    sent = list(story)
    for number in range(0, len(sent) - _LATE_BY, _LATE_EVERY):
        sent.insert(number + _LATE_BY, sent.pop(number))
    for number in range(len(sent) - 1, 0, -_TWICE_EVERY):
        sent.insert(number, sent[number])
    for number in range(len(sent) - 1, 0, -_REWORDED_EVERY):
        sent.insert(number, _reworded(sent[number]))
    nonsense = _nonsense(story)
    for number, message in enumerate(nonsense, 1):
        sent.insert(number * len(sent) // (len(nonsense) + 1), message)
    return sent


def _reworded(message: Outgoing) -> Outgoing:
    """Give the same content in other bytes, as another client might send it again."""
    data = json.dumps(json.loads(message.data), sort_keys=True, indent=1).encode()
    return Outgoing(message.topic, data, message.attributes)


def _nonsense(story: list[Outgoing]) -> list[Outgoing]:
    state = next(m.data for m in story if m.topic == STATE_TOPIC)
    event = next(m.data for m in story if m.topic == EVENT_TOPIC)
    return [
        Outgoing(STATE_TOPIC, b'{"epoch": 1, "revision"'),
        Outgoing(STATE_TOPIC, state.replace(b'"Father"', b'"God_Father"')),
        Outgoing(STATE_TOPIC, state.replace(b'"idle"', b'"sleeping"')),
        Outgoing(STATE_TOPIC, state.replace(b'"task_history": []', b'"task_history": [[1]]')),
        Outgoing(EVENT_TOPIC, event.replace(b'"success": true', b'"success": "very"')),
        # The same place in the order with other content: who is right cannot be known.
        Outgoing(EVENT_TOPIC, event.replace(b'"spawn"', b'"handoff"')),
    ]
