"""Agents' states: one, a list, `{"agents": ...}`, a map by name, a system's status.

A state has `agent_id` and `agent_type`, or two of the words by which one is known. A system's
status has `status` and `last_active` and names no agent: it becomes an agent of type System.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from firestate.migration.formats.readers.coordination_logs import is_event, is_name, leave
from firestate.migration.formats.records import (
    NO_SESSION,
    NO_TYPE,
    Draft,
    Facts,
    Record,
    RecordKind,
    Refusal,
)
from firestate.migration.formats.synonyms import STATUSES, TASK_STATUSES, hinted_type, parse_time
from firestate.schema.values import digest

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "agent-states"

_WORDS = ("status", "last_active", "current_task", "session_id")
_OF_EVENTS = ("event_type", "from_agent", "source_agent_id", "to_agent", "target_agent_id")
_OF_STATES = ("last_active", "last_updated", "current_task", "task_history", "memory_context")
_OF_SETTINGS = ("feature_flags", "emergency_stop", "global_config")
_NAMES_OF_FILES = re.compile(
    r"(agent_.*|.*_states?|.*_agents?|agents?|autonomous_.*|monitoring_.*)\.json", re.IGNORECASE
)
_OLD_NAMES = {
    "agent_id": ("agentId", "id", "agent_name", "name", "agent"),
    "agent_type": ("agentType", "type", "role", "agent_class"),
    "session_id": ("sessionId", "session"),
    "last_updated": ("lastUpdated", "updated_at", "last_update", "timestamp"),
    "last_active": ("lastActive", "last_seen", "last_activity", "heartbeat"),
    "created_at": ("createdAt", "created", "started_at", "start_time"),
    "agent_config": ("config",),
    "tools_enabled": ("tools",),
    "memory_context": ("memory", "context"),
    "task_history": ("tasks", "history", "completed_tasks"),
    "performance_metrics": ("metrics", "performance"),
    "current_task": ("task",),
    "parent_agent_id": ("parent_id", "parent"),
    "child_agent_ids": ("child_agents", "children"),
}
_TYPES = {
    "agent_config": dict,
    "tools_enabled": list,
    "memory_context": dict,
    "task_history": list,
    "performance_metrics": dict,
    "child_agent_ids": list,
}
_PLAIN = ("task_status", "collaboration_context", "task_totals")
_TIMES = ("last_updated", "last_active", "created_at")


def recognises(value: Any, name: str) -> bool:  # noqa: ANN401 - any JSON
    """One state, `agents`, a list of states, or a map of states."""
    if isinstance(value, list):
        # A list may hold a broken entry, which is refused by itself.
        return 2 * sum(is_state(each) or is_status(each) for each in value) > len(value)
    if not isinstance(value, dict):
        return False
    if _list_in(value) is not None:
        return recognises(value["agents"], name)
    return is_state(value) or is_status(value) or _by_name(value, name) is not None


def is_state(value: object) -> bool:
    """Whether an object is the state of one agent."""
    if not isinstance(value, dict) or any(word in value for word in _OF_EVENTS):
        return False
    if is_event(value) and not any(word in value for word in _OF_STATES):
        return False
    if "agent_id" in value and "agent_type" in value:
        return True
    return sum(word in value for word in _WORDS) > 1 and not (
        {"status", "last_active"} <= value.keys() and _is_of_system(value)
    )


def is_status(value: object) -> bool:
    """Whether an object is the status of a system, which names no agent."""
    if not isinstance(value, dict) or not {"status", "last_active"} <= value.keys():
        return False
    return _is_of_system(value) and not any(word in value for word in _OF_SETTINGS)


def _is_of_system(value: dict[str, Any]) -> bool:
    names = ("agent_id", "agent_type", "current_task", "session_id", "agentId", "id", "name")
    return not any(each in value for each in (*names, *_OF_EVENTS))


def read(value: Any, facts: Facts) -> Iterator[Record | Refusal]:  # noqa: ANN401 - any JSON
    """Give a state for each agent, in the order of the file."""
    states_in = value if isinstance(value, list) else _list_in(value)
    if states_in is not None:
        prefix = "" if states_in is value else "agents"
        rest = {k: v for k, v in value.items() if k != "agents"} if prefix else {}
        for number, each in enumerate(states_in):
            if is_state(each) or is_status(each):
                yield _state(f"{prefix}[{number}]", each, facts, beside=rest)
                rest = {}
            else:
                yield Refusal(
                    f"{prefix}[{number}]",
                    "is no state: it needs agent_id and agent_type, or two of " + ", ".join(_WORDS),
                    "complete it, or leave it out of the file",
                )
        return
    states, prefix = _by_name(value, facts.name) or ({}, "")
    # A system's status may have its agents beside it; that of an agent is its own.
    if ("agent_id" in value or not prefix) and (is_state(value) or is_status(value)):
        yield _state("", value, facts)
    else:
        rest = {key: each for key, each in value.items() if each is not states} if prefix else {}
        for key, each in states.items():
            if isinstance(each, dict):
                # What stands beside the agents is kept with the first of them.
                yield _state(f"{prefix}{key}", each, facts, key, rest)
                rest = {}
            else:
                reason = "is no object, and so no state"
                yield Refusal(f"{prefix}{key}", reason, "leave it out of the file")


def _list_in(value: dict[str, Any]) -> list[Any] | None:
    """Give a list of agents; in a file of Letta it has blocks and tools beside it."""
    agents = value.get("agents")
    return agents if isinstance(agents, list) and agents and "blocks" not in value else None


def _by_name(value: dict[str, Any], name: str) -> tuple[dict[str, Any], str] | None:
    """Give the map of states by name that is in `value`, or is `value`, and the path to it."""
    for word in ("agents", "agent_states"):
        agents = value.get(word)
        if isinstance(agents, dict) and agents:
            known = [
                each
                for each in agents.values()
                if isinstance(each, dict) and _looks_like_agent(each)
            ]
            return (agents, f"{word}.") if known else None
    if not value or not all(
        isinstance(each, dict) and _looks_like_agent(each) for each in value.values()
    ):
        return None
    sure = all(is_state(each) for each in value.values())
    return (value, "") if sure or _NAMES_OF_FILES.fullmatch(name) else None


def _looks_like_agent(value: dict[str, Any]) -> bool:
    status = value.get("status")
    return is_state(value) or (isinstance(status, str) and status.lower() in STATUSES)


def _state(
    position: str,
    old: dict[str, Any],
    facts: Facts,
    key: str | None = None,
    beside: dict[str, Any] | None = None,
) -> Record:
    draft = Draft.of(position, old)
    draft.left |= {f"beside.{name}": each for name, each in (beside or {}).items()}
    of_system = is_status(old) and key is None
    if of_system:
        draft.take("current_task", "current_operation")
    for name, old_names in _OLD_NAMES.items():
        _take(draft, name, old_names)
    for name in _PLAIN:
        draft.take(name)
    _identify(draft, old, key, of_system=of_system)
    _translate(draft)
    _date(draft, facts)
    return draft.record(RecordKind.STATE, {"key": key, "state": old} if key else old)


def _take(draft: Draft, name: str, old_names: tuple[str, ...]) -> None:
    wanted = _TYPES.get(name, object)
    for each in (name, *old_names):
        given = draft.left.get(each)
        if given is None or not isinstance(given, wanted):
            continue
        if name in _TIMES and parse_time(given) is None:
            continue
        draft.fields[name] = draft.left.pop(each)
        if each != name:
            draft.mapped.append(f"{each} is {name}")
        return


def _identify(draft: Draft, old: dict[str, Any], key: str | None, *, of_system: bool) -> None:
    fields = draft.fields
    if key and not is_name(fields.get("agent_id")):
        leave(draft, "agent_id")
        fields["agent_id"] = key
    if of_system:
        draft.guess("agent_type", "System")
    if not is_name(fields.get("agent_id")):
        leave(draft, "agent_id")
        # A hash of what is in it: two files of one agent that has no name are two agents.
        draft.guess("agent_id", digest(old)[:12])
    if not isinstance(fields.get("agent_type"), str) or not fields["agent_type"]:
        leave(draft, "agent_type")
        draft.guess("agent_type", hinted_type(str(fields["agent_id"])) or NO_TYPE)
    if not is_name(fields.get("session_id")):
        leave(draft, "session_id")
        draft.guess("session_id", NO_SESSION)


def _translate(draft: Draft) -> None:
    status = draft.fields.pop("status", draft.left.pop("status", None))
    known = STATUSES.get(status.lower()) if isinstance(status, str) else None
    if known is None:
        draft.guess("status", "idle")
        if status is not None:
            draft.left["status"] = status
    elif known == status:
        draft.fields["status"] = status
    else:
        draft.say("status", status, known)
    task = draft.fields.get("task_status")
    if isinstance(task, str) and (known := TASK_STATUSES.get(task.lower())) not in (None, task):
        draft.say("task_status", task, known)
    if "task_history" in draft.fields:
        draft.fields["task_history"] = [
            _task(draft, number, each) for number, each in enumerate(draft.fields["task_history"])
        ]


def _task(draft: Draft, number: int, entry: object) -> object:
    """Give an entry of the history with today's word for how it ended: only then it counts."""
    if not isinstance(entry, dict) or not isinstance(entry.get("status"), str):
        return entry
    status = entry["status"]
    known = TASK_STATUSES.get(status.lower())
    if known is None or known == status:
        return entry
    draft.left[f"task_history[{number}].status"] = status
    draft.mapped.append(f"task_history[{number}].status: {status[:40]} is {known}")
    return {**entry, "status": known}


def _date(draft: Draft, facts: Facts) -> None:
    """Put times in; one that is missing is as the next best, and at last as the file's date."""
    found = {name: parse_time(draft.fields.pop(name, None)) for name in _TIMES}
    times = {name: time for name, time in found.items() if time is not None}
    latest = max(times.values(), default=None)
    for name in _TIMES:
        if name in times:
            draft.fields[name] = times[name]
        elif name == "created_at" and times:
            draft.guess(name, min(times.values()))
        else:
            draft.guess(name, latest or facts.date)
