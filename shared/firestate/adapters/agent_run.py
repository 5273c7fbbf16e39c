"""One run of an agent in a framework, from its start to its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from firestate.adapters.error_guard import log_errors
from firestate.adapters.failures import Failure, is_new
from firestate.schema.sanitize import sanitize_text

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from firestate.adapters.agent_handle import AgentHandle
    from firestate.adapters.error_guard import ErrorLog


class Session(NamedTuple):
    """Where agents run together; `lasts` where it can be gone on with, because others name it.

    `former` is another id under which it may be stored: a release up to 0.1 gave it that.
    """

    id: str
    lasts: bool
    former: str | None = None


class RunRecorder(Protocol):
    """What a run needs of the Recorder that began it."""

    error_log: ErrorLog
    lock: threading.RLock

    def check(self) -> None:
        """Raise EmergencyStopError while all agents are to stop."""
        ...

    def hand_over(
        self,
        session: Session,
        source: str,
        target: str,
        failure: Failure | None = None,
        seconds: float | None = None,
    ) -> None:
        """Record that one agent has handed over to another, and how that went."""
        ...


class _Tool(NamedTuple):
    name: str
    started: float


class AgentRun:
    """What an adapter holds of a running agent; made by `Recorder.begin`.

    Each method may be called in any state: frameworks tell of ends twice, or not at all.
    """

    def __init__(
        self, recorder: RunRecorder, session: Session, name: str, sources: Sequence[str]
    ) -> None:
        """Be of the agent `name`, which `sources` have handed over to."""
        self.error_log = recorder.error_log
        self.session = session
        self.name = name
        self.sources = sources
        self.held: AgentHandle | None = None
        self._recorder = recorder
        self._started = time.monotonic()
        self._tools: dict[str, _Tool] = {}
        self._open = True

    @property
    def tools(self) -> dict[str, str]:
        """The tools that it is using: the name of each, by its call."""
        return {call: tool.name for call, tool in self._tools.items()}

    @property
    def is_open(self) -> bool:
        """Whether it has not ended yet."""
        return self._open

    def end(self, *, seconds: float | None = None) -> None:
        """Say that it has done what it was to do; `seconds` where the framework has timed it."""
        self._end(None, seconds)

    def fail(
        self,
        error: BaseException | Failure,
        *,
        told: bool = False,
        seconds: float | None = None,
    ) -> None:
        """Say that it ended with an error, which may have been `told` of, or was broken off."""
        failure = error if isinstance(error, Failure) else Failure.of(error)
        if not failure.cancelled and not told:
            self.record_error(error)
        self._end(failure, seconds)

    @log_errors
    def record_error(self, error: BaseException | Failure, tool: str | None = None) -> None:
        """Record an error, which the agent may well survive; the same exception once only."""
        if isinstance(error, BaseException) and not is_new(error, self.session.id):
            return
        failure = error if isinstance(error, Failure) else Failure.of(error)
        if self.held is not None:
            context = {
                "error_type": failure.kind,
                **({"tool": sanitize_text(tool)} if tool else {}),
            }
            self.held.agent.failed(failure.message, context=context)

    def begin_tool(self, call: str, tool: str) -> None:
        """Say that it uses a tool; raises EmergencyStopError while all agents are to stop."""
        self._recorder.check()
        self._begin_tool(sanitize_text(call), sanitize_text(tool))

    @log_errors
    def end_tool(
        self,
        call: str,
        error: BaseException | Failure | None = None,
        *,
        told: bool = False,
        seconds: float | None = None,
    ) -> None:
        """Say that a tool has given its result, or failed; one that has ended already stays so."""
        with self._recorder.lock:
            tool = self._tools.pop(sanitize_text(call), None)
            if tool is None or self.held is None:
                return
            took = time.monotonic() - tool.started if seconds is None else seconds
            if error is None:
                self.held.end_tool(
                    sanitize_text(call), tool.name, "completed", duration_seconds=took
                )
                return
            failure = error if isinstance(error, Failure) else Failure.of(error)
            status = "cancelled" if failure.cancelled else "failed"
            details: dict[str, Any] = {"duration_seconds": took, "error": failure.message}
            if failure.kind:
                details["error_type"] = failure.kind
            self.held.end_tool(sanitize_text(call), tool.name, status, **details)
        if not failure.cancelled and not told:
            self.record_error(error, tool.name)

    @log_errors
    def _begin_tool(self, call: str, tool: str) -> None:
        with self._recorder.lock:
            self._tools[call] = _Tool(tool, time.monotonic())
            if self.held is not None:
                self.held.agent.begin_task(call, "tool", tool=tool)

    @log_errors
    def _end(self, failure: Failure | None, seconds: float | None) -> None:
        with self._recorder.lock:
            if not self._open:
                return
            self._open = False
            for call in list(self._tools):  # nobody will tell of them any more
                self.end_tool(call, Failure("", "its agent ended before it", cancelled=True))
            if self.held is not None:
                self.held.end(failed=failure is not None and not failure.cancelled)
            took = time.monotonic() - self._started if seconds is None else seconds
            for source in self.sources:
                self._recorder.hand_over(self.session, source, self.name, failure, took)
