"""Counting an agent's analytics once more, from its rows and events, by code of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.audit.recount import (
    FIGURES,
    OUTCOMES,
    Doc,
    Flat,
    newest_of,
    recount_event,
    tally,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

_NEWEST_DECISIONS = 100
_NEWEST_ACTIVITIES = 50
_MOST_NAMES = 64

WORD_DEPTH = 3
"""A figure by word has a path like errors, by_error_type, the word."""


def recount_agent(rows: list[Doc], events: list[Doc]) -> Doc:
    """Give the analytics of one agent from its rows and its counted events."""
    live = [row for row in rows if "status" in row["contribution"]]
    worths = [row["contribution"] for row in live]
    decisions = [
        {"decision": "task", "session_id": row["session_id"], **decision}
        for row in live
        for decision in row["contribution"]["decisions"]
    ]
    tasks = [
        {"activity": "task", **{k: v for k, v in one.items() if k != "decision"}}
        for one in decisions
    ]
    sessions = [
        {
            "activity": "session",
            "session_id": row["session_id"],
            "at": row["counted_at"],
            "status": row["contribution"]["status"],
        }
        for row in live
    ]
    happened = [_activity(event) for event in events]
    made = [_decision(event) for event in events if event["event_type"] in ("spawn", "handoff")]
    times = [row["counted_at"] for row in rows] + [event["timestamp"] for event in events]
    return {
        "memory_count": sum(worth["memory"]["count"] for worth in worths),
        "memory_types_count": _summed(worth["memory"]["types"] for worth in worths),
        "importance_distribution": _summed(worth["memory"]["importance"] for worth in worths),
        "last_memory_sync": max(times, default=None),
        "learned_patterns": {
            group: _patterns([worth[group] for worth in worths]) for group in ("kinds", "tools")
        },
        "decision_history": newest_of([*decisions, *made], _NEWEST_DECISIONS),
        "recent_activity": newest_of([*tasks, *sessions, *happened], _NEWEST_ACTIVITIES),
        "performance_insights": _insights(live),
        "sessions": len(live),
        "tasks": {
            outcome: sum(worth["tasks"][outcome] for worth in worths) for outcome in OUTCOMES
        },
        "counted": {
            "rows": {
                "decisions": newest_of(decisions, _NEWEST_DECISIONS),
                "sessions": newest_of(sessions, _NEWEST_ACTIVITIES),
                "latest": _latest(live),
                "last_at": max((row["counted_at"] for row in rows), default=None),
            },
            "events": {
                "decisions": newest_of(made, _NEWEST_DECISIONS),
                "recent": newest_of(happened, _NEWEST_ACTIVITIES),
                "first_at": min((event["timestamp"] for event in events), default=None),
                "last_at": max((event["timestamp"] for event in events), default=None),
            },
        },
    }


def _common(event: Doc) -> Doc:
    entry = {"id": event["event_id"], "at": event["timestamp"]}
    for name in ("target_agent_type", "target_agent_id", "session_id"):
        if event.get(name) is not None:
            entry[name] = event[name]
    return entry


def _activity(event: Doc) -> Doc:
    activity = {**_common(event), "activity": event["event_type"], "success": event["success"]}
    return activity | {"cancelled": True} if event.get("cancelled") else activity


def _decision(event: Doc) -> Doc:
    seconds = event.get("duration_seconds")
    return {
        **_common(event),
        "decision": event["event_type"],
        "outcome": "cancelled"
        if event.get("cancelled")
        else ("completed" if event["success"] else "failed"),
        "duration_ms": None if seconds is None else round(seconds * 1000),
    }


def _latest(live: list[Doc]) -> Doc | None:
    if not live:
        return None
    newest = max(live, key=lambda row: (row["contribution"]["created_at"], row["session_id"]))
    worth = newest["contribution"]
    return {
        "session_id": newest["session_id"],
        "created_at": worth["created_at"],
        **_over(worth["kinds"].values()),
    }


def _over(patterns: Iterable[Doc]) -> Doc:
    listed = list(patterns)
    return {figure: sum(one[figure] for one in listed) for figure in FIGURES}


def recount_events(events: list[Doc]) -> Flat:
    """Give what an agent's events are worth together: what they add to the shards."""
    total: Flat = {}
    for event in events:
        for path, amount in recount_event(event).items():
            total[path] = total.get(path, 0) + amount
    return {path: amount for path, amount in total.items() if amount}


def as_memories_show(worth: Flat) -> Flat:
    """Give the same as the agent's memory has it: of figures by word, the first 64 by name."""
    shown: Flat = {}
    by_word: dict[tuple[str, ...], dict[str, int]] = {}
    for path, amount in worth.items():
        if len(path) == WORD_DEPTH:
            by_word.setdefault(path[:-1], {})[path[-1]] = amount
        else:
            shown[path] = amount
    for group, amounts in by_word.items():
        shown |= {(*group, name): amount for name, amount in first_by_name(amounts).items()}
    return shown


def _summed(maps: Any) -> dict[str, int]:  # noqa: ANN401 - an iterable of maps
    total: dict[str, int] = {}
    for one in maps:
        for name, amount in one.items():
            total[name] = total.get(name, 0) + amount
    return first_by_name({name: amount for name, amount in total.items() if amount})


def first_by_name(amounts: dict[str, int]) -> dict[str, int]:
    """Keep the first 64 names and give what the others come to as `other`."""
    shown = shown_names(amounts)
    total: dict[str, int] = {}
    for name, amount in amounts.items():
        kept = name if name in shown else "other"
        total[kept] = total.get(kept, 0) + amount
    return total


def shown_names(amounts: Iterable[str]) -> set[str]:
    """Give the names that a memory shows of their own."""
    return {*sorted(name for name in amounts if name != "other")[:_MOST_NAMES], "other"}


def _patterns(groups: list[dict[str, Doc]]) -> dict[str, Doc]:
    total: dict[str, Doc] = {}
    for group in groups:
        for name, one in group.items():
            tally(total, name, [one[figure] for figure in FIGURES], one["last_seen"])
    shown = shown_names(total)
    bounded: dict[str, Doc] = {}
    for name, one in total.items():
        kept = name if name in shown else "other"
        tally(bounded, kept, [one[figure] for figure in FIGURES], one["last_seen"])
    return {name: one | _rates(one) for name, one in bounded.items()}


def _rates(figures: Doc) -> Doc:
    tries, timed = figures["tries"], figures["timed"]
    return {
        "success_rate": None if not tries else round(figures["successes"] / tries, 4),
        "mean_duration_ms": None if not timed else round(figures["duration_ms"] / timed, 4),
    }


def _insights(live: list[Doc]) -> Doc:
    kinds = _patterns([row["contribution"]["kinds"] for row in live])

    overall = _over(kinds.values())
    insights = _rates(overall)
    if own := _latest(live):
        before = {figure: overall[figure] - own[figure] for figure in FIGURES}
        insights["this_session"] = {
            "session_id": own["session_id"],
            "tries": own["tries"],
            **_rates(own),
        }
        insights["earlier_sessions"] = {"tries": before["tries"], **_rates(before)}
    rated = [
        (-one["successes"] / one["tries"], -one["tries"], name)
        for name, one in kinds.items()
        if one["tries"]
    ]
    rated.sort()
    insights["best_task_kind"] = rated[0][2] if rated else None
    insights["worst_task_kind"] = rated[-1][2] if len(rated) > 1 else None
    return insights
