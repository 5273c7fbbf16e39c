"""Counting `global_config` once more, from shards and controls, by code of its own."""

from __future__ import annotations

import datetime as dt
from typing import Any

_MOST_SESSIONS = 1_000
_MOST_NAMES = 64
_LONG_AGO = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def recount_system(shards: list[dict[str, Any]], controls: dict[str, Any]) -> dict[str, Any]:
    """Give the fields of `global_config` that can be recounted."""

    def over(*path: str) -> int:
        total = 0
        for shard in shards:
            value: Any = shard
            for name in path:
                value = value.get(name, {}) if isinstance(value, dict) else {}
            total += value if isinstance(value, int) else 0
        return total

    def names(*path: str) -> set[str]:
        found: set[str] = set()
        for shard in shards:
            value: Any = shard
            for name in path:
                value = value.get(name, {})
            found |= set(value)
        return found

    def counts(*path: str) -> dict[str, int]:
        return {name: over(*path, name) for name in names(*path) if over(*path, name)}

    agents: dict[str, int] = {}
    changed: dict[str, dt.datetime] = {}
    for shard in shards:
        for session, entry in shard.get("sessions", {}).items():
            agents[session] = agents.get(session, 0) + entry.get("agents", 0)
            changed[session] = max(changed.get(session, _LONG_AGO), entry.get("at", _LONG_AGO))
    active = sorted(session for session, count in agents.items() if count > 0)
    latest = sorted(active, key=lambda session: (changed[session], session), reverse=True)
    figures = ("total", "succeeded", "cancelled", "duration_ms")
    by_type = {
        kind: {figure: over("coordination", "by_type", kind, figure) for figure in figures}
        for kind in names("coordination", "by_type")
    }
    return {
        "active_sessions": sorted(latest[:_MOST_SESSIONS]),
        "total_agents_spawned": over("spawned"),
        "current_agent_count": over("current"),
        "error_counts": {
            "by_event_type": counts("errors", "by_event_type"),
            "by_error_type": _largest(counts("errors", "by_error_type")),
            "by_task_error_type": _largest(counts("errors", "by_task_error_type")),
        },
        "system_metrics": {
            "agents_by_status": counts("by_status"),
            "agents_by_type": _largest(counts("by_type")),
            "active_session_count": len(active),
            "tasks": {
                outcome: over("tasks", outcome) for outcome in ("completed", "failed", "cancelled")
            },
            "coordination": {figure: over("coordination", figure) for figure in figures}
            | {"by_type": {kind: one for kind, one in by_type.items() if any(one.values())}},
        },
        "global_config": controls.get("global_config", {}),
        "feature_flags": controls.get("feature_flags", {}),
        "emergency_stop": controls.get("emergency_stop", False),
        "emergency_reason": controls.get("emergency_reason"),
    }


def _largest(amounts: dict[str, int]) -> dict[str, int]:
    if len(amounts) <= _MOST_NAMES:
        return amounts
    order = sorted(amounts, key=lambda name: (-abs(amounts[name]), name))[: _MOST_NAMES - 1]
    shown = {name: amounts[name] for name in order if name != "other"}
    return shown | {"other": sum(amounts.values()) - sum(shown.values())}
