"""StateManager: the one object through which a process of agents keeps its state."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from firestate.agents.answers import Answer, Document, LookUp, Question, reads
from firestate.agents.carrying import PENDING
from firestate.agents.desk import WhenFull, now
from firestate.agents.lookups import LookUps, first_state, formers_in, newest_of
from firestate.agents.office import LOCAL, Office, named_project
from firestate.agents.partners import new_id
from firestate.agents.values import plain
from firestate.agents.watch import Watch
from firestate.errors import UnknownSessionError
from firestate.limits import MAX_OUTBOX_BYTES, SNAPSHOT_INTERVAL_SECONDS
from firestate.queries import BY_PARENT, EVERY_STATUS, STALE
from firestate.schema.ids import Identity
from firestate.schema.messages import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from firestate.agents.agent import Agent
    from firestate.agents.changes import Changes
    from firestate.agents.roster import Former
    from firestate.agents.watch import Change
    from firestate.outbox.connection import Connection
    from firestate.schema.models import AgentState

_LOG = logging.getLogger("firestate.agents")
_MOST_FORMERS = 10
FOLDER = Path(".firestate")
"""Where a process keeps its outbox and, without a project, the local engine's file."""


class StateManager(LookUps):
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
    ) -> None:
        """Open the outbox, and begin to work in the background; nothing is waited for.

        `folder` None keeps all in memory. Snapshots of one session go out at most once in an
        interval. A read that takes longer than the patience is answered by what is known. Past its
        bytes the outbox refuses, or a call waits (`when_full="wait"`), but nothing is dropped.
        Raises ConfigurationError where the local engine's file cannot be used.
        """
        self._office = Office(
            named_project(project),
            None if folder is None else Path(folder).absolute(),
            snapshot_interval_seconds=snapshot_interval_seconds,
            patience_seconds=patience_seconds,
            outbox_bytes=outbox_bytes,
            when_full=when_full,
        )
        self._reader = self._office.reader
        self._roster = self._office.roster
        self.controls = self._office.controls
        """Feature flags and the emergency stop, as operators have set them."""
        self._watches: list[Watch] = []

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

    def start(
        self,
        agent_type: str,
        agent_id: str,
        session_id: str | None = None,
        **given: Unpack[Changes],
    ) -> Agent:
        """Begin a session of an agent, with a new id if none is named, and save it."""
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
            state = first_state(found)
            if state is not None:
                return self._roster.took_up(state, found[0])
            if fresh and or_start:
                return self._roster.new(*identity)
            if fresh:
                raise UnknownSessionError(f"there is no session {identity.state_path}")
            return self._later(agent_type, agent_id, new_id(), identity.state_path)

        return Question(identity.state_path, make)

    @reads
    def resume(
        self, agent_type: str, agent_id: str, session_id: str | None = None
    ) -> Question[Agent]:
        """Go on with an agent in a new session, which takes along what its newest one had.

        History, metrics, memory context, settings. The former session ends as terminated,
        `resumed_as` the new one, and whoever still runs it is fenced off. An agent that has never
        been begins. Where its past cannot be read now, it takes that along later: `agent.fresh`.
        """
        find = newest_of(agent_type, agent_id, _MOST_FORMERS)
        own = session_id or new_id()

        def make(found: list[Document], fresh: bool) -> Agent:  # noqa: FBT001 - a Question's
            formers = formers_in(found, own)
            if not (fresh or formers):
                return self._later(agent_type, agent_id, own, find)
            agent = self._roster.resumed(formers, agent_type, agent_id, own)
            return agent if fresh else self._completed(agent, find, formers)

        return Question(find, make)

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

    def watch(
        self, agent_type: str, agent_id: str, session_id: str, tell: Callable[[Change], None]
    ) -> Watch:
        """Call `tell` with each change of a stored state, until the watch is closed."""
        return self._watched(Watch(Identity(agent_type, agent_id, session_id).state_path, tell))

    def watch_children(self, parent_agent_id: str, tell: Callable[[Change], None]) -> Watch:
        """Call `tell` with each change of the states of an agent's children."""
        return self._watched(Watch(BY_PARENT.query({"parent_agent_id": parent_agent_id}), tell))

    @property
    def connection(self) -> Connection:
        """How the ways to the cloud are, and what waits."""
        return self._office.connection()

    def on_connection(self, listener: Callable[[Connection], None]) -> None:
        """Call `listener` whenever a way opens or closes."""
        for line in self._office.lines:
            line.on_change(lambda _: listener(self.connection))

    def flush(self, timeout_seconds: float = 10.0) -> bool:
        """Wait until Pub/Sub has all that was saved; False if the time was up before."""
        return self._office.flush(timeout_seconds)

    def settle(self, timeout_seconds: float = 30.0) -> bool:
        """Flush and, on the local engine, wait until all is counted: for tests."""
        return self._office.settle(timeout_seconds)

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Send what waits, as far as that goes in time, and end all threads.

        What is left waits in the outbox for the next process; one in memory says what is lost.
        """
        for watch in self._watches:
            watch.close()
        self._office.close(timeout_seconds)

    def _later(self, agent_type: str, agent_id: str, own: str, find: str | LookUp) -> Agent:
        agent = self._roster.new(agent_type, agent_id, own, collaboration_context={PENDING: True})
        return self._completed(agent, find, [])

    def _completed(self, agent: Agent, find: str | LookUp, taken: list[Former]) -> Agent:
        """Have an agent take along what is stored, but for what it has `taken` along already."""
        agent.fresh = False
        known = {state.session_id for state, _ in taken}

        def done(found: list[Document]) -> None:
            formers = formers_in(found, agent.identity.session_id)
            new = [each for each in formers if each[0].session_id not in known]
            self._roster.resumed_late(agent, new)
            agent.fresh = True

        self._office.errands.do(find, done)
        return agent

    def _delete(self, identity: Identity, found: list[Document]) -> None:
        stored = found[0]["epoch"] if found else 0
        desk = self._office.desk
        desk.put_tombstone(identity, Order(desk.new_epoch(identity, stored), 1))

    def _watched(self, watch: Watch) -> Watch:
        self._watches = [each for each in self._watches if not each.is_over] + [watch]
        self._office.engine.watch(watch)
        return watch
