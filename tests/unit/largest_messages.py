"""State messages that reach the limits of what is accepted, each in its own way.

Some hold the last of times, which is accepted on the last days alone.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from firestate.limits import (
    EARLIEST_ARRIVAL,
    INT64_MAX,
    INT64_MIN,
    MAX_COUNT,
    MAX_DEPTH,
    MAX_KEY_BYTES,
    MAX_LABEL_BYTES,
    MAX_LABELS,
    MAX_NAMES,
)
from firestate.schema.values import problems_of
from tests.harness import task

LAST_DAY = datetime.max.replace(tzinfo=UTC) - EARLIEST_ARRIVAL
"""From here on no time is too early."""
FIFTY_MORE = MAX_LABELS + 50
WHO = {"agent_id": "a" * 400, "agent_type": "T" * 400, "session_id": "s" * 400}


def word(number: int, letter: str = "x") -> str:
    """Give a label of 128 bytes."""
    return letter * ((MAX_LABEL_BYTES - 4) // len(letter.encode())) + f"{number:04}"


def nested(levels: int) -> dict[str, Any]:
    """Give maps and arrays by turns."""
    value: Any = INT64_MIN
    for level in range(levels):
        value = [value] if level % 2 and isinstance(value, dict) else {"__k": value}
    return value if isinstance(value, dict) else {"k": value}


def deepest() -> dict[str, Any]:
    """Give the deepest map that is accepted."""
    levels = MAX_DEPTH
    while list(problems_of(nested(levels), "")):
        levels -= 1
    return nested(levels)


EXTREMES: dict[str, dict[str, Any]] = {
    "empty": {},
    "labels of all kinds": {
        "task_history": [
            task(
                n,
                "failed" if n % 3 else "completed",
                kind=word(n % FIFTY_MORE),
                tool=word(n % FIFTY_MORE, "ä"),
                task_id=word(n),
                error_type=word(n % FIFTY_MORE, "ö"),
            )
            for n in range(700)
        ],
        "memory_context": {
            str(n): {"type": word(n % FIFTY_MORE), "importance": word(n % FIFTY_MORE, "😀")}
            for n in range(900)
        },
    },
    "one task with all tools": {
        "task_history": [{"status": "failed", "tools": [word(n) for n in range(900)]}]
    },
    "reserved labels": {
        "task_history": [
            task(n, "failed", kind=f"__{word(n)}__", tool="__x__", error_type=f"__{word(n)}__")
            for n in range(200)
        ],
        "memory_context": {"__": {"type": "__" + "x" * 500 + "__", "importance": "____"}},
    },
    "thousands of tasks": {"task_history": [{"status": "completed"}] * 40_000},
    "tasks at once": {"task_history": [task(1, status="failed") for _ in range(5_000)]},
    "a thousand names": {
        "tools_enabled": ["t" * 128] * MAX_NAMES,
        "child_agent_ids": [f"{n}".rjust(400, "c") for n in range(MAX_NAMES)],
        "performance_metrics": {f"{n}".rjust(200, "."): 1.7e308 for n in range(MAX_NAMES)},
    },
    "largest totals": {
        "task_totals": {
            group: {
                word(n): {
                    "tries": MAX_COUNT,
                    "successes": 0,
                    "cancelled": MAX_COUNT,
                    "duration_ms": MAX_COUNT,
                    "last_seen": "9999-12-31T23:59:59.999999Z",
                }
                for n in range(MAX_NAMES)
            }
            for group in ("kinds", "tools")
        }
        | {"errors": {word(n): MAX_COUNT for n in range(MAX_NAMES)}}
    },
    "largest numbers": {
        "memory_context": {
            "a": {"importance": INT64_MAX},
            "b": {"importance": INT64_MIN},
            "c": {"importance": -1.7e308},
            "d": {"importance": 5e-324},
            "e": {"importance": -0.0},
        },
        "task_history": [
            {"status": "failed", "duration_seconds": value, "duration_ms": value, "task_id": value}
            for value in (INT64_MAX, INT64_MIN, 1.7e308, 1e9, -0.0)
        ],
    },
    "deepest": {"memory_context": deepest(), "task_history": [{"status": "failed"}]},
    "longest keys": {"memory_context": {f"{n}".rjust(MAX_KEY_BYTES, "k"): {} for n in range(100)}},
    "first and last of times": {
        "created_at": "0001-01-01T00:00:00Z",
        "task_history": [
            {"status": "failed", "started_at": "0001-01-01", "ended_at": "9999-12-31T23:59:59"},
            {"status": "failed", "started_at": "9999-12-31T23:59-23:59", "ended_at": "0001-01-01"},
            {"status": "failed", "ended_at": "0001-01-01T00:00+23:59"},
        ],
    },
    "ids as long as can be": WHO
    | {
        "parent_agent_id": "p" * 400,
        "parent_agent_type": "P" * 400,
        "parent_session_id": "s" * 400,
    },
}
