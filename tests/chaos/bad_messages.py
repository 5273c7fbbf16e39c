"""Bad messages of every class, each from a good one, with the field that its refusal must name.

`bad_message(random)` draws one; equal seeds give equal messages. What is done to a good message
is in bad_values.py and bad_kinds.py, class by class.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from firestate.schema.messages import EVENT_TOPIC, STATE_TOPIC
from firestate.schema.values import time_text
from tests.chaos.bad_kinds import BYTES, LARGE, MAYBE_GOOD, WHOLE, Good
from tests.chaos.bad_values import AT, RAW
from tests.harness import NOW, event_message, state_message, task, tombstone_message

if TYPE_CHECKING:
    from datetime import datetime
    from random import Random

_STEP = re.compile(r"[^.\[\]]+")
_HOLE = "@@ a value that JSON has no text for @@"

KINDS = (*AT, *RAW, *WHOLE, *BYTES, *LARGE, *MAYBE_GOOD)
"""The names of all classes."""

_SMALL = tuple(kind for kind in KINDS if kind not in LARGE)
_SHARE_OF_LARGE = 0.004


@dataclass(frozen=True, slots=True)
class BadMessage:
    """A message to be refused with a problem of `field`; None: it may happen to be good."""

    topic: str
    data: bytes
    kind: str
    field: str | None


def bad_message(random: Random, kind: str | None = None, now: datetime = NOW) -> BadMessage:
    """Draw a message of `kind`; where that is None, of any, of those that take MBs seldom."""
    if kind is None:
        kind = random.choice(tuple(LARGE) if random.random() < _SHARE_OF_LARGE else _SMALL)
    if kind in AT:
        places, draw = AT[kind]
        path = random.choice(places)
        value, below = draw(random)
        message = good_message(random, now, path)
        _set(message, path, value)
        return BadMessage(_topic(message), _dumped(message), kind, path + below)
    if kind in RAW:
        places, draw_text = RAW[kind]
        path = random.choice(places)
        text, below = draw_text(random)
        message = good_message(random, now, path)
        _set(message, path, _HOLE)
        data = _dumped(message).replace(json.dumps(_HOLE).encode(), text)
        return BadMessage(_topic(message), data, kind, path + below)
    if kind in WHOLE:
        good = Good(*(good_message(random, now, part) for part in Good._fields))
        topic, message, field = WHOLE[kind](random, good)
        return BadMessage(topic, _dumped(message), kind, field)
    message = good_message(random, now, random.choice(["state", "deleted", "event"]))
    if kind in LARGE:
        data, field = LARGE[kind](random, _dumped(message))
        return BadMessage(STATE_TOPIC, data, kind, field)
    if kind in BYTES:
        return BadMessage(_topic(message), BYTES[kind](random, _dumped(message)), kind, "message")
    return BadMessage(_topic(message), MAYBE_GOOD[kind](random, _dumped(message)), kind, None)


def good_message(random: Random, now: datetime, path: str) -> dict[str, Any]:
    """Draw a good message that has the field `path`: a state, an event or a tombstone."""
    at = now - timedelta(milliseconds=random.randrange(10**6))
    who = {
        "agent_id": f"agent-{random.randrange(50)}",
        "agent_type": random.choice(["Developer", "QA", "Architect"]),
        "session_id": f"s{random.randrange(9)}",
    }
    if path.startswith("event"):
        return _event(random, at, who)
    order = {"epoch": random.randrange(1, 10**15), "writer": f"w{random.randrange(9)}"}
    if path.startswith("deleted"):
        deleted: dict[str, Any] = who | {"deleted_at": time_text(at)}
        return tombstone_message(random.randrange(99), **deleted) | order
    state = state_message(
        random.randrange(99),
        agent_id=who["agent_id"],
        agent_type=who["agent_type"],
        session_id=who["session_id"],
        status=random.choice(["idle", "active", "busy", "error", "terminated"]),
        created_at=time_text(at),
        last_updated=time_text(at),
        last_active=time_text(at),
        memory_context={"note": {"type": "fact", "importance": random.random(), "text": "ä😀"}},
        task_history=[task(number) for number in range(random.randrange(1, 4))],
        performance_metrics={"tokens": random.randrange(9999)},
        tools_enabled=["editor"],
        child_agent_ids=["c-1"],
        parent_agent_id="father",
        current_task="t1",
        task_status="pending",
        collaboration_context={"with": ["QA"]},
        task_totals={"kinds": {"code": {"tries": 2, "successes": 1}}, "tools": {}},
    )
    return state | order


def _event(random: Random, at: datetime, who: dict[str, str]) -> dict[str, Any]:
    return event_message(
        f"e-{random.randrange(10**9)}",
        random.choice(["spawn", "handoff", "collaboration", "termination", "error"]),
        timestamp=time_text(at),
        source_agent_id=who["agent_id"],
        source_agent_type=who["agent_type"],
        session_id=who["session_id"],
        context={"error_type": "Timeout", "note": {"deep": [1]}},
        task_context={"task": "t1"},
        error_message="none",
        duration_seconds=random.random(),
    )


def _topic(message: dict[str, Any]) -> str:
    return EVENT_TOPIC if "event" in message else STATE_TOPIC


def _set(message: dict[str, Any], path: str, value: Any) -> None:
    *steps, last = _STEP.findall(path)
    inside: Any = message
    for step in steps:
        inside = inside[int(step) if isinstance(inside, list) else step]
    inside[int(last) if isinstance(inside, list) else last] = copy.deepcopy(value)


def _dumped(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()
