"""What agents ask: about agents, events, what was learned, and the system as a whole.

Each method can be called plain, or as `.aio(...)` from asyncio code.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from firestate.agents.answers import Answer, Document, LookUp, Question, question, reads
from firestate.agents.carrying import PENDING
from firestate.agents.desk import now
from firestate.agents.learned import Learned, learned_from
from firestate.agents.rates import Rates, rates_of
from firestate.errors import SchemaTooNewError
from firestate.queries import (
    CURRENT_STATUSES,
    EVERY_EVENT_TYPE,
    LOOK_UP_AGENTS,
    LOOK_UP_EVENTS,
    MEMORIES_OF_TYPE,
    OF_AGENT,
)
from firestate.schema.documents import from_document
from firestate.schema.ids import GLOBAL_CONFIG, Identity, memory_path
from firestate.schema.models import AgentMemory, AgentState, CoordinationEvent, SystemState

if TYPE_CHECKING:
    from firestate.agents.reader import Reader

M = TypeVar("M", bound=BaseModel)

_LOG = logging.getLogger("firestate.reader")
_MOST_EVENTS = 10_000
_NOTHING = {
    "system_version": "",
    "active_sessions": [],
    "total_agents_spawned": 0,
    "current_agent_count": 0,
    "system_metrics": {},
    "error_counts": {},
}


class LookUps:
    """Reads; part of StateManager."""

    _reader: Reader

    @reads
    def load(
        self, agent_type: str, agent_id: str, session_id: str | None = None
    ) -> Question[Answer[AgentState | None]]:
        """Give the state of an agent: in a session, or its newest; None where there is none."""
        if session_id is None:
            return question(newest_of(agent_type, agent_id, limit=1), first_state)
        return question(Identity(agent_type, agent_id, session_id).state_path, first_state)

    @reads
    def active(
        self,
        *,
        session_id: str | None = None,
        agent_type: str | None = None,
        parent_agent_id: str | None = None,
        limit: int = 100,
    ) -> Question[Answer[list[AgentState]]]:
        """List the states of agents that are not terminated: all, or of a session, type, parent."""
        wanted: dict[str, object] = {
            "status": CURRENT_STATUSES,
            "session_id": session_id,
            "agent_type": agent_type,
            "parent_agent_id": parent_agent_id,
        }
        find = LookUp(LOOK_UP_AGENTS, wanted, limit=limit)
        return question(find, lambda found: _all(AgentState, found))

    @reads
    def events(
        self,
        *,
        hours: float = 24,
        event_type: str | None = None,
        agent_id: str | None = None,
        limit: int = 100,
    ) -> Question[Answer[list[CoordinationEvent]]]:
        """List what happened in the last hours, the newest first; `agent_id` is of the source."""
        find = _events(hours, event_type, agent_id, limit)
        return question(find, lambda found: _all(CoordinationEvent, found))

    @reads
    def success_rates(
        self, *, hours: float = 24, limit: int = _MOST_EVENTS
    ) -> Question[Answer[Rates]]:
        """Give how well coordination went in the last hours; reads each event of them."""
        find = _events(hours, None, None, limit)
        return question(find, lambda found: rates_of(_all(CoordinationEvent, found)))

    @reads
    def learned(self, agent_type: str, agent_id: str) -> Question[Answer[Learned]]:
        """Give what an agent has learned, over all its sessions."""
        return question(memory_path(agent_type, agent_id), _learned)

    @reads
    def learned_by_type(self, agent_type: str, limit: int = 50) -> Question[Answer[Learned]]:
        """Give what the agents of a type have learned together, those that changed last."""
        find = LookUp((MEMORIES_OF_TYPE,), {"agent_type": agent_type}, limit=limit)
        return question(find, _learned)

    @reads
    def system(self) -> Question[Answer[SystemState]]:
        """Give the system as a whole: counters, statistics, what operators have set."""

        def make(found: list[Document]) -> SystemState:
            states = _all(SystemState, found)
            return states[0] if states else SystemState(last_updated=now(), **_NOTHING)

        return question(GLOBAL_CONFIG, make)


def newest_of(agent_type: str, agent_id: str, limit: int) -> LookUp:
    """Say which documents are the newest states of an agent, across its sessions."""
    return LookUp((OF_AGENT,), {"agent_type": agent_type, "agent_id": agent_id}, limit=limit)


def formers_in(found: list[Document], own: str | None) -> list[tuple[AgentState, Document]]:
    """Give the states that are to be taken along into the session `own`, the newest first.

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


def first_state(found: list[Document]) -> AgentState | None:
    """Read the first document as a state; a deleted one is none."""
    states = _all(AgentState, [each for each in found if not each.get("deleted")])
    return states[0] if states else None


def _events(hours: float, event_type: str | None, agent_id: str | None, limit: int) -> LookUp:
    wanted: dict[str, object] = {"event_type": event_type, "source_agent_id": agent_id}
    if event_type is None and agent_id is None:
        wanted["event_type"] = EVERY_EVENT_TYPE
    return LookUp(LOOK_UP_EVENTS, wanted, since=now() - timedelta(hours=hours), limit=limit)


def _learned(found: list[Document]) -> Learned:
    return learned_from(_all(AgentMemory, found))


def _all(model: type[M], found: list[Document]) -> list[M]:
    """Read documents; one that cannot be read is named in the log, and hides no other."""
    read = []
    for data in found:
        try:
            read.append(from_document(model, data))
        except (ValidationError, SchemaTooNewError) as error:
            _LOG.error("a document cannot be read as %s: %s", model.__name__, error)
    return read
