"""The OpenAI Agents SDK: run hooks, and a block around the run, which learns of its errors.

    with FirestateHooks(manager) as hooks:
        result = await Runner.run(agent, "...", hooks=hooks)

Several runs in one block, even at once, are of one session. It learns of the error that ends the
block; where one run may fail and the next go on, give each a block of its own. A tool's error is
known with its type unless the tool words it itself (`failure_error_function`): that is known of the
SDK's tracing, and looks like a result where that is off. Nobody spawns anybody here. Agents that
work as tools of others (`Agent.as_tool`) are run by the SDK without these hooks: they are tools.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from firestate.adapters.error_guard import log_errors
from firestate.adapters.failures import Failure
from firestate.adapters.recorder import Recorder
from firestate.errors import EmergencyStopError
from firestate.extras import required_extra
from firestate.schema.sanitize import sanitize_text

with required_extra("openai-agents", __name__):
    from agents import RunHooks, UserError, get_current_span
    from agents.tool_context import ToolContext

if TYPE_CHECKING:
    from types import TracebackType

    from agents import Agent, RunContextWrapper, Tool
    from agents.run_config import ToolErrorFormatterArgs

    from firestate.adapters.agent_run import AgentRun
    from firestate.agents.manager import StateManager


class _HooksRun(NamedTuple):
    """Which agent in which run of the SDK: all contexts of one run share the object `usage`."""

    usage: int
    agent: str


class _Active(NamedTuple):
    """A run of an agent, with the object `usage`: as long as it lives, its id is nobody else's."""

    run: AgentRun
    usage: object
    errors: dict[str, Exception]
    """What tools have raised, by their calls."""


class FirestateHooks(RunHooks[Any]):
    """Records the agents of runs: give it as `hooks=`, and run inside its `with` block."""

    def __init__(self, manager: StateManager, session_id: str | None = None) -> None:
        """Record through `manager`, in a session that is named or in a new one for each block."""
        self._recorder = Recorder(manager, session_id, framework="openai-agents")
        self.error_log = self._recorder.error_log
        self._session = self._recorder.session()
        self._active: dict[_HooksRun, _Active] = {}

    def __enter__(self) -> Self:
        """Begin a session, unless one was named."""
        self._session = self._recorder.session()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End what still runs, with the error that ended the block."""
        cause = error.__cause__ if isinstance(error, UserError) and error.__cause__ else error
        self._finish(error, cause)
        if isinstance(cause, EmergencyStopError) and cause is not error:
            raise cause  # in place of the error that the SDK has made of it

    async def on_agent_start(self, context: RunContextWrapper[Any], agent: Agent[Any]) -> None:
        """Begin a run of the agent, unless a hand-over has begun it."""
        self._begin(context, agent)

    async def on_agent_end(
        self, context: RunContextWrapper[Any], agent: Agent[Any], output: object
    ) -> None:
        """End its run."""
        self._end(context, agent)

    async def on_handoff(
        self, context: RunContextWrapper[Any], from_agent: Agent[Any], to_agent: Agent[Any]
    ) -> None:
        """End the run of the one, begin that of the other."""
        self._end(context, from_agent)
        self._begin(context, to_agent, from_agent)

    async def on_tool_start(
        self, context: RunContextWrapper[Any], agent: Agent[Any], tool: Tool
    ) -> None:
        """Put a tool's call into the agent's history, and ask to be told of its error."""
        active = self._begin(context, agent)
        if active is not None:
            active.run.begin_tool(_call(context, tool), tool.name)
            self._listen(context, active.errors)

    async def on_tool_end(
        self,
        context: RunContextWrapper[Any],
        agent: Agent[Any],
        tool: Tool,
        result: object,
    ) -> None:
        """Say how it ended: what the SDK hands in as its result may be the text of an error."""
        active = self._begin(context, agent)
        if active is not None:
            call = _call(context, tool)
            active.run.end_tool(call, active.errors.pop(call, None) or _traced())

    @log_errors
    def _begin(
        self,
        context: RunContextWrapper[Any],
        agent: Agent[Any],
        source: Agent[Any] | None = None,
    ) -> _Active:
        """Give the agent's run, a new one if need be: one that is resumed is not started again."""
        place = _HooksRun(id(context.usage), agent.name)
        with self._recorder.lock:
            if place not in self._active:
                sources = [source.name] if source is not None else []
                run = self._recorder.begin(self._session, agent.name, sources=sources)
                self._active[place] = _Active(run, context.usage, {})
            return self._active[place]

    @log_errors
    def _end(self, context: RunContextWrapper[Any], agent: Agent[Any]) -> None:
        active = self._active.pop(_HooksRun(id(context.usage), agent.name), None)
        if active is not None:
            active.run.end()

    @log_errors
    def _listen(self, context: RunContextWrapper[Any], errors: dict[str, Exception]) -> None:
        # Hooks are not told that a tool has raised. The formatter of its error is; the context is
        # of this one call, so that the run's own settings stay as they are.
        if not isinstance(context, ToolContext) or context.run_config is None:
            return
        theirs = context.run_config.tool_error_formatter

        def formatter(given: ToolErrorFormatterArgs[Any]) -> Any:  # noqa: ANN401 - a text, or one to be awaited
            if given.error is not None:
                errors[given.call_id] = given.error
            return theirs(given) if theirs is not None else None

        context.run_config = replace(context.run_config, tool_error_formatter=formatter)

    @log_errors
    def _finish(self, error: BaseException | None, cause: BaseException | None) -> None:
        runs = [active.run for active in self._active.values()]
        self._active.clear()
        if cause is not None and runs:
            last = getattr(getattr(error, "run_data", None), "last_agent", None)
            named = [run for run in runs if last is not None and run.name == last.name]
            self._fail((named or runs)[-1], error, cause)
        for run in runs:
            run.end()
        self._recorder.close(self._session)

    def _fail(self, run: AgentRun, error: BaseException | None, cause: BaseException) -> None:
        # A tool that raises ends the run, and the others that run beside it are cancelled.
        tools = run.tools
        for call, tool in tools.items():
            if error is not cause and (len(tools) == 1 or f"tool {tool}:" in str(error)):
                run.end_tool(call, cause)
        run.fail(cause)


def _call(context: RunContextWrapper[Any], tool: Tool) -> str:
    return (
        context.tool_call_id if isinstance(context, ToolContext) else f"{tool.name}-{id(context)}"
    )


def _traced() -> Failure | None:
    """Give the error of the tool's own span: all there is of one that a tool's own handler met."""
    span = get_current_span()
    if span is None or span.error is None:
        return None
    details = (span.error["data"] or {}).get("error")
    text = span.error["message"] + (f": {details}" if details else "")
    return Failure("ToolError", sanitize_text(text))
