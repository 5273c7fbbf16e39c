"""From shards and controls to `system_state/global_config`."""

from __future__ import annotations

from datetime import UTC, datetime
from operator import add
from typing import TYPE_CHECKING, Any

from firestate.counters.labels import bounded
from firestate.counters.sums import Counts, added
from firestate.counters.task_history import ENDED
from firestate.limits import MAX_ACTIVE_SESSIONS
from firestate.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SYSTEM_VERSION = __version__
CONTROLLED = {
    "global_config": {},
    "feature_flags": {},
    "emergency_stop": False,
    "emergency_reason": None,
}
"""What operators set in the controls, with what holds where they have not."""

_NO_EVENTS: dict[str, Any] = {"total": 0, "succeeded": 0, "cancelled": 0, "duration_ms": 0}
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def sum_of_shards(shards: Iterable[Mapping[str, Any]]) -> Counts:
    """Add up the counts of all shards, sessions aside; zeros are left out."""
    total: Counts = {}
    for shard in shards:
        total = added(total, {name: value for name, value in shard.items() if name != "sessions"})
    return total


def active_sessions(shards: Iterable[Mapping[str, Any]]) -> tuple[list[str], int]:
    """Give the active sessions and how many there are.

    All of them in order of their names, or past 1,000 the 1,000 that last started or ended an
    agent.
    """
    agents: dict[str, int] = {}
    changed_at: dict[str, datetime] = {}
    for shard in shards:
        for session_id, entry in shard.get("sessions", {}).items():
            agents[session_id] = agents.get(session_id, 0) + entry["agents"]
            at = entry.get("at", _LONG_AGO)
            changed_at[session_id] = max(at, changed_at.get(session_id, at))
    active = [session_id for session_id, count in agents.items() if count > 0]
    listed = active
    if len(active) > MAX_ACTIVE_SESSIONS:
        listed = sorted(active, key=lambda one: (changed_at[one], one))[-MAX_ACTIVE_SESSIONS:]
    return sorted(listed), len(active)


def ended_sessions(shard: Mapping[str, Any]) -> list[str]:
    """Give the sessions of one shard without a current agent: their entries can go."""
    return [
        session_id
        for session_id, entry in shard.get("sessions", {}).items()
        if entry["agents"] == 0
    ]


def heaviest(counts: Mapping[str, int]) -> dict[str, int]:
    """Give the 64 largest of counts by users' own words; the rest as `other`.

    However many words there are, one document must hold what is shown of them.
    """
    return bounded(counts, abs, add)


def shown_tasks(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Give the counts of ended tasks, zeros included."""
    return dict.fromkeys(ENDED, 0) | dict(counts.get("tasks", {}))


def shown_coordination(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Give the counts of coordination events, zeros included."""
    coordination = counts.get("coordination", {})
    by_type = {name: _NO_EVENTS | each for name, each in coordination.get("by_type", {}).items()}
    shown: dict[str, Any] = _NO_EVENTS | coordination | {"by_type": by_type}
    return shown


def shown_errors(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Give the counts of errors, empty maps included."""
    return {"by_event_type": {}, "by_error_type": {}} | dict(counts.get("errors", {}))


def shown_events(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Give all that events add up to: of an agent, or of all."""
    return {
        **counts,
        "coordination": shown_coordination(counts),
        "errors": shown_errors(counts),
    }


def global_document(
    shards: Sequence[Mapping[str, Any]],
    controls: Mapping[str, Any] | None,
    metrics: Mapping[str, Any],
) -> dict[str, Any]:
    """Give the fields of `global_config` that follow from shards and controls.

    `metrics` are the system metrics so far: what the sweep has put there stays.
    """
    total = sum_of_shards(shards)
    sessions, session_count = active_sessions(shards)
    errors = {"by_task_error_type": {}} | shown_errors(total)
    document: dict[str, Any] = {
        "schema_version": 1,
        "system_version": SYSTEM_VERSION,
        "active_sessions": sessions,
        "total_agents_spawned": total.get("spawned", 0),
        "current_agent_count": total.get("current", 0),
        "error_counts": errors
        | {name: heaviest(errors[name]) for name in ("by_error_type", "by_task_error_type")},
        "system_metrics": {
            **metrics,
            "agents_by_status": total.get("by_status", {}),
            "agents_by_type": heaviest(total.get("by_type", {})),
            "active_session_count": session_count,
            "tasks": shown_tasks(total),
            "coordination": shown_coordination(total),
        },
    }
    for name, default in CONTROLLED.items():
        document[name] = (controls or {}).get(name, default)
    return document
