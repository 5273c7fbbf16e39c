"""An agent of Firestate that stands for one of a framework, in one session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.schema.enums import AgentStatus

if TYPE_CHECKING:
    from firestate.agents.agent import Agent


class AgentHandle:
    """Busy while any of its runs is: a framework may run one agent several times at once."""

    def __init__(self, agent: Agent) -> None:
        """Nothing runs yet."""
        self.agent = agent
        self._runs = 0
        self._failed = False
        self._is_last = False

    @property
    def is_idle(self) -> bool:
        """Whether none of its runs is under way."""
        return self._runs == 0

    def begin(self) -> None:
        """Say that a run has begun."""
        self._runs += 1
        if self._runs == 1:
            self._failed = False
            self.agent.update(status=AgentStatus.BUSY)

    def end_tool(self, call: str, tool: str, status: str, **details: Any) -> None:  # noqa: ANN401 - those of a task
        """Say that a tool has ended; its agent goes on, so that it is busy as before."""
        self.agent.end_task(call, status, kind="tool", tool=tool, **details)
        if self._runs and self.agent.state.status != AgentStatus.BUSY:
            self.agent.update(status=AgentStatus.BUSY)

    def end(self, *, failed: bool) -> None:
        """Say that a run has ended. Of several at once, the failure of one is the agent's."""
        self._runs -= 1
        self._failed |= failed
        if self._runs == 0:
            self.agent.update(status=AgentStatus.ERROR if self._failed else AgentStatus.IDLE)
            self._finish()

    def close(self) -> None:
        """Say that its session is over: it ends, if need be after what still runs."""
        self._is_last = True
        self._finish()

    def _finish(self) -> None:
        # One that has failed stays as it is, for people to see.
        if self._is_last and self._runs == 0 and not self._failed:
            self.agent.ended()
            self.agent.terminate()
