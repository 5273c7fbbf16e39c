"""StateManager: the one object through which a process of agents keeps its state."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from firestate.agents.answers import Answer, Document, LookUp, Question, reads
from firestate.agents.controls import Controls
from firestate.agents.desk import Desk, WhenFull, now
from firestate.agents.engines import Engine, OnThisMachine
from firestate.agents.errands import Errands
from firestate.agents.lookups import LookUps, first_state, newest_of
from firestate.agents.partners import Name, new_id
from firestate.agents.reader import Reader
from firestate.agents.roster import Roster
from firestate.agents.values import plain
from firestate.agents.watch import Watch
from firestate.errors import ConfigurationError, UnknownSessionError
from firestate.limits import MAX_OUTBOX_BYTES, SNAPSHOT_INTERVAL_SECONDS
from firestate.outbox.connection import Connection
from firestate.outbox.file import open_outbox
from firestate.outbox.sender import Sender
from firestate.queries import BY_PARENT, EVERY_STATUS, STALE
from firestate.schema.ids import Identity
from firestate.schema.messages import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from firestate.agents.agent import Agent
    from firestate.agents.changes import Changes
    from firestate.agents.watch import Change
    from firestate.schema.models import AgentState

_LOG = logging.getLogger("firestate.agents")
_EMULATORS = ("FIRESTORE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST")
LOCAL = ""
"""Given as the project: this machine, whatever the environment names."""
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
        project = os.environ.get("GOOGLE_CLOUD_PROJECT") if project is None else project
        if project is None and (named := [name for name in _EMULATORS if os.environ.get(name)]):
            message = f"{named[0]} names an emulator, but no project is named: GOOGLE_CLOUD_PROJECT"
            raise ConfigurationError(message)
        where = None if folder is None else Path(folder).absolute()
        self._engine = _engine(project, where, patience_seconds)
        self._outbox = open_outbox(
            where and where / (f"outbox-{project}.db" if project else "outbox.db"),
            most_bytes=outbox_bytes,
        )
        self._reader = Reader(self._engine, self._outbox, patience_seconds=patience_seconds)
        self.controls = Controls(self._engine, patience_seconds=patience_seconds)
        """Feature flags and the emergency stop, as operators have set them."""
        self._sender = Sender(
            self._outbox,
            self._engine,
            self._engine.publishing,
            interval_seconds=snapshot_interval_seconds,
        )
        self._desk = Desk(
            self._outbox, self._sender, self._reader, self.controls, when_full=when_full
        )
        self._errands = Errands(self._engine, self._reader)
        self._roster = Roster(self._desk, self._engine, self._errands)
        self._watches: list[Watch] = []
        self._sender.start()

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
    def take_up(self, agent_type: str, agent_id: str, session_id: str) -> Question[Agent]:
        """Go on with a session, as after a crash; whoever had it is fenced off.

        Raises UnknownSessionError where there is none. Where that cannot be found out now, it goes
        on in a new session, which takes along what is stored as soon as that can be read: then
        `agent.fresh` is False until it has.
        """
        identity = Identity(agent_type, agent_id, session_id)

        def make(found: list[Document], fresh: bool) -> Agent:  # noqa: FBT001 - a Question's
            state = first_state(found)
            if state is not None:
                return self._roster.took_up(state, found[0])
            if fresh:
                raise UnknownSessionError(f"there is no session {identity.state_path}")
            agent = self._roster.new(agent_type, agent_id, new_id())
            return self._later(agent, identity.state_path)

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
        find = newest_of(agent_type, agent_id)

        def make(found: list[Document], fresh: bool) -> Agent:  # noqa: FBT001 - a Question's
            former = first_state(found)
            if former is not None and former.session_id != session_id:
                agent = self._roster.resumed(former, found[0], session_id or new_id())
            else:
                agent = self._roster.new(agent_type, agent_id, session_id or new_id())
            return agent if fresh else self._later(agent, find)

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

    def agent(self, agent_type: str, agent_id: str) -> Name:
        """Name an agent of another process, as the target of an event."""
        return Name(agent_type, agent_id)

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
        depth = self._outbox.depth()
        since = None if depth.since is None else datetime.fromtimestamp(depth.since, UTC)
        return Connection(
            self._engine.publishing.way, self._engine.reading.way, depth.messages, since
        )

    def on_connection(self, listener: Callable[[Connection], None]) -> None:
        """Call `listener` whenever a way opens or closes."""
        for line in (self._engine.publishing, self._engine.reading):
            line.on_change(lambda _: listener(self.connection))

    def flush(self, timeout_seconds: float = 10.0) -> bool:
        """Wait until Pub/Sub has all that was saved; False if the time was up before."""
        return self._sender.flush(timeout_seconds)

    def settle(self, timeout_seconds: float = 30.0) -> bool:
        """Flush and, on the local engine, wait until all is counted: for tests."""
        flushed = self.flush(timeout_seconds)
        if isinstance(self._engine, OnThisMachine):
            self._engine.engine.settle(timeout_seconds)
        return flushed

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Send what waits, as far as that goes in time, and end all threads.

        What is left waits in the outbox for the next process; one in memory says what is lost.
        """
        if not self.flush(timeout_seconds) and self._outbox.path is None:
            left = self._outbox.depth().messages
            _LOG.error("%d messages are lost with the outbox in memory", left)
        self._errands.close()
        self._sender.close()
        self.controls.close()
        for watch in self._watches:
            watch.close()
        self._reader.close()
        self._engine.close()
        self._outbox.close()

    def _later(self, agent: Agent, find: str | LookUp) -> Agent:
        agent.fresh = False
        own = agent.identity.session_id

        def done(found: Document | None) -> None:
            former = first_state([found] if found is not None else [])
            if found is not None and former is not None and former.session_id != own:
                self._roster.resumed_late(agent, former, found)
            agent.fresh = True

        self._errands.do(find, done)
        return agent

    def _delete(self, identity: Identity, found: list[Document]) -> None:
        stored = found[0]["epoch"] if found else 0
        self._desk.put_tombstone(identity, Order(self._desk.new_epoch(identity, stored), 1))

    def _watched(self, watch: Watch) -> Watch:
        self._watches = [each for each in self._watches if not each.is_over] + [watch]
        self._engine.watch(watch)
        return watch


def _engine(project: str | None, folder: Path | None, patience_seconds: float) -> Engine:
    if not project:
        return OnThisMachine(folder and folder / "state.db")
    # Google's libraries take longer to load than all the rest: only where they are used.
    from firestate.agents.cloud import InTheCloud  # noqa: PLC0415 - see above

    return InTheCloud(project, patience_seconds=patience_seconds)
