"""Old words and the schema's: what the files of earlier systems call the same things."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from firestate.schema.enums import AgentStatus, CoordinationEventType, TaskStatus
from firestate.schema.values import utc

STATUSES = {each.value: each.value for each in AgentStatus} | {
    "running": "active",
    "started": "active",
    "online": "active",
    "working": "busy",
    "processing": "busy",
    "executing": "busy",
    "ready": "idle",
    "waiting": "idle",
    "paused": "idle",
    "inactive": "idle",
    "initialized": "idle",
    "failed": "error",
    "crashed": "error",
    "stopped": "terminated",
    "shutdown": "terminated",
    "offline": "terminated",
    "finished": "terminated",
    "completed": "terminated",
}
"""Of agents; looked up in lower case."""

TASK_STATUSES = {each.value: each.value for each in TaskStatus} | {
    "queued": "pending",
    "assigned": "pending",
    "running": "in_progress",
    "active": "in_progress",
    "started": "in_progress",
    "done": "completed",
    "success": "completed",
    "succeeded": "completed",
    "finished": "completed",
    "error": "failed",
    "failure": "failed",
    "canceled": "cancelled",
    "aborted": "cancelled",
}
"""Of tasks; looked up in lower case."""

EVENT_TYPES = {each.value: each.value for each in CoordinationEventType} | {
    "created": "spawn",
    "spawned": "spawn",
    "delegate": "handoff",
    "delegated": "handoff",
    "delegation": "handoff",
    "coordinate": "collaboration",
    "coordination": "collaboration",
    "collaborate": "collaboration",
    "terminated": "termination",
    "terminate": "termination",
    "stopped": "termination",
    "failed": "error",
    "failure": "error",
}
"""Of coordination events; looked up in lower case."""

FAILED = frozenset({"failed", "failure", "error", "crashed", "cancelled", "canceled", "aborted"})
"""What an event's old `status` says where it did not succeed."""

KNOWN_TYPES = {name.lower(): name for name in ("Father", "Architect", "Developer", "QA")}

_SECONDS_SINCE = re.compile(r"\d{9,16}(\.\d+)?", re.ASCII)
_SECONDS_END, _MILLISECONDS_END = 1e11, 1e14  # the year 5138, told in either unit


def parse_time(value: object) -> datetime | None:
    """Read a time: ISO 8601 (without a zone: UTC), or seconds, ms or microseconds since 1970."""
    try:
        if isinstance(value, str):
            text = value.strip()
            if _SECONDS_SINCE.fullmatch(text):  # else taken for a day of the year 1712, or such
                return parse_time(float(text))
            # CPython reads up to a NUL, and leaves out what follows.
            return utc(datetime.fromisoformat(text.replace("\0", " NUL ")))
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            unit = 1 if value < _SECONDS_END else 1e3 if value < _MILLISECONDS_END else 1e6
            return datetime.fromtimestamp(value / unit, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def hinted_type(text: str) -> str | None:
    """Give the agent type that a name begins with: `developer_001` is a Developer."""
    first = text.replace("-", "_").partition("_")[0]
    return KNOWN_TYPES.get(first.lower().removesuffix("agent"))
