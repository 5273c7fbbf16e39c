"""Google's Agent Development Kit: a plugin.

    app = App(name="...", root_agent=root, plugins=[FirestatePlugin(manager)])

The session is the ADK's: one of an app, a user and a session id (`shop:alice:main`). Releases up to
0.1 knew it by the session id alone: who comes first goes on with what they have stored. An agent is
spawned by the one whose sub-agent it is; who transfers to another hands over to it. While the
emergency stop is set, the run ends with ADK's RuntimeError, whose cause is EmergencyStopError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from firestate.adapters.error_guard import log_errors
from firestate.adapters.failures import Failure
from firestate.adapters.recorder import Recorder
from firestate.extras import required_extra
from firestate.schema.sanitize import joined_id, sanitize_id

with required_extra("adk", __name__):
    from google.adk.plugins.base_plugin import BasePlugin

if TYPE_CHECKING:
    from google.adk.agents.base_agent import BaseAgent
    from google.adk.agents.callback_context import CallbackContext
    from google.adk.agents.invocation_context import InvocationContext
    from google.adk.models.llm_request import LlmRequest
    from google.adk.tools.base_tool import BaseTool
    from google.adk.tools.tool_context import ToolContext

    from firestate.adapters.agent_run import AgentRun, Session
    from firestate.agents.manager import StateManager

_TRANSFER = "transfer_to_agent"


class _AdkRun(NamedTuple):
    """Which agent in which invocation."""

    invocation: str
    agent: str


class FirestatePlugin(BasePlugin):
    """Records the agents of an app, or of a runner: give it among the `plugins`."""

    def __init__(
        self, manager: StateManager, session_id: str | None = None, *, name: str = "firestate"
    ) -> None:
        """Record through `manager`; a session that is named here takes the place of ADK's."""
        super().__init__(name=name)
        self._recorder = Recorder(manager, session_id, framework="google-adk")
        self.error_log = self._recorder.error_log
        self._runs: dict[_AdkRun, list[AgentRun]] = {}
        self._transfers: dict[_AdkRun, str] = {}
        """Who has transferred to an agent that has not begun yet."""

    async def before_agent_callback(
        self, *, agent: BaseAgent, callback_context: CallbackContext
    ) -> None:
        """Begin a run of the agent."""
        self._begin(agent, callback_context)

    async def after_agent_callback(
        self, *, agent: BaseAgent, callback_context: CallbackContext
    ) -> None:
        """End its run; ADK does not tell of the end of one that has transferred."""
        self._end(callback_context.invocation_id, agent.name, None)

    async def on_agent_error_callback(
        self, *, agent: BaseAgent, callback_context: CallbackContext, error: Exception
    ) -> None:
        """End its run as failed."""
        self._end(callback_context.invocation_id, agent.name, error)

    async def on_model_error_callback(
        self,
        *,
        callback_context: CallbackContext,
        llm_request: LlmRequest,
        error: Exception,
    ) -> None:
        """Record an error of the model; the agent may survive it, by another plugin's answer."""
        self._record_error(callback_context, error)

    async def before_tool_callback(
        self,
        *,
        tool: BaseTool,
        tool_args: dict[str, Any],
        tool_context: ToolContext,
    ) -> None:
        """Put a tool's call into the agent's history."""
        run = self._run(tool_context)
        if run is not None and tool.name != _TRANSFER:
            run.begin_tool(_call(tool, tool_context), tool.name)

    async def after_tool_callback(
        self,
        *,
        tool: BaseTool,
        tool_args: dict[str, Any],
        tool_context: ToolContext,
        result: dict[str, Any],
    ) -> None:
        """Say that it has given its result."""
        self._end_tool(tool, tool_context, None)

    async def on_tool_error_callback(
        self,
        *,
        tool: BaseTool,
        tool_args: dict[str, Any],
        tool_context: ToolContext,
        error: Exception,
    ) -> None:
        """Say that it has failed."""
        self._end_tool(tool, tool_context, error)

    async def after_run_callback(self, *, invocation_context: InvocationContext) -> None:
        """End what ADK has not told the end of."""
        self._finish(invocation_context, None)

    async def on_run_error_callback(
        self, *, invocation_context: InvocationContext, error: Exception
    ) -> None:
        """The same; the error is that of an agent, unless nobody has told of it."""
        self._finish(invocation_context, error)

    def _session(self, context: CallbackContext | InvocationContext) -> Session:
        adk = context.session
        name = joined_id(adk.app_name, adk.user_id, adk.id)
        return self._recorder.session(name, former=sanitize_id(adk.id))

    @log_errors
    def _begin(self, agent: BaseAgent, context: CallbackContext) -> None:
        place = _AdkRun(context.invocation_id, agent.name)
        with self._recorder.lock:
            source = self._transfers.pop(place, None)
            if source is not None:
                self._end(place.invocation, source, None)
            parents, above = [], agent.parent_agent
            while above is not None:
                parents.append(above.name)
                above = above.parent_agent
            run = self._recorder.begin(
                self._session(context),
                agent.name,
                parents=parents,
                sources=[] if source is None else [source],
            )
            self._runs.setdefault(place, []).append(run)

    @log_errors
    def _end(self, invocation: str, agent: str, error: Exception | None) -> None:
        with self._recorder.lock:
            place = _AdkRun(invocation, agent)
            runs = self._runs.get(place, [])
            run = runs.pop() if runs else None
            if not runs:
                self._runs.pop(place, None)
            if run is None:
                return
            if error is None:
                run.end()
            else:
                run.fail(error)

    @log_errors
    def _run(self, context: CallbackContext) -> AgentRun | None:
        runs = self._runs.get(_AdkRun(context.invocation_id, context.agent_name))
        return runs[-1] if runs else None

    @log_errors
    def _record_error(self, context: CallbackContext, error: Exception) -> None:
        run = self._run(context)
        if run is not None:
            run.record_error(error)

    @log_errors
    def _end_tool(self, tool: BaseTool, context: ToolContext, error: Exception | None) -> None:
        run = self._run(context)
        if run is not None:
            run.end_tool(_call(tool, context), error)
        target = context.actions.transfer_to_agent
        if error is None and target:
            self._transfers[_AdkRun(context.invocation_id, target)] = context.agent_name

    @log_errors
    def _finish(self, context: InvocationContext, error: Exception | None) -> None:
        invocation = context.invocation_id
        with self._recorder.lock:
            for place in [each for each in self._transfers if each.invocation == invocation]:
                failure = Failure.of(error) if error else Failure("NotBegun", "it never began")
                session = self._session(context)
                source = self._transfers.pop(place)
                self._recorder.hand_over(session, source, place.agent, failure)
            left = [place for place in self._runs if place.invocation == invocation]
            for place in reversed(left):  # those that began last are the innermost
                for run in reversed(self._runs.pop(place)):
                    if error is None:
                        run.end()
                    else:
                        run.fail(error)
                        error = None


def _call(tool: BaseTool, context: ToolContext) -> str:
    return context.function_call_id or f"{tool.name}-{id(context)}"
