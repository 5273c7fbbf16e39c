"""What the counters must say, worked out from the messages alone, by nothing of Firestate's.

Of each session the state with the highest (epoch, revision) stands, each event counts once.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from firestate.client.outgoing import Outgoing

_ENDED = ("completed", "failed", "cancelled")


def expected_totals(accepted: Iterable[Outgoing]) -> dict[str, Any]:
    """Give the totals after all of `accepted`: messages that do not belong into quarantine."""
    states: dict[tuple[str, ...], dict[str, Any]] = {}
    events: dict[tuple[str, str], dict[str, Any]] = {}
    for message in accepted:
        body = json.loads(message.data)
        if event := body.get("event"):
            events[event["timestamp"], event["event_id"]] = event
            continue
        one = body.get("state") or body["deleted"]
        key = (one["agent_type"], one["agent_id"], one["session_id"])
        order = (body["epoch"], body["revision"])
        if key not in states or order > states[key]["order"]:
            states[key] = {"order": order, "state": body.get("state")}
    return _of_states(states) | _of_events(events.values())


def found_totals(global_config: Mapping[str, Any]) -> dict[str, Any]:
    """Give the same totals as `global_config` tells them; what is zero is left out."""
    metrics, errors = global_config["system_metrics"], global_config["error_counts"]
    coordination = metrics["coordination"]
    return {
        "spawned": global_config["total_agents_spawned"],
        "current": global_config["current_agent_count"],
        "by_status": _without_zeros(metrics["agents_by_status"]),
        "by_type": _without_zeros(metrics["agents_by_type"]),
        "sessions": sorted(global_config["active_sessions"]),
        "tasks": _without_zeros(metrics["tasks"]),
        "events": {kind: each["total"] for kind, each in coordination["by_type"].items()},
        "succeeded": coordination["succeeded"],
        "duration_ms": coordination["duration_ms"],
        "error_types": _without_zeros(errors["by_error_type"]),
        "errors": _without_zeros(errors["by_event_type"]),
    }


def _of_states(states: Mapping[tuple[str, ...], Mapping[str, Any]]) -> dict[str, Any]:
    live = {
        key: each["state"]
        for key, each in states.items()
        if each["state"] and each["state"]["status"] != "terminated"
    }
    tasks: Counter[str] = Counter()
    for each in states.values():
        if each["state"]:
            tasks.update(_tasks_of(each["state"]))
    return {
        "spawned": len(states),
        "current": len(live),
        "by_status": dict(Counter(state["status"] for state in live.values())),
        "by_type": dict(Counter(agent_type for agent_type, _, _ in live)),
        "sessions": sorted({session_id for _, _, session_id in live}),
        "tasks": _without_zeros(tasks),
    }


def _tasks_of(state: Mapping[str, Any]) -> Counter[str]:
    if "task_totals" in state:
        ended: Counter[str] = Counter()
        for total in state["task_totals"]["kinds"].values():
            ended["completed"] += total["successes"]
            ended["cancelled"] += total["cancelled"]
            ended["failed"] += total["tries"] - total["successes"] - total["cancelled"]
        return ended
    return Counter(
        entry["status"]
        for entry in state["task_history"]
        if entry["session_id"] == state["session_id"] and entry["status"] in _ENDED
    )


def _of_events(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    listed = list(events)
    wrong = [event for event in listed if event["event_type"] == "error" or not event["success"]]
    types = [event["context"]["error_type"] for event in wrong if "error_type" in event["context"]]
    return {
        "events": dict(Counter(event["event_type"] for event in listed)),
        "succeeded": sum(event["success"] for event in listed),
        "duration_ms": sum(round(e.get("duration_seconds", 0) * 1000) for e in listed),
        "error_types": dict(Counter(types)),
        "errors": dict(Counter(event["event_type"] for event in wrong)),
    }


def _without_zeros(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
