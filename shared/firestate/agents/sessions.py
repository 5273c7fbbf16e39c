"""How the agents of a process begin, go on, and go: part of StateManager.

What can only be guessed, because the store cannot be read, is never written over: an agent begins
then in a session of its own, and takes its past along as soon as that can be read.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Unpack

from firestate.agents.answers import Answer, Document, LookUp, Question, reads
from firestate.agents.carrying import PENDING
from firestate.agents.desk import now
from firestate.agents.lookups import first_state, formers_in, newest_of
from firestate.agents.partners import new_id
from firestate.agents.values import plain
from firestate.errors import DamagedDocumentError, UnknownSessionError
from firestate.queries import EVERY_STATUS, STALE
from firestate.schema.ids import Identity
from firestate.schema.messages import Order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firestate.agents.agent import Agent
    from firestate.agents.changes import Changes
    from firestate.agents.office import Office
    from firestate.agents.reader import Reader
    from firestate.agents.roster import Roster
    from firestate.schema.models import AgentState

_MOST_FORMERS = 10


class Sessions:
    """Starts, takes up, resumes, saves and deletes; part of StateManager."""

    _office: Office
    _reader: Reader
    _roster: Roster

    def start(
        self,
        agent_type: str,
        agent_id: str,
        session_id: str | None = None,
        **given: Unpack[Changes],
    ) -> Agent:
        """Begin a session of an agent, with a new id if none is named, and save it.

        What was stored of a session of that id is replaced: `take_up(..., or_start=True)` goes on.
        """
        return self._roster.new(agent_type, agent_id, session_id or new_id(), **given)

    @reads
    def take_up(
        self, agent_type: str, agent_id: str, session_id: str, *, or_start: bool = False
    ) -> Question[Agent]:
        """Go on with a session, as after a crash; whoever had it is fenced off.

        Where there is none, it begins with `or_start`, else UnknownSessionError is raised. Where
        that cannot be found out now, it goes on in a new session, which takes along what is stored
        as soon as that can be read: then `agent.fresh` is False until it has.
        """
        identity = Identity(agent_type, agent_id, session_id)

        def make(found: list[Document], fresh: bool) -> Agent:  # noqa: FBT001 - a Question's
            if not fresh:
                return self._later(agent_type, agent_id, identity.state_path)
            if (agent := self._taken_up(found)) is not None:
                return agent
            if or_start:
                return self._roster.new(*identity)
            raise UnknownSessionError(f"there is no session {identity.state_path}")

        return Question(identity.state_path, make)

    @reads
    def resume(
        self, agent_type: str, agent_id: str, session_id: str | None = None
    ) -> Question[Agent]:
        """Go on with an agent in a new session, which takes along what its newest one had.

        History, metrics, memory context, settings. The former session ends as terminated,
        `resumed_as` the new one, and whoever still runs it is fenced off. An agent that has never
        been begins. Where its past cannot be read now, it begins in a session with an id of its
        own, and takes its past along as soon as that can be read: until then `agent.fresh` is
        False. A `session_id` that is there already is taken up.
        """
        find = newest_of(agent_type, agent_id, _MOST_FORMERS)

        def make(found: list[Document], fresh: bool) -> Agent:  # noqa: FBT001 - a Question's
            if not fresh:
                return self._later(agent_type, agent_id, find)
            own = session_id or new_id()
            return self._roster.resumed(formers_in(found, own), agent_type, agent_id, own)

        if session_id is None:
            return Question(find, make)

        def own_first(found: list[Document], fresh: bool) -> Agent:  # noqa: FBT001 - a Question's
            agent = self._taken_up(found) if fresh else self._later(agent_type, agent_id, find)
            return agent or self._reader.ask(Question(find, make))

        return Question(Identity(agent_type, agent_id, session_id).state_path, own_first)

    def save(self, state: AgentState | Mapping[str, Any]) -> Agent:
        """Save a whole state, of an agent that this process has, or takes from whoever has it.

        Raises InvalidMessageError with each field that is wrong; FencedError; OutboxError.
        """
        return self._roster.saved(plain(state))

    @reads
    def delete(self, agent_type: str, agent_id: str, session_id: str) -> Question[None]:
        """Delete a state; that the agent was spawned stays counted."""
        identity = Identity(agent_type, agent_id, session_id)
        return Question(identity.state_path, lambda found, _: self._delete(identity, found[:1]))

    @reads
    def clean_up(self, days: float, *, limit: int = 1_000) -> Question[Answer[int]]:
        """Delete the states of sessions that were last active more than `days` ago.

        Gives how many; at most `limit` at once, those that ended last first.
        """
        until = now() - timedelta(days=days)
        find = LookUp((STALE,), {"status": EVERY_STATUS}, until=until, limit=limit)

        def make(found: list[Document], fresh: bool) -> Answer[int]:  # noqa: FBT001 - a Question's
            gone = found if fresh else []  # what is only known may be active elsewhere
            for each in gone:
                self._delete(Identity(*(each[name] for name in Identity._fields)), [each])
            return Answer(len(gone), fresh)

        return Question(find, make)

    def _taken_up(self, found: list[Document]) -> Agent | None:
        """Take up the session of a document; one that cannot be read must not be written over."""
        if not found or found[0].get("deleted"):
            return None
        state = first_state(found)
        if state is None:
            raise DamagedDocumentError("the session is stored in a form that cannot be read")
        agent = self._roster.took_up(state, found[0])
        if PENDING in state.collaboration_context:
            self._complete(agent, newest_of(state.agent_type, state.agent_id, _MOST_FORMERS))
        return agent

    def _later(self, agent_type: str, agent_id: str, find: str | LookUp) -> Agent:
        # What is only known may be older than what is stored: nothing is written over it.
        context = {PENDING: True}
        agent = self._roster.new(agent_type, agent_id, new_id(), collaboration_context=context)
        self._complete(agent, find)
        return agent

    def _complete(self, agent: Agent, find: str | LookUp) -> None:
        """Have an agent take along its past, as soon as that can be read."""
        agent.fresh = False

        def done(found: list[Document]) -> None:
            self._roster.resumed_late(agent, formers_in(found, agent.identity.session_id))
            agent.fresh = True

        self._office.errands.do(find, done)

    def _delete(self, identity: Identity, found: list[Document]) -> None:
        if (agent := self._roster.held(identity)) is not None:
            agent.delete()
            return
        stored = found[0]["epoch"] if found else 0
        desk = self._office.desk
        desk.put_tombstone(identity, Order(desk.new_epoch(identity, stored), 1))
