"""The fields of a state that an agent changes, and those that it begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Changes(TypedDict, total=False):
    """What `Agent.update` takes: fields of AgentState, with values as Python programs have them."""

    status: str
    current_task: str | None
    task_status: str | None
    memory_context: Mapping[str, Any]
    task_history: Sequence[Any]
    performance_metrics: Mapping[str, float]
    agent_config: Mapping[str, Any]
    tools_enabled: Iterable[str]
    parent_agent_id: str | None
    parent_agent_type: str | None
    parent_session_id: str | None
    child_agent_ids: Iterable[str]
    collaboration_context: Mapping[str, Any]
    task_totals: Mapping[str, Any] | None


CHANGEABLE = frozenset(Changes.__annotations__)


def new_fields(**given: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of AgentState
    """Give the fields of a state in which nothing has happened yet."""
    return {
        "status": "idle",
        "memory_context": {},
        "task_history": [],
        "performance_metrics": {},
        "agent_config": {},
        "tools_enabled": [],
        **given,
    }
