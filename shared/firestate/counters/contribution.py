"""What one state contributes to the counters and to its agent's analytics.

Ingest computes it and stores it in the state's document, beside the version at which it last
changed; the ledger takes it from there. A session contributes what it did itself: entries that
name another session are carried along and count where they were made.

Whenever the meaning of a contribution changes, raise CODE and run `firestate rederive`.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from firestate.counters.labels import bounded, label
from firestate.counters.tasks import ENDED, EndedTask, ended_task
from firestate.limits import MAX_DECISIONS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

CODE = 1

Contribution = dict[str, Any]
Version = tuple[int, int, int]
"""(generation, epoch, revision): another one whenever the contribution of a state changes."""

_IMPORTANCE_STEPS = 10
_LARGEST_IMPORTANCE = 1_000


def contribution_of(document: Mapping[str, Any]) -> Contribution:
    """Give what a state (its fields as stored) or a tombstone contributes.

    `spawned` is 1 for each, `current` 1 unless terminated or deleted. `kinds` and `tools` hold
    tries, successes, cancelled, timed, duration_ms and last_seen by name; `decisions` the newest
    100 tasks that ended.
    """
    if document.get("deleted"):
        return {"spawned": 1, "current": 0, "tasks": dict.fromkeys(ENDED, 0)}
    session_id, created_at = document["session_id"], document["created_at"]
    ended = [
        task
        for entry in document["task_history"]
        if (task := ended_task(entry, session_id)) is not None
    ]
    contribution: Contribution = {
        "spawned": 1,
        "current": int(document["status"] != "terminated"),
        "status": document["status"],
        "created_at": created_at,
        "memory": _memory(document["memory_context"], session_id),
        "decisions": _decisions(ended, created_at),
    }
    return contribution | _totals(document.get("task_totals"), ended, created_at)


def _totals(
    given: Mapping[str, Any] | None, ended: list[EndedTask], created_at: datetime
) -> Contribution:
    if given is None:
        kinds: dict[str, dict[str, Any]] = {}
        tools: dict[str, dict[str, Any]] = {}
        for task in ended:
            _add_to(kinds, task.kind, _pattern(task, created_at))
            for tool in task.tools:
                _add_to(tools, tool, _pattern(task, created_at))
    else:
        kinds, tools = _given(given.get("kinds", {})), _given(given.get("tools", {}))
    by_outcome = Counter(
        completed=sum(kind["successes"] for kind in kinds.values()),
        failed=sum(k["tries"] - k["successes"] - k["cancelled"] for k in kinds.values()),
        cancelled=sum(kind["cancelled"] for kind in kinds.values()),
    )
    return {
        "tasks": {outcome: by_outcome[outcome] for outcome in ENDED},
        "kinds": bounded(kinds, _tries, _joined),
        "tools": bounded(tools, _tries, _joined),
    }


def _given(totals: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, each in totals.items():
        pattern = {
            "tries": each["tries"],
            "successes": each["successes"],
            "cancelled": each.get("cancelled", 0),
            "timed": each.get("timed", each["tries"]),
            "duration_ms": each.get("duration_ms", 0),
            "last_seen": each.get("last_seen"),
        }
        if pattern["tries"] or pattern["duration_ms"]:
            _add_to(found, label(name, "unspecified"), pattern)
    return found


def _pattern(task: EndedTask, created_at: datetime) -> dict[str, Any]:
    return {
        "tries": 1,
        "successes": int(task.outcome == "completed"),
        "cancelled": int(task.outcome == "cancelled"),
        "timed": int(task.duration_ms is not None),
        "duration_ms": task.duration_ms or 0,
        "last_seen": task.ended_at or created_at,
    }


def _add_to(patterns: dict[str, dict[str, Any]], name: str, pattern: dict[str, Any]) -> None:
    patterns[name] = _joined(patterns[name], pattern) if name in patterns else pattern


def _joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    counts = {
        name: one[name] + other[name]
        for name in ("tries", "successes", "cancelled", "timed", "duration_ms")
    }
    seen = [time for time in (one["last_seen"], other["last_seen"]) if time is not None]
    return counts | {"last_seen": max(seen, default=None)}


def _tries(pattern: dict[str, Any]) -> int:
    tries: int = pattern["tries"]
    return tries


def _memory(context: Mapping[str, Any], session_id: str) -> dict[str, Any]:
    types: Counter[str] = Counter()
    importance: Counter[str] = Counter()
    count = 0
    for entry in context.values():
        if not isinstance(entry, dict):
            count += 1
            continue
        if entry.get("session_id") not in (None, session_id):
            continue
        count += 1
        kind = entry.get("type", entry.get("memory_type"))
        if isinstance(kind, str):
            types[label(kind, "unspecified")] += 1
        if weight := _importance(entry.get("importance")):
            importance[weight] += 1
    return {
        "count": count,
        "types": bounded(types, int, int.__add__),
        "importance": bounded(importance, int, int.__add__),
    }


def _importance(value: object) -> str | None:
    """Words as they are; 0 to 1 in steps of a tenth (`0.7`); other numbers whole (`8`)."""
    if isinstance(value, str) and value:
        return label(value, "unspecified")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if 0 <= value <= 1:
        return f"{math.floor(value * _IMPORTANCE_STEPS) / _IMPORTANCE_STEPS:.1f}"
    return str(math.floor(value)) if abs(value) <= _LARGEST_IMPORTANCE else "other"


def _decisions(ended: list[EndedTask], created_at: datetime) -> list[dict[str, Any]]:
    # A task tried twice under one id is two decisions: `attempt` tells them apart.
    seen: Counter[str] = Counter()
    decisions = []
    for task in ended:
        seen[task.task_id] += 1
        decisions.append(
            {
                "id": task.task_id,
                "attempt": seen[task.task_id],
                "at": task.ended_at or created_at,
                "kind": task.kind,
                "outcome": task.outcome,
                "duration_ms": task.duration_ms,
            }
        )
    decisions.sort(key=lambda each: (each["at"], each["id"], each["attempt"]), reverse=True)
    return decisions[:MAX_DECISIONS]
