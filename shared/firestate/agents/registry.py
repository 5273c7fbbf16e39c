"""The agents that this process holds, and how it comes to hold one."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from firestate.agents.agent import Agent
from firestate.agents.backends.document_watch import Watch
from firestate.agents.state.carry_over import carry_over, ended_as
from firestate.agents.state.changes import new_fields
from firestate.agents.state.clock import now
from firestate.agents.state.encoded_state import EncodedState
from firestate.agents.state.json_values import to_json_values
from firestate.agents.state.message_encoding import checked_state
from firestate.errors import InvalidMessageError
from firestate.forking import ForkSafe
from firestate.queries import FENCED
from firestate.schema.ids import Identity
from firestate.schema.messages import Order
from firestate.schema.serialization import to_document
from firestate.schema.times import check_times
from firestate.stored_states import identity_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from firestate.agents.backends.backend import Backend
    from firestate.agents.backends.document_watch import Change
    from firestate.agents.reading.answers import Document
    from firestate.agents.reading.background_reads import BackgroundReads
    from firestate.agents.submitter import Submitter
    from firestate.schema.models import AgentState

    Former = tuple[AgentState, Document]
    """A state that an agent carries on, with its document."""

_LOG = logging.getLogger("firestate.agents")


class AgentRegistry(ForkSafe):
    """Holds agents, makes sure that each stands above what is stored, and learns who is fenced."""

    def __init__(
        self, submitter: Submitter, backend: Backend, background_reads: BackgroundReads
    ) -> None:
        """Hold none yet."""
        super().__init__()
        self._submitter = submitter
        self._backend = backend
        self._background_reads = background_reads
        backend.reading.on_change(lambda state: self._check_all() if state.open else None)
        self.after_fork()

    def after_fork(self) -> None:
        """Hold none: they are the parent's."""
        self._lock = threading.Lock()
        self._held: dict[Identity, Agent] = {}
        self._watch: Watch | None = None

    def new(self, identity: Identity, **given: Any) -> Agent:  # noqa: ANN401 - fields of a state
        """Hold a new session, and save it."""
        fields = new_fields(**identity._asdict(), **to_json_values(given))
        agent = self._made(fields, self._submitter.new_epoch(identity))
        agent.save()
        self._check(agent)
        return agent

    def take_up(self, stored: AgentState, document: Document) -> Agent:
        """Hold a session as it is stored, above whoever had it, and say that it is alive.

        Raises InvalidMessageError where it holds times that are yet to come, which releases up to
        0.1 have stored: nothing that such a session saves would be taken.
        """
        check_times("state", to_document(stored), now())
        identity = Identity(stored.agent_type, stored.agent_id, stored.session_id)
        agent = Agent(
            self._submitter,
            self,
            stored,
            epoch=self._submitter.new_epoch(identity, document["epoch"]),
        )
        agent.is_above = True
        if stored.status == "terminated":
            agent.update(status="active")
        return agent.save()

    def resume(self, formers: Sequence[Former], identity: Identity) -> Agent:
        """Hold a new session that takes along what `formers` had, the newest first, and end those.

        The new one is saved first, once, and whole: a crash in between leaves one to go on with.
        """
        taken = carry_over([state for state, _ in formers])
        agent = self.new(identity, **taken)
        self._end_all(formers, identity.session_id)
        return agent

    def complete_resume(self, agent: Agent, formers: Sequence[Former]) -> None:
        """Let an agent that has begun without its past take that along now."""
        agent.carry_on(carry_over([state for state, _ in formers]))
        self._end_all(formers, agent.identity.session_id)

    def _end_all(self, formers: Sequence[Former], session_id: str) -> None:
        for state, document in formers:
            self._end(state, document, session_id)

    def _end(self, former: AgentState, document: Document, session_id: str) -> None:
        old = Identity(former.agent_type, former.agent_id, former.session_id)
        state = checked_state(ended_as(former, session_id, now()))
        try:
            check_times("state", to_document(state), now())
        except InvalidMessageError as error:
            _LOG.warning("%s goes on as %s, and cannot be ended: %s", old, session_id, error)
            return
        epoch = self._submitter.new_epoch(old, document["epoch"])
        self._submitter.put_state(old, EncodedState.of(state).body(), Order(epoch, 1))
        held = self._held.get(old)
        if held is not None:
            self._drop(held)
            held.fence()

    def save(self, fields: Mapping[str, Any]) -> Agent:
        """Save a whole state of plain `fields`, of an agent that is held or is held from now on."""
        state = checked_state(fields)
        check_times("state", to_document(state), now())
        identity = Identity(state.agent_type, state.agent_id, state.session_id)
        agent = self._held.get(identity)
        if agent is not None:
            return agent.replace(state)
        agent = Agent(self._submitter, self, state, epoch=self._submitter.new_epoch(identity))
        agent.replace(state)
        self._check(agent)
        return agent

    def find(self, identity: Identity) -> Agent | None:
        """Give the agent that this process holds of a session, if it does."""
        return self._held.get(identity)

    def release(self, agent: Agent) -> None:
        """Hold it no more."""
        self._drop(agent)

    def tell_parent(self, child: Identity, parent: Identity | None) -> None:
        """Let the parent know that a child has ended, if this process holds it.

        A parent that was resumed goes on in another session.
        """
        if parent is None:
            return
        for held in [each for each in self._held.copy() if each[:2] == parent[:2]]:
            if (agent := self._held.get(held)) is not None:
                agent.child_ended(child)

    def _made(self, fields: Mapping[str, Any], epoch: int) -> Agent:
        time = now()
        whole = {"created_at": time, "last_updated": time, "last_active": time, **fields}
        state = checked_state(to_json_values(whole))
        check_times("state", to_document(state), time)
        return Agent(self._submitter, self, state, epoch=epoch)

    def hold(self, agent: Agent) -> None:
        """Look after an agent that saves: learn whether it is fenced off."""
        with self._lock:
            agent.is_held = True
            former = self._held.get(agent.identity)
            self._held[agent.identity] = agent
            first, self._watch = self._watch is None, self._watch or self._new_watch()
        if former is not None and former is not agent:
            former.fence()
        if first:
            self._backend.watch(self._watch)

    def _drop(self, agent: Agent) -> None:
        with self._lock:
            agent.is_held = False
            if self._held.get(agent.identity) is agent:
                del self._held[agent.identity]

    def _new_watch(self) -> Watch:
        # Nothing of this process is ever found by it: watching costs nothing until it is fenced.
        return Watch(FENCED.query({"fenced_writer": self._submitter.writer}), self._changed)

    def _changed(self, change: Change) -> None:
        if change.data is None or (identity := identity_in(change.data)) is None:
            return
        if (agent := self._held.get(identity)) is not None:
            self._compare(agent, dict(change.data))

    def _compare(self, agent: Agent, stored: Document | None) -> None:
        """Hold an agent against what is stored of its session, as soon as that can be read.

        stored             agent                     it is
        nothing, its own   any                       above
        an earlier epoch   any                       above
        a later one        has been above before     fenced off: somebody has taken it up since
        a later one        is named as fenced there  the same
        a later one        has not been yet          behind a clock that is ahead: it rises above
        """
        writer = self._submitter.writer
        if stored is None or stored["writer"] == writer or (stored["epoch"] < agent.epoch):
            agent.is_above = True
        elif agent.is_above or stored.get("fenced_writer") == writer:
            _LOG.warning(
                "%s was taken up by %s: this process is fenced off",
                agent.identity.state_path,
                stored["writer"],
            )
            self._drop(agent)
            agent.fence()
        else:
            agent.rise_above(stored["epoch"])

    def _check_all(self) -> None:
        # Of two that took it up one after the other while nothing could be read, the first is
        # the one that `fenced_writer` names now.
        for agent in list(self._held.values()):
            self._check(agent)

    def _check(self, agent: Agent) -> None:
        """Compare an agent with what is stored, as soon as that can be read."""
        self._background_reads.add(
            agent.identity, lambda found: self._compare(agent, found[0] if found else None)
        )
