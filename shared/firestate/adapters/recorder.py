"""What all adapters share: what the agents of a framework do, put down through a StateManager.

An agent is known by the framework's name, in a session. It is busy while it runs, then idle, or
`error` where it failed; with a session that cannot be gone on with, it is terminated.

A hand-over is recorded when it is known how it went: as a success when the agent that took over
has ended its run or handed on, as a failure when it failed; its duration is that of the run.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from firestate.adapters.agent_handle import AgentHandle
from firestate.adapters.agent_run import AgentRun, Session
from firestate.adapters.error_guard import ErrorLog, log_errors
from firestate.adapters.failures import Failure
from firestate.agents.state.generated_ids import new_id
from firestate.errors import EmergencyStopError, SessionExistsError, UnknownSessionError
from firestate.schema.ids import Identity
from firestate.schema.sanitize import id_text, sanitize_id, sanitize_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from firestate.agents.agent import Agent
    from firestate.agents.manager import StateManager

_MOST_HELD, _FEWER = 1_000, 100


class Recorder:
    """Keeps one Agent for each agent of a framework in each session. Any thread may call it.

    Trouble of Firestate's own is logged, and never raised into the framework; EmergencyStopError
    is: while the emergency stop is set, no agent and no tool begins.
    """

    def __init__(
        self, manager: StateManager, session_id: str | None = None, *, framework: str = ""
    ) -> None:
        """Record through `manager`; a session that is named here takes the place of all others."""
        self.error_log = ErrorLog()
        self.lock = threading.RLock()
        self._manager = manager
        self._framework = framework
        self._named: Session | None = None
        if session_id is not None:
            self._named = self.session(session_id)
        self._held: dict[Identity, AgentHandle] = {}

    def session(
        self, name: object = None, *, own: str | None = None, former: str | None = None
    ) -> Session:
        """Give the session that is named here, or `name` of the framework's, or a new one.

        Frameworks name sessions by texts, numbers or UUIDs: 0 and the empty text are names too.
        `former` is the id that releases up to 0.1 gave the session. A new one has the id `own`,
        which nobody else may use, and ends with `close`.
        """
        if self._named is not None:
            return self._named
        if name is None:
            return Session(own or new_id(), lasts=False)
        own_id = id_text(name)
        former = sanitize_id(str(name)) if former is None else former
        return Session(own_id, lasts=True, former=None if former == own_id else former)

    def check(self) -> None:
        """Raise EmergencyStopError while all agents are to stop."""
        self._look_at_controls()

    def begin(
        self,
        session: Session,
        name: str,
        *,
        parents: Sequence[str] = (),
        sources: Iterable[str] = (),
    ) -> AgentRun:
        """Begin a run of the agent `name`, after `sources` have handed over to it.

        Where it is new in the session, the first of `parents` has made it, that one the next.
        Raises EmergencyStopError while all agents are to stop; then the hand-overs have failed.
        """
        run = AgentRun(self, session, name, [each for each in sources if each != name])
        try:
            self.check()
            self._begin(run, parents)
        except EmergencyStopError as error:
            for source in run.sources:
                self.hand_over(session, source, name, Failure.of(error))
            raise
        return run

    @log_errors
    def make(self, session: Session, name: str, parents: Sequence[str] = ()) -> None:
        """See to it that an agent is there, without a run."""
        with self.lock:
            self._get(session, (name, *parents))

    @log_errors
    def hand_over(
        self,
        session: Session,
        source: str,
        target: str,
        failure: Failure | None = None,
        seconds: float | None = None,
    ) -> None:
        """Record that one agent has handed over to another, and how that went."""
        with self.lock:
            agent = self._get(session, (source,)).agent
        agent.handed_off(
            (sanitize_type(target), sanitize_id(target)),
            success=failure is None,
            cancelled=failure is not None and failure.cancelled,
            error_message=failure and failure.message,
            context={"error_type": failure.kind} if failure else {},
            duration_seconds=seconds,
        )

    @log_errors
    def close(self, session: Session) -> None:
        """Say that a session is over: its agents end, unless it can be gone on with."""
        if session.lasts:
            return
        with self.lock:
            for key in [key for key in self._held if key.session_id == session.id]:
                self._held.pop(key).close()

    @log_errors
    def _look_at_controls(self) -> None:
        self._manager.controls.check()

    @log_errors
    def _begin(self, run: AgentRun, parents: Sequence[str]) -> None:
        with self.lock:
            held = self._get(run.session, (run.name, *parents))
            held.begin()
            run.held = held

    def _get(self, session: Session, names: Sequence[str]) -> AgentHandle:
        """Give the agent of the first name, made by that of the second, and so on."""
        # By what the state is stored under: two names that are made fit alike are one agent.
        key = Identity(sanitize_type(names[0]), sanitize_id(names[0]), session.id)
        held = self._held.get(key)
        if held is None or held.agent.fenced:
            held = self._held[key] = AgentHandle(self._find(session, names))
            self._release_idle()
        return held

    def _release_idle(self) -> None:
        """Hold so many agents at most, those aside that run: sessions that last have no end."""
        if len(self._held) > _MOST_HELD:
            for key in [key for key, held in self._held.items() if held.is_idle][:_FEWER]:
                self._held.pop(key).agent.release()

    def _find(self, session: Session, names: Sequence[str]) -> Agent:
        agent_type, agent_id = sanitize_type(names[0]), sanitize_id(names[0])
        if session.lasts:  # another process may have had it, or this one before
            with suppress(UnknownSessionError):
                return self._manager.take_up(agent_type, agent_id, session.id)
            if session.former is not None:
                with suppress(UnknownSessionError):
                    return self._manager.resume_from(
                        agent_type, agent_id, session.former, session.id
                    )
        config = {"framework": self._framework} if self._framework else {}
        if len(names) == 1:
            is_new = not session.lasts  # nobody else may use its id: nothing has to be read
            try:
                return self._manager.start(
                    agent_type, agent_id, session.id, replace=is_new, agent_config=config
                )
            except SessionExistsError:  # another process has begun it just now
                return self._manager.take_up(agent_type, agent_id, session.id)
        parent = self._get(session, names[1:]).agent
        return parent.spawn(agent_type, agent_id, session_id=session.id, agent_config=config)
