"""StateManager: the one object through which a process of agents keeps its state."""

from __future__ import annotations

import time
import warnings
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self, Unpack

from firestate.agents.agent import NOTHING
from firestate.agents.backends.document_watch import StateChanges, Watch
from firestate.agents.clean_up import CleanUp
from firestate.agents.leases import stale_states
from firestate.agents.reading.answers import (
    Answer,
    Document,
    Known,
    Lookup,
    Question,
    ReadRequest,
    read_method,
    read_request,
)
from firestate.agents.reading.state_queries import (
    after,
    experience_in,
    first_state,
    former_states,
    goes_on_as,
    is_living,
    newest_states,
    read_as,
    recent_events,
    spawns_by,
    states_with,
    system_state_in,
)
from firestate.agents.reading.success_rates import SuccessRates, success_rates_of
from firestate.agents.runtime import LOCAL, Runtime, named_project
from firestate.agents.state.carry_over import PENDING, parent_in
from firestate.agents.state.clock import now, now_in_microseconds
from firestate.agents.state.generated_ids import new_id
from firestate.agents.state.json_values import to_json_values
from firestate.errors import (
    DamagedDocumentError,
    FieldProblem,
    FirestateError,
    InvalidMessageError,
    SessionExistsError,
    UnavailableError,
    UnknownSessionError,
)
from firestate.limits import LEASE_SECONDS, MAX_OUTBOX_BYTES, SNAPSHOT_INTERVAL_SECONDS
from firestate.lookup import Parent
from firestate.queries import BY_PARENT, ENDED_STATUSES, MEMORIES_OF_TYPE, STALE
from firestate.schema.ages import age_problem
from firestate.schema.ids import GLOBAL_CONFIG, Identity, checked_ids, memory_path
from firestate.schema.messages import Order
from firestate.schema.models import AgentState, CoordinationEvent, SystemState
from firestate.stored_states import identity_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from firestate.agents.agent import Agent, Former
    from firestate.agents.backends.document_watch import Change
    from firestate.agents.controls import WhenUnknown
    from firestate.agents.reading.answers import Find
    from firestate.agents.reading.experience import Experience
    from firestate.agents.refusals import Refused
    from firestate.agents.state.changes import Changes
    from firestate.agents.submitter import WhenFull
    from firestate.outbox.connection import Connection
    from firestate.stores.protocol import Query

_MOST_EVENTS = 10_000
_MOST_FORMERS = 10
_MOVING_SECONDS = 30.0
_LEAST_LOOK_SECONDS, _MOST_LOOK_SECONDS = 0.005, 1.0
FOLDER = Path(".firestate")
"""Where a process keeps its outbox and, without a project, the local engine's file."""


class StateManager:
    """Keeps the state of agents: in a project of Google Cloud or, without one, on this machine.

    The project is the argument, or GOOGLE_CLOUD_PROJECT; FIRESTORE_EMULATOR_HOST and
    PUBSUB_EMULATOR_HOST name emulators. Without a project it works on the local engine, in the file
    `state.db` of the folder. Nothing that an agent calls waits for the network or fails because of
    it; `connection` says how it is.
    """

    def __init__(
        self,
        project: str | None = None,
        *,
        folder: Path | str | None = FOLDER,
        snapshot_interval_seconds: float = SNAPSHOT_INTERVAL_SECONDS,
        patience_seconds: float = 1.0,
        outbox_bytes: int = MAX_OUTBOX_BYTES,
        when_full: WhenFull = "refuse",
        when_unknown: WhenUnknown = "open",
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """Open the outbox, and begin to work in the background; nothing is waited for.

        `folder` None keeps all in memory. Snapshots of one session go out at most once in an
        interval. A read that takes longer than the patience is answered by what is known. Past its
        bytes the outbox refuses, or a call waits (`when_full="wait"`), but nothing is dropped.
        Where nobody knows whether the emergency stop is set, agents go on, or are stopped
        (`when_unknown="closed"`; see `Controls`). An agent at work whose process has not said for
        the time of a lease that it lives is stale: all processes of a fleet have one lease.

        Raises ConfigurationError where the local engine's file cannot be used.
        """
        self._runtime = Runtime(
            named_project(project),
            None if folder is None else Path(folder).absolute(),
            snapshot_interval_seconds=snapshot_interval_seconds,
            patience_seconds=patience_seconds,
            outbox_bytes=outbox_bytes,
            when_full=when_full,
            when_unknown=when_unknown,
            lease_seconds=lease_seconds,
        )
        self._reader = self._runtime.reader
        self._registry = self._runtime.registry
        self.controls = self._runtime.controls
        """Feature flags and the emergency stop, as operators have set them."""
        self._watches: list[Watch] = []
        try:
            self._registry.go_on_with_unread()
        except BaseException:
            self._runtime.close(0.0)  # nobody else could
            raise

    @classmethod
    def in_memory(cls, **options: Any) -> Self:  # noqa: ANN401 - those of the class
        """Make one that keeps nothing on any disk, nor in a cloud: for tests of your agents."""
        return cls(LOCAL, folder=None, **options)

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    @read_method
    def agent(
        self, agent_type: str, agent_id: str, session_id: str | None = None
    ) -> Question[Agent]:
        """Return the agent, ready to work: in its newest session, or in the one that is named.

        The handle that this process holds, else a session that this folder runs, shared with its
        other processes; else the newest one goes on in a new session (`resume`), or the named one
        is taken up; else it begins. To ask again costs nothing, and gives the same handle, from
        any thread. Where the store cannot be read now, `agent.fresh` is False until it has been.

        >>> manager.agent("Developer", "agent_001").save()  # doctest: +SKIP
        """
        if session_id is None:
            return self._agent_in_newest(*_agent(agent_type, agent_id), tries=0)
        return self._agent_in(Identity.of(agent_type, agent_id, session_id))

    def _agent_in(self, identity: Identity) -> Question[Agent]:
        held = self._registry.find(identity)
        if held is not None and held.is_usable:
            return Known(held)
        seen = self._registry.seen(identity)

        def make(found: list[Document], fresh: bool) -> Agent:  # noqa: FBT001 - a ReadRequest's
            is_ours = bool(found) and self._registry.is_own(found[0])
            if (fresh or is_ours) and (agent := self._taken_up(found)) is not None:
                return agent
            agent = self._registry.begin(identity, seen=after(found, seen), unread=not fresh)
            return agent or self._reader.ask(self._agent_in(identity))

        return ReadRequest(identity, make)

    def _agent_in_newest(self, agent_type: str, agent_id: str, *, tries: int) -> Question[Agent]:
        held = self._registry.find_newest(agent_type, agent_id)
        if held is not None:
            return Known(held)
        find = newest_states(agent_type, agent_id, _MOST_FORMERS)

        def make(found: list[Document], fresh: bool) -> Agent:  # noqa: FBT001 - a ReadRequest's
            formers = former_states(found, "")  # of no session yet
            state, newest = formers[0] if formers else (None, {})
            if state is not None and is_living(state) and self._registry.is_own(newest):
                agent = self._taken_up([newest])
            else:
                # All who come to this in the folder get one session, which one of them begins.
                newest_id = "" if state is None else state.session_id
                former = f"{newest_id}#{tries}" if tries else newest_id
                identity = self._registry.reserve(agent_type, agent_id, former)
                agent = self._gone_on(found, identity, find, fresh=fresh)
            again = self._agent_in_newest(agent_type, agent_id, tries=tries + 1)
            return agent or self._reader.ask(again)

        return ReadRequest(find, make)

    def _gone_on(
        self, found: list[Document], identity: Identity, find: Find, *, fresh: bool
    ) -> Agent | None:
        if fresh:
            return self._registry.begin(identity, former_states(found, identity.session_id))
        agent = self._registry.begin(identity, collaboration_context={PENDING: True})
        if agent is not None:
            self._complete(agent, find)
        return agent

    @read_method
    def start(
        self,
        agent_type: str,
        agent_id: str,
        session_id: str | None = None,
        *,
        replace: bool = False,
        **given: Unpack[Changes],
    ) -> Question[Agent]:
        """Begin a session of an agent, with a new id if none is named, and save it.

        Raises SessionExistsError where a session of that id is there; `agent` goes on with it, and
        `replace` begins it anew. Where the store cannot be read now, it begins all the same, and
        goes out once it has been read: if there is one after all, it goes on from that, and
        `agent.fresh` is False until then.
        """
        if session_id is None:
            identity = Identity.of(agent_type, agent_id, new_id())
            return Known(self._registry.new(identity, **given))
        identity = Identity.of(agent_type, agent_id, session_id)
        if replace:
            return Known(self._registry.new(identity, **given))
        return self._start_named(identity, given)

    def _start_named(self, identity: Identity, given: Changes) -> ReadRequest[Agent]:
        seen = self._registry.seen(identity)

        def make(found: list[Document], fresh: bool) -> Agent:  # noqa: FBT001 - a ReadRequest's
            if found and not found[0].get("deleted"):
                raise SessionExistsError(identity.state_path)
            agent = self._registry.begin(
                identity, seen=after(found, seen), unread=not fresh, **given
            )
            return agent or self._reader.ask(self._start_named(identity, given))

        return ReadRequest(identity, make)

    @read_method
    def take_up(
        self, agent_type: str, agent_id: str, session_id: str, *, or_start: bool = False
    ) -> ReadRequest[Agent]:
        """Go on with a session, as after a crash; whoever had it is fenced off.

        Where there is none, it begins with `or_start`, else UnknownSessionError is raised. Where
        that cannot be found out now, it goes on in a new session, which takes along what is stored
        as soon as that can be read: then `agent.fresh` is False until it has.
        """
        identity = Identity.of(agent_type, agent_id, session_id)

        def make(found: list[Document], fresh: bool) -> Agent:  # noqa: FBT001 - a ReadRequest's
            if not fresh:
                return self._later(identity, identity)
            if (agent := self._taken_up(found)) is not None:
                return agent
            if or_start:
                return self._reader.ask(self._agent_in(identity))
            raise UnknownSessionError(f"there is no session {identity.state_path}")

        return ReadRequest(identity, make)

    @read_method
    def resume(
        self, agent_type: str, agent_id: str, session_id: str | None = None
    ) -> ReadRequest[Agent]:
        """Go on with an agent in a new session, which takes along what its newest one had.

        History, metrics, memory context, settings. The former session ends as terminated,
        `resumed_as` the new one, and whoever still runs it is fenced off. An agent that has never
        been begins. Where its past cannot be read now, it begins in a session with an id of its
        own, and takes its past along as soon as that can be read: until then `agent.fresh` is
        False. A `session_id` that is there already is taken up.

        What this folder has sent of the former session may not be stored yet: then it is read again
        for up to half a minute, and past that counts as what cannot be read now.
        """
        own = new_id() if session_id is None else session_id
        identity = Identity.of(agent_type, agent_id, own)
        find = newest_states(identity.agent_type, identity.agent_id, _MOST_FORMERS)

        def resumed(seen: Order) -> ReadRequest[Agent]:
            def make(found: list[Document], fresh: bool) -> Agent:  # noqa: FBT001 - a ReadRequest's
                if not fresh:
                    return self._later(identity, find)
                return self._resumed(former_states(found, own), identity, find, seen)

            return ReadRequest(find, make)

        if session_id is None:
            return resumed(NOTHING)
        seen = self._seen_near(identity)

        def own_first(found: list[Document], fresh: bool) -> Agent:  # noqa: FBT001 - a ReadRequest's
            agent = self._taken_up(found) if fresh else self._later(identity, find)
            return agent or self._reader.ask(resumed(after(found, seen)))

        return ReadRequest(identity, own_first)

    @read_method
    def resume_from(
        self, agent_type: str, agent_id: str, former_session_id: str, session_id: str
    ) -> ReadRequest[Agent]:
        """Go on with one named session of an agent in a new one; see `resume`.

        A `session_id` that is there already is taken up, if the former one is there. Raises
        UnknownSessionError where the former one is not there, cannot be read now, or has gone on
        in another session already, this agent or any other one of it; or where what was saved of
        it last is not stored within half a minute: then nothing is begun.
        """
        former = Identity.of(agent_type, agent_id, former_session_id)
        identity = Identity.of(agent_type, agent_id, session_id)
        refusal = f"{former.state_path} is no session to go on with"
        seen = self._seen_near(identity)

        def make(found: list[Document], fresh: bool) -> Agent:  # noqa: FBT001 - a ReadRequest's
            pauses = self._pauses()
            while True:
                formers = former_states(found[:1], identity.session_id) if fresh else []
                own: list[Document] = []
                # Most sessions of a framework have no former one: that costs one read, and no more.
                if formers or (fresh and goes_on_as(found[:1], identity.session_id)):
                    own, fresh = self._reader.ask(ReadRequest(identity, lambda *told: told))
                    if fresh and (there := self._taken_up(own)) is not None:
                        return there
                if not (fresh and formers) or self._heirs(former.session_id) - {session_id}:
                    raise UnknownSessionError(refusal)
                agent = self._registry.begin(identity, formers, seen=after(own, seen))
                if agent is not None:
                    return agent
                if not next(pauses):
                    break
                found, fresh = self._reader.ask(ReadRequest(former, lambda *told: told))
            raise UnknownSessionError(f"{refusal}: what was saved of it last is not stored yet")

        return ReadRequest(former, make)

    def save(self, state: AgentState | Mapping[str, Any]) -> Agent:
        """Save a whole state, of an agent that this process has, or takes from whoever has it.

        Raises InvalidMessageError with each field that is wrong; FencedError; OutboxError.
        """
        return self._registry.save(to_json_values(state))

    @read_method
    def delete(self, agent_type: str, agent_id: str, session_id: str) -> ReadRequest[None]:
        """Delete a state; that the agent was spawned stays counted."""
        identity = Identity.of(agent_type, agent_id, session_id)
        return ReadRequest(identity, lambda found, _: self._delete(identity, found[:1]))

    @read_method
    def clean_up(
        self, days: float, *, limit: int = 1_000, dry_run: bool = False
    ) -> ReadRequest[Answer[CleanUp]]:
        """Delete the states of ended sessions that were last active more than `days` ago.

        Those with the status terminated: who is idle, busy or in error lives, at any age. Gives how
        many, and in `value.sessions` which; at most `limit` at once, those that ended last first.
        With `dry_run` none is deleted: it gives what would be. What a session has contributed goes
        with it, as by `delete`. A session that is taken up meanwhile stays.

        Raises InvalidMessageError where `days` is not more than 0; OutboxError.
        """
        if problem := age_problem(days):
            raise InvalidMessageError("schema", [FieldProblem("days", problem)])
        until = now() - timedelta(days=days)
        find = Lookup((STALE,), {"status": ENDED_STATUSES}, until=until, limit=limit)

        def make(found: list[Document], fresh: bool) -> Answer[CleanUp]:  # noqa: FBT001 - a ReadRequest's
            ended = found if fresh else []  # what is only known may be active elsewhere
            gone = [
                identity
                for each in ended
                if (identity := identity_in(each)) is not None and "epoch" in each
                if dry_run or self._delete_as_read(identity, each)
            ]
            return Answer(CleanUp(gone), fresh)

        return ReadRequest(find, make)

    @read_method
    def load(
        self, agent_type: str, agent_id: str, session_id: str | None = None
    ) -> ReadRequest[Answer[AgentState | None]]:
        """Return the state of an agent: in a session, or its newest; None where there is none."""
        if session_id is None:
            return read_request(newest_states(*_agent(agent_type, agent_id), limit=1), first_state)
        return read_request(Identity.of(agent_type, agent_id, session_id), first_state)

    @read_method
    def active(
        self,
        *,
        session_id: str | None = None,
        agent_type: str | None = None,
        parent_agent_id: str | None = None,
        parent_agent_type: str | None = None,
        parent_session_id: str | None = None,
        limit: int = 100,
    ) -> ReadRequest[Answer[list[AgentState]]]:
        """List the states of agents that are not terminated: all, or of a session, type, parent.

        A parent is named by its id, and by its type and session where other agents share that.
        """
        wanted = _given(session_id=session_id, agent_type=agent_type)
        if parent_agent_id is None:
            if parent_agent_type is not None or parent_session_id is not None:
                problem = FieldProblem("parent_agent_id", "is needed to name a parent")
                raise InvalidMessageError("schema", [problem])
            find = states_with(wanted, limit=limit)
            return read_request(find, lambda found: read_as(AgentState, found))
        parent = _parent(parent_agent_id, parent_agent_type, parent_session_id)
        return self._children_of(parent, wanted, limit, current=True)

    @read_method
    def stale(
        self, *, agent_type: str | None = None, limit: int = 100
    ) -> ReadRequest[Answer[list[AgentState]]]:
        """List the states of agents whose process has died: at work, and not renewed for a lease.

        An agent at work is active or busy. A process that ends in order leaves its agents idle.
        """
        wanted = _given(agent_type=agent_type)
        find = stale_states(self._runtime.leases.lease_seconds, wanted, limit=limit)
        return read_request(find, lambda found: read_as(AgentState, found))

    def on_stale(self, listener: Callable[[AgentState], None]) -> None:
        """Call `listener`, on a thread of ours, with each agent that becomes stale.

        It is looked for twice in a lease, as long as this process runs.
        """
        self._runtime.leases.on_stale(listener)

    @read_method
    def adopt(
        self,
        agent_type: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        *,
        limit: int = 100,
        timeout_seconds: float = 10.0,
    ) -> ReadRequest[list[Agent]]:
        """Go on with agents whose process has died: all, or of a type, an agent, a session.

        Each is adopted by exactly one of those who try, on whatever machine; returned are those
        that this process has got. A task that was in progress is in their history, as it was.
        Raises UnavailableError where the store cannot be asked, or does not say in time who has an
        agent.
        """
        ids = _given(agent_type=agent_type, agent_id=agent_id, session_id=session_id)
        lease = self._runtime.leases.lease_seconds
        find = stale_states(lease, ids, limit=limit)

        def make(found: list[Document], fresh: bool) -> list[Agent]:  # noqa: FBT001 - a ReadRequest's
            if not fresh:
                raise UnavailableError("stale agents cannot be looked for now: try again later")
            adopted: list[Agent] = []
            for document in found:
                for state in read_as(AgentState, [document]):
                    try:
                        agent = self._runtime.adoption.adopt(
                            state, document, lease_seconds=lease, timeout_seconds=timeout_seconds
                        )
                    except FirestateError:
                        if not adopted:
                            raise
                        return adopted  # the others: with the next call
                    adopted += [] if agent is None else [agent]
            return adopted

        return ReadRequest(find, make)

    @read_method
    def children(
        self,
        agent_type: str,
        agent_id: str,
        session_id: str | None = None,
        *,
        limit: int = 1_000,
    ) -> ReadRequest[Answer[list[AgentState]]]:
        """List the states of all that an agent has spawned, the eldest first, ended ones too.

        In one session of it, or in all. `child_agent_ids` of its state lists the newest 100 that
        have not ended. A child stored by a release up to 0.1 is told by its spawn event.
        """
        parent = _parent(agent_id, agent_type, session_id)
        return self._children_of(parent, {}, limit, current=False)

    @read_method
    def events(
        self,
        *,
        hours: float = 24,
        event_type: str | None = None,
        agent_id: str | None = None,
        limit: int = 100,
    ) -> ReadRequest[Answer[list[CoordinationEvent]]]:
        """List what happened in the last hours, the newest first; `agent_id` is of the source."""
        source = _given(agent_id=agent_id).get("agent_id")
        find = recent_events(hours, event_type, source, limit=limit)
        return read_request(find, lambda found: read_as(CoordinationEvent, found))

    @read_method
    def success_rates(
        self, *, hours: float = 24, limit: int = _MOST_EVENTS
    ) -> ReadRequest[Answer[SuccessRates]]:
        """Return how well coordination went in the last hours; reads each event of them."""
        find = recent_events(hours, limit=limit)
        return read_request(find, lambda found: success_rates_of(read_as(CoordinationEvent, found)))

    @read_method
    def learned(self, agent_type: str, agent_id: str) -> ReadRequest[Answer[Experience]]:
        """Return what an agent has learned, over all its sessions."""
        return read_request(memory_path(*_agent(agent_type, agent_id)), experience_in)

    @read_method
    def learned_by_type(self, agent_type: str, limit: int = 50) -> ReadRequest[Answer[Experience]]:
        """Return what the agents of a type have learned together, those that changed last."""
        find = Lookup((MEMORIES_OF_TYPE,), {"agent_type": agent_type}, limit=limit)
        return read_request(find, experience_in)

    @read_method
    def system(self) -> ReadRequest[Answer[SystemState]]:
        """Return the system as a whole: counters, statistics, what operators have set."""
        return read_request(GLOBAL_CONFIG, system_state_in)

    def watch(
        self, agent_type: str, agent_id: str, session_id: str, tell: Callable[[Change], None]
    ) -> Watch:
        """Call `tell` with each change of a stored state, until the watch is closed."""
        identity = Identity.of(agent_type, agent_id, session_id)
        return self._watched(identity.state_paths, StateChanges(identity, tell))

    def watch_children(
        self,
        parent_agent_id: str,
        tell: Callable[[Change], None],
        *,
        parent_agent_type: str | None = None,
        parent_session_id: str | None = None,
    ) -> Watch:
        """Call `tell` with each change of the states of an agent's children.

        The parent is named as in `active`. Children that releases up to 0.1 have stored name it by
        its id alone: they are told of whatever its type and session are.
        """
        parent = _parent(parent_agent_id, parent_agent_type, parent_session_id)
        told: set[str] = set()

        def of_parent(change: Change) -> None:
            data = change.data
            if data is None:
                if change.path not in told:
                    return  # another parent's
                told.remove(change.path)
            elif parent.is_known_by_id_alone(data) or parent.has(data, ()):
                told.add(change.path)
            else:
                return
            tell(change)

        return self._watched(BY_PARENT.query({"parent_agent_id": parent.agent_id}), of_parent)

    @property
    def connection(self) -> Connection:
        """How the ways to the cloud are, and what waits."""
        return self._runtime.connection()

    def on_connection(self, listener: Callable[[Connection], None]) -> None:
        """Call `listener` whenever a way opens or closes."""
        call = self._runtime.callbacks.call
        for link in self._runtime.links:
            link.on_change(lambda _: call(lambda: listener(self.connection)))

    def on_refused(self, listener: Callable[[Refused], None]) -> None:
        """Call `listener` with each message of this folder that was refused: once for each.

        It waits in quarantine, and can never succeed as it is. What was refused after the folder's
        last process has ended is told as well, and what this one has learned before this call.
        """
        self._runtime.refusals.on_refused(listener)

    def flush(self, timeout_seconds: float = 10.0) -> bool:
        """Wait until Pub/Sub has all that was saved before this call.

        Others of the folder may go on to save. What has replaced a state counts for that state.

        Args:
            timeout_seconds: How long to wait at most.

        Returns:
            False if the time was up before.
        """
        return self._runtime.flush(timeout_seconds)

    def settle(self, timeout_seconds: float = 30.0) -> bool:
        """Flush and, on the local engine, wait until all is counted: for tests.

        False also while a message waits in quarantine that was refused since this manager was
        opened, as far as is known; see `on_refused`.
        """
        return self._runtime.settle(timeout_seconds)

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Send what waits, as far as that goes in time, and end all threads.

        What is left waits in the outbox for the next process; one in memory says what is lost.
        """
        for watch in self._watches:
            watch.close()
        self._runtime.close(timeout_seconds)

    def _taken_up(self, found: list[Document]) -> Agent | None:
        """Take up the session of a document; one that cannot be read must not be written over."""
        if not found or found[0].get("deleted"):
            return None
        state = first_state(found)
        if state is None:
            raise DamagedDocumentError("the session is stored in a form that cannot be read")
        agent = self._registry.take_up(state, found[0])
        if PENDING in state.collaboration_context:
            self._complete(agent, newest_states(state.agent_type, state.agent_id, _MOST_FORMERS))
        return agent

    def _resumed(self, formers: list[Former], identity: Identity, find: Find, seen: Order) -> Agent:
        """Begin a session that takes along what `formers` had; read them again where they moved.

        Where what this folder has sent is not stored for long, or the session itself is one of
        those, the agent begins as where its past cannot be read.

        Args:
            formers: What it takes along, the newest first.
            identity: The session.
            find: How to read the formers again.
            seen: Where the session was deleted, if it was: it begins above that.
        """
        pauses = self._pauses()
        while (agent := self._registry.begin(identity, formers, seen=seen)) is None:
            if not next(pauses):
                return self._later(identity, find)
            seen = self._seen_near(identity)
            own, fresh = self._reader.ask(ReadRequest(identity, lambda *told: told))
            if fresh and (there := self._taken_up(own)) is not None:
                return there  # another process has begun it
            seen = after(own, seen)
            found, is_current = self._reader.ask(ReadRequest(find, lambda *told: told))
            if not (fresh and is_current):
                return self._later(identity, find)
            formers = former_states(found, identity.session_id)
        return agent

    def _seen_near(self, identity: Identity) -> Order:
        """Return where a session was that is not there any more, as far as that is certain.

        What was sent to the local engine was stored: where it is not, the store was emptied. What
        was sent to the cloud may only be on its way.
        """
        return self._registry.seen(identity) if self._runtime.backend.is_near else NOTHING

    @staticmethod
    def _pauses() -> Iterator[bool]:
        """Pause, ever longer, before what was saved and is not stored yet is read again.

        Each time is a billed read. False once it has taken too long.
        """
        deadline, pause = time.monotonic() + _MOVING_SECONDS, 0.0
        while True:
            time.sleep(pause)
            pause = min(2 * pause + _LEAST_LOOK_SECONDS, _MOST_LOOK_SECONDS)
            yield time.monotonic() <= deadline

    def _later(self, identity: Identity, find: Find) -> Agent:
        # What is only known may be older than what is stored: nothing is written over it.
        context = {PENDING: True}
        own = identity._replace(session_id=new_id())
        agent = self._registry.new(own, collaboration_context=context)
        self._complete(agent, find)
        return agent

    def _heirs(self, session_id: str) -> set[str]:
        """Return the sessions in which the agents of a former one have gone on."""
        find = states_with({"session_id": session_id}, current=False, limit=None)
        states = self._reader.ask(ReadRequest(find, lambda found, _: read_as(AgentState, found)))
        contexts = (each.collaboration_context for each in states)
        return {str(each["resumed_as"]) for each in contexts if "resumed_as" in each}

    def _children_of(
        self, parent: Parent, wanted: dict[str, str], limit: int, *, current: bool
    ) -> ReadRequest[Answer[list[AgentState]]]:
        # What tells namesakes apart is looked at here: only then all have to be read.
        most = limit if parent.agent_type is None and parent.session_id is None else None
        find = states_with(
            {**wanted, "parent_agent_id": parent.agent_id}, current=current, limit=most
        )

        def make(found: list[Document], fresh: bool) -> Answer[list[AgentState]]:  # noqa: FBT001 - a ReadRequest's
            spawns: list[Document] = []
            if any(map(parent.is_known_by_id_alone, found)):
                ask = ReadRequest(spawns_by(parent.agent_id), lambda *told: told)
                spawns, known = self._reader.ask(ask)
                fresh = fresh and known
            children = [each for each in found if parent.has(each, spawns)]
            return Answer(read_as(AgentState, children[:limit]), fresh)

        return ReadRequest(find, make)

    def _complete(self, agent: Agent, find: Find) -> None:
        """Have an agent take along its past, as soon as that can be read."""
        agent.fresh = False

        def done(found: list[Document]) -> bool:
            formers = former_states(found, agent.identity.session_id)
            if not self._registry.complete_resume(agent, formers):
                return False
            agent.fresh = True
            return True

        self._runtime.background_reads.add(find, done)

    def _delete(self, identity: Identity, found: list[Document]) -> None:
        if (agent := self._registry.find(identity)) is not None:
            agent.delete()
            return
        if found:
            self._registry.tell_parent(identity, parent_in(found[0]))
        stored = found[0]["epoch"] if found else 0
        submitter = self._runtime.submitter
        while True:
            order = Order(submitter.new_epoch(identity, stored), 1)
            if submitter.put(submitter.tombstone_entry(identity, order)):
                return

    def _delete_as_read(self, identity: Identity, found: Document) -> bool:
        """Delete a session unless somebody has saved it, or taken it up, since it was read."""
        submitter = self._runtime.submitter
        read = Order(found["epoch"], found["revision"])
        # Above what was read, and below whoever takes the session up: they begin at their time. Two
        # that clean up at once differ in the revision, and are no conflict.
        order = Order(read.epoch + 1, now_in_microseconds())
        expected = submitter.expected_entry(identity, read)
        if not submitter.put(expected, submitter.tombstone_entry(identity, order)):
            return False
        self._registry.tell_parent(identity, parent_in(found))
        return True

    def _watched(self, target: tuple[str, ...] | Query, tell: Callable[[Change], None]) -> Watch:
        watch = Watch(target, lambda change: self._runtime.callbacks.call(tell, change))
        self._watches = [each for each in self._watches if not each.is_over] + [watch]
        self._runtime.backend.watch(watch)
        return watch

    @property
    def _office(self) -> SimpleNamespace:
        """The backend by its former name, for programs that look into the local engine's store."""
        warnings.warn("_office was renamed: use _runtime", DeprecationWarning, stacklevel=2)
        return SimpleNamespace(engine=self._runtime.backend)


def _given(**ids: object) -> dict[str, str]:
    """Return the ids that are not None, as texts."""
    return checked_ids({name: value for name, value in ids.items() if value is not None})


def _agent(agent_type: object, agent_id: object) -> tuple[str, str]:
    ids = checked_ids({"agent_type": agent_type, "agent_id": agent_id})
    return ids["agent_type"], ids["agent_id"]


def _parent(agent_id: object, agent_type: object, session_id: object) -> Parent:
    ids = _given(
        parent_agent_id=agent_id, parent_agent_type=agent_type, parent_session_id=session_id
    )
    return Parent(
        ids["parent_agent_id"], ids.get("parent_agent_type"), ids.get("parent_session_id")
    )
