"""A `task_history` parsed into typed tasks: frameworks write its entries in their own ways.

Looked at are `status` (a TaskStatus), `kind` (or `task_type`, `type`), `tool` or `tools`,
`duration_seconds` (or `duration_ms`, or the times of start and end), `ended_at` (or
`completed_at`, `timestamp`), `task_id` (or `id`), `error_type` of a failed one, and `session_id`.
All else is the user's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from firestate.counters.labels import UNSPECIFIED, label
from firestate.counters.sums import milliseconds
from firestate.limits import MAX_DURATION_SECONDS, MAX_LABEL_BYTES
from firestate.schema.times import time_in
from firestate.schema.values import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

ENDED = ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class EndedTask:
    """One task that came to an end; `duration_ms` in whole milliseconds where it is known."""

    task_id: str
    kind: str
    tools: tuple[str, ...]
    outcome: str
    ended_at: datetime | None
    duration_ms: int | None
    error_type: str = ""
    """The word that a failed task is counted by; empty where it names none."""


def ended_tasks(history: Iterable[Any], session_id: str) -> list[EndedTask]:
    """Parse a history; return the tasks that ended and that the session did itself.

    An entry that is no map says nothing of a task.
    """
    entries = (entry for entry in history if isinstance(entry, dict))
    return [task for entry in entries if (task := ended_task(entry, session_id)) is not None]


def ended_task(entry: Mapping[str, Any], session_id: str) -> EndedTask | None:
    """Read one entry; None if it has not ended, or if another session did it."""
    if entry.get("session_id") not in (None, session_id) or entry.get("status") not in ENDED:
        return None
    ended_at = time_in(_first(entry, "ended_at", "completed_at", "timestamp"))
    return EndedTask(
        task_id=_task_id(entry),
        kind=label(_first(entry, "kind", "task_type", "type"), UNSPECIFIED),
        tools=_tools(entry),
        outcome=entry["status"],
        ended_at=ended_at,
        duration_ms=_duration_ms(entry, ended_at),
        error_type=label(entry.get("error_type"), "") if entry["status"] == "failed" else "",
    )


def _first(entry: Mapping[str, Any], *names: str) -> Any:  # noqa: ANN401 - a user's value
    return next((entry[name] for name in names if entry.get(name) is not None), None)


def _task_id(entry: Mapping[str, Any]) -> str:
    given = _first(entry, "task_id", "id")
    if isinstance(given, str | int) and 0 < len(str(given).encode()) <= MAX_LABEL_BYTES:
        return str(given)
    return digest(dict(entry))


def _tools(entry: Mapping[str, Any]) -> tuple[str, ...]:
    given = _first(entry, "tools", "tool")
    names = given if isinstance(given, list) else [given]
    return tuple(sorted({label(name, UNSPECIFIED) for name in names if isinstance(name, str)}))


def _duration_ms(entry: Mapping[str, Any], ended_at: datetime | None) -> int | None:
    seconds = _number(entry.get("duration_seconds"))
    thousandths = _number(entry.get("duration_ms"))
    started_at = time_in(entry.get("started_at"))
    if seconds is not None:
        given = seconds
    elif thousandths is not None:
        given = thousandths / 1000
    elif started_at and ended_at:
        given = (ended_at - started_at).total_seconds()
    else:
        return None
    return milliseconds(given) if 0 <= given <= MAX_DURATION_SECONDS else None


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
