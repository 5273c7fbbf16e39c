"""What a resumed agent takes along from its former session, and how that session ends.

Entries of the history and of the memory name the session that made them, so that they count there
alone, however often they are carried on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.agents.state.late_work import with_short_bases
from firestate.limits import MAX_CHILDREN, MAX_HISTORY, MAX_NAMES
from firestate.schema.ids import Identity
from firestate.schema.take_over import ADOPTS, OF_FIRESTATE, RESUMED_AS
from firestate.schema.values import time_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from firestate.agents.state.draft import Draft
    from firestate.schema.models import AgentState

PENDING = "resume_pending"
"""In the collaboration context of an agent that has begun before its past could be read."""

_PARENT = ("parent_agent_id", "parent_agent_type", "parent_session_id")
_TAKEN = (
    "memory_context",
    "task_history",
    "performance_metrics",
    "agent_config",
    "tools_enabled",
    *_PARENT,
    "child_agent_ids",
    "collaboration_context",
)


_OF_ONE_SESSION = OF_FIRESTATE


def parent_in(fields: Mapping[str, Any]) -> Identity | None:
    """Return the parent that a state names whole; None where it names none, or its id alone."""
    parts = [fields.get(f"parent_{name}") for name in Identity._fields]
    named = [part for part in parts if isinstance(part, str)]
    return Identity(*named) if len(named) == len(parts) else None


def carried_over(former: AgentState, *, marked: bool = True) -> dict[str, Any]:
    """Return the fields, plain, that go on into the next session.

    `marked`: entries that do not name their session are made to.
    """
    fields = former.model_dump(mode="json")
    taken = {name: fields[name] for name in _TAKEN}
    taken["child_agent_ids"] = taken["child_agent_ids"][-MAX_CHILDREN:]
    taken["task_history"] = [
        {"session_id": former.session_id, **entry} for entry in fields["task_history"]
    ]
    if marked:
        taken["memory_context"] = {
            key: {"session_id": former.session_id, **value} if isinstance(value, dict) else value
            for key, value in fields["memory_context"].items()
        }
    taken["collaboration_context"] = {
        **{k: v for k, v in fields["collaboration_context"].items() if k not in _OF_ONE_SESSION},
        "resumed_from": former.session_id,
    }
    return taken


def carry_over(formers: Sequence[AgentState], *, marked: bool = True) -> dict[str, Any]:
    """Give what goes on of several former sessions, the newest first: the older lies below it."""
    if not formers:
        return {}
    newest, *older = (carried_over(former, marked=marked) for former in formers)
    for each in older:
        newest |= merge_carried(each, newest)
    return newest


def merge_carried(taken: Mapping[str, Any], own: Draft | Mapping[str, Any]) -> dict[str, Any]:
    """Give the changes that put what an agent takes along before, or below, what it has by now."""
    result: dict[str, Any] = {}
    for name in ("memory_context", "performance_metrics", "agent_config", "collaboration_context"):
        result[name] = {**taken.get(name, {}), **own[name]}
    result["collaboration_context"].pop(PENDING, None)
    for name, most in (("tools_enabled", MAX_NAMES), ("child_agent_ids", MAX_CHILDREN)):
        result[name] = list(dict.fromkeys([*taken.get(name, []), *own[name]]))[-most:]
    history = [*taken.get("task_history", []), *own["task_history"]]
    # What is cut off here was made, and is counted, in former sessions.
    result["task_history"] = history[-max(MAX_HISTORY, len(own["task_history"])) :]
    for name in _PARENT:
        result[name] = own[name] if own["parent_agent_id"] else taken.get(name)
    return result


def ended_as(former: AgentState, session_id: str, at: datetime) -> dict[str, Any]:
    """Return the fields of a former session that goes on as another one."""
    fields = former.model_dump(mode="json")
    fields["collaboration_context"].pop(ADOPTS, None)
    return {
        **fields,
        "status": "terminated",
        "last_updated": time_text(at),
        "collaboration_context": {
            **with_short_bases(fields["collaboration_context"]),
            RESUMED_AS: session_id,
        },
    }
