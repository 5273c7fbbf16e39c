"""Times that a wrong clock has made, before the store has said what time it is.

An agent never waits for that: what it saves meanwhile holds the times that its machine has. They
are put right before they go out, and in the memory of the agent. What is wrong is told by itself:

    more than an hour ahead of the present     moved by what the clock was ahead, or to the present
    a clock that was more than an hour behind  the newest time of what was saved is not later than
                                               that clock's own present; it is moved, with what was
                                               said up to a day before it
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from firestate.schema.ids import Identity, event_path
from firestate.schema.times import move_times, time_in
from firestate.schema.values import time_text

if TYPE_CHECKING:
    from firestate.clock import Clock

_TOLERATED = timedelta(hours=1)
_MOST_BEFORE = timedelta(days=1)
_BODIES = {"state": "last_updated", "deleted": "deleted_at", "event": "timestamp"}


def put_right(message: dict[str, Any], clock: Clock) -> str | None:
    """Put the times of a message right; return its document's path, or None: nothing was wrong."""
    home = next((name for name in _BODIES if isinstance(message.get(name), dict)), None)
    if home is None:
        return None
    body = message[home]
    if not put_body_right(body, clock, _BODIES[home]):
        return None
    if home == "event":
        return event_path(datetime.fromisoformat(body["timestamp"]), body["event_id"])
    return Identity(*(body[name] for name in Identity._fields)).state_path


def put_body_right(body: dict[str, Any], clock: Clock, newest: str = "last_updated") -> bool:
    """Put the times of a body right, `newest` the latest of them; return whether any was wrong."""
    now = clock.now()
    behind = clock.behind
    latest = time_in(body.get(newest))
    is_behind = (
        latest is not None
        and behind > _TOLERATED
        and latest < now - _TOLERATED
        and latest <= clock.uncorrected() + _TOLERATED
    )
    earliest = latest - min(behind / 2, _MOST_BEFORE) if latest and is_behind else None

    def moved(time: datetime) -> datetime | None:
        if time > now + _TOLERATED:
            return min(time + behind, now) if behind < timedelta(0) else now
        if earliest is not None and latest is not None and earliest <= time <= latest:
            return time + behind
        return None

    return move_times(body, moved)


def is_same_time(one: object, other: object, clock: Clock) -> bool:
    """Whether two times are one, the first perhaps as it was before it was put right."""
    if one == other:
        return True
    time = time_in(one)
    return time is not None and any(time_text(time + move) == other for move in clock.moves)
