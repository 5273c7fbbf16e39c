"""An agent's memory document: a pure fold of its ledger rows and its coordination events.

What can be read out of the fields that people look at is not stored again; what cannot (the
windows before they are merged, the latest session) lies under `counted`.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from firestate.counters.shard_totals import shown_events, shown_tasks
from firestate.counters.sums import Counts, added
from firestate.derive.insights import performance_insights, rate_and_duration
from firestate.derive.memory_events import EventsPart
from firestate.derive.memory_rows import COUNTED, PATTERNS, RowsPart
from firestate.derive.newest_entries import newest
from firestate.limits import MAX_ACTIVITIES, MAX_DECISIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_NO_TRIES = dict.fromkeys(COUNTED, 0)
_OF_ROWS = ("sessions", "tasks")  # in learning_context; the rest of it is of events
_ALWAYS_OF_EVENTS = ("coordination", "errors")
_COUNTED_TWICE = ("counts", "last_seen")


def memory_document(
    agent_type: str, agent_id: str, rows: RowsPart, events: EventsPart
) -> dict[str, Any]:
    """Give the document of an agent's memory, all fields of AgentMemory and `counted`."""
    decisions = newest([*rows.decisions, *events.decisions], MAX_DECISIONS)
    tasks = [
        {"activity" if key == "decision" else key: value for key, value in decision.items()}
        for decision in rows.decisions[:MAX_ACTIVITIES]
    ]
    times = [time for time in (rows.last_at, events.last_at) if time is not None]
    return {
        "schema_version": 1,
        "agent_type": agent_type,
        "agent_id": agent_id,
        "memory_count": rows.counts.get("memory_count", 0),
        "memory_types_count": rows.counts.get("memory_types", {}),
        "importance_distribution": rows.counts.get("importance", {}),
        "last_memory_sync": max(times, default=_NEVER),
        "learning_context": {
            "sessions": rows.counts.get("sessions", 0),
            "tasks": shown_tasks(rows.counts),
            **shown_events(events.counts),
        },
        "learned_patterns": {group: _patterns(rows, group) for group in PATTERNS},
        "decision_history": decisions,
        "recent_activity": newest([*rows.sessions, *tasks, *events.recent], MAX_ACTIVITIES),
        "performance_insights": performance_insights(rows),
        "counted": {"rows": _hidden(rows), "events": _hidden(events)},
    }


def parts_of(document: Mapping[str, Any] | None) -> tuple[RowsPart, EventsPart]:
    """Read the parts back out of a memory document; empty ones where there is none."""
    if document is None:
        return RowsPart(), EventsPart()
    learning, patterns = document["learning_context"], document["learned_patterns"]
    counts: Counts = {
        "sessions": learning["sessions"],
        "tasks": learning["tasks"],
        "memory_count": document["memory_count"],
        "memory_types": document["memory_types_count"],
        "importance": document["importance_distribution"],
        **{group: _counts_in(patterns[group]) for group in PATTERNS},
    }
    last_seen = {
        group: {
            name: pattern["last_seen"]
            for name, pattern in patterns[group].items()
            if pattern.get("last_seen") is not None
        }
        for group in PATTERNS
    }
    event_counts = {name: value for name, value in learning.items() if name not in _OF_ROWS}
    for name in _ALWAYS_OF_EVENTS:
        event_counts[name] = learning[name]  # a memory without them is damaged, not empty
    counted = document["counted"]
    return (
        RowsPart(
            counts=added(counts, {}),  # without the zeros that are only shown
            last_seen=last_seen,
            **counted["rows"],
        ),
        EventsPart(counts=added(event_counts, {}), **counted["events"]),
    )


def _hidden(part: RowsPart | EventsPart) -> dict[str, Any]:
    names = (field.name for field in fields(part))
    return {name: getattr(part, name) for name in names if name not in _COUNTED_TWICE}


def _patterns(rows: RowsPart, group: str) -> dict[str, Any]:
    return {
        name: _NO_TRIES
        | counts
        | rate_and_duration(counts)
        | {"last_seen": rows.last_seen.get(group, {}).get(name)}
        for name, counts in rows.counts.get(group, {}).items()
    }


_SHOWN_ONLY = ("success_rate", "mean_duration_ms", "last_seen")


def _counts_in(patterns: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    return {
        name: {key: value for key, value in pattern.items() if key not in _SHOWN_ONLY}
        for name, pattern in patterns.items()
    }
