"""What StateManager asks for, and what it makes of the documents: states, events, experience."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from firestate.agents.reading.answers import Document, Lookup
from firestate.agents.reading.experience import Experience, experience_from
from firestate.agents.state.carry_over import PENDING
from firestate.agents.state.clock import now
from firestate.errors import SchemaTooNewError
from firestate.queries import (
    CURRENT_STATUSES,
    EVERY_EVENT_TYPE,
    EVERY_STATUS,
    LOOK_UP_AGENTS,
    LOOK_UP_EVENTS,
    OF_AGENT,
)
from firestate.schema.enums import AgentStatus
from firestate.schema.messages import Order
from firestate.schema.models import AgentMemory, AgentState, SystemState
from firestate.schema.serialization import from_document

if TYPE_CHECKING:
    from collections.abc import Mapping

M = TypeVar("M", bound=BaseModel)

_LOG = logging.getLogger("firestate.reader")
_NOTHING = {
    "system_version": "",
    "active_sessions": [],
    "total_agents_spawned": 0,
    "current_agent_count": 0,
    "system_metrics": {},
    "error_counts": {},
}


def newest_states(agent_type: str, agent_id: str, limit: int) -> Lookup:
    """Say which documents are the newest states of an agent, across its sessions."""
    return Lookup((OF_AGENT,), {"agent_type": agent_type, "agent_id": agent_id}, limit=limit)


def states_with(wanted: Mapping[str, object], *, current: bool = True, limit: int | None) -> Lookup:
    """Say which documents are states with the fields `wanted`, terminated ones only on demand."""
    statuses = CURRENT_STATUSES if current else EVERY_STATUS
    return Lookup(LOOK_UP_AGENTS, {"status": statuses, **wanted}, limit=limit)


def spawns_by(parent_agent_id: str) -> Lookup:
    """Say which documents are the spawn events of agents with an id."""
    wanted = {"source_agent_id": parent_agent_id, "event_type": "spawn"}
    return Lookup(LOOK_UP_EVENTS, wanted)


def recent_events(
    hours: float, event_type: str | None = None, agent_id: str | None = None, *, limit: int
) -> Lookup:
    """Say which documents are the events of the last hours, of a type or of a source."""
    wanted: dict[str, object] = {"event_type": event_type, "source_agent_id": agent_id}
    if event_type is None and agent_id is None:
        wanted["event_type"] = EVERY_EVENT_TYPE
    return Lookup(LOOK_UP_EVENTS, wanted, since=now() - timedelta(hours=hours), limit=limit)


def former_states(found: list[Document], own: str | None) -> list[tuple[AgentState, Document]]:
    """Return the states that are to be taken along into the session `own`, the newest first.

    One: the newest other one. More only where that has begun itself before its past could be read,
    and has ended before it was.
    """
    formers: list[tuple[AgentState, Document]] = []
    sessions = {own, *(each["session_id"] for each in found)}
    for document in found:
        state = first_state([document])
        if state is None or state.session_id == own:
            continue
        context = state.collaboration_context
        if context.get("resumed_as") in sessions:
            continue  # it goes on in that one
        formers.append((state, document))
        if PENDING not in context:
            break
    return formers


def is_living(state: AgentState) -> bool:
    """Whether a session has not ended."""
    return state.status != AgentStatus.TERMINATED


def after(found: list[Document], seen: Order) -> Order:
    """Return the order above which a session begins: of what was seen and of a deleted one."""
    return max([seen, *(Order(each["epoch"], each["revision"]) for each in found)])


def goes_on_as(found: list[Document], session_id: str) -> bool:
    """Whether the first document is of a session that goes on as another, of that id."""
    state = first_state(found)
    return state is not None and state.collaboration_context.get("resumed_as") == session_id


def first_state(found: list[Document]) -> AgentState | None:
    """Read the first document as a state; a deleted one is none."""
    states = read_as(AgentState, [each for each in found if not each.get("deleted")])
    return states[0] if states else None


def experience_in(found: list[Document]) -> Experience:
    """Add up what the memories say that agents have learned."""
    return experience_from(read_as(AgentMemory, found))


def system_state_in(found: list[Document]) -> SystemState:
    """Read the system's document; where there is none, nothing has been counted."""
    states = read_as(SystemState, found)
    return states[0] if states else SystemState(last_updated=now(), **_NOTHING)


def read_as(model: type[M], found: list[Document]) -> list[M]:
    """Read documents; one that cannot be read is named in the log, and hides no other."""
    read = []
    for data in found:
        try:
            read.append(from_document(model, data))
        except (ValidationError, SchemaTooNewError) as error:
            _LOG.error("a document cannot be read as %s: %s", model.__name__, error)
    return read
