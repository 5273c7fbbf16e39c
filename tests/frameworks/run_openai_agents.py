"""Runs of the OpenAI Agents SDK, beside what its run items say of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from agents import (
    Agent,
    HandoffOutputItem,
    Runner,
    ToolCallItem,
    ToolCallOutputItem,
    UserError,
    function_tool,
    set_trace_processors,
    set_tracing_disabled,
)
from agents.testing import ScriptedModel, assistant_message, function_call

from firestate.adapters.openai_agents import FirestateHooks
from firestate.errors import EmergencyStopError
from firestate.schema.sanitize import id_text
from tests.frameworks.recorded_actions import ALIKE, Story, check_alike, stop_all, stored

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agents import RunItem

    from firestate.agents.manager import StateManager

OK = "found it"


@function_tool
def look_up(key: str) -> str:
    """Look something up."""
    if key == "lost":
        raise LookupError(key)
    return OK


@function_tool(failure_error_function=None)
def publish(key: str) -> str:
    """Publish something, which ends the run when it fails."""
    raise PermissionError(key)


@function_tool(failure_error_function=lambda _, error: f"{error}, in other words")
def review(key: str) -> str:
    """Review something, with words of its own for its failure."""
    raise ValueError(key)


@pytest.fixture(params=["traced", "untraced"], autouse=True)
def tracing(request: pytest.FixtureRequest) -> str:
    """Nothing is ever exported; spans there are, or none."""
    set_trace_processors([])
    set_tracing_disabled(request.param == "untraced")
    return str(request.param)


def call(tool: str, key: str | None = None) -> Any:
    """Give a tool's call, its id that of what it asks for."""
    return function_call(tool, {"key": key} if key else {}, call_id=f"{tool}:{key}")


def team(*last: Any) -> Agent[Any]:
    """Three agents: each hands over to the next, the last does what it is given."""
    editor = Agent(
        name="The_Editor",
        model=ScriptedModel([each if isinstance(each, Exception) else [each] for each in last]),
        tools=[publish],
    )
    writer = Agent(
        name="Writer/2",
        model=ScriptedModel(
            [
                [call("look_up", "here"), call("look_up", "lost")],
                [call("transfer_to_the_editor")],
            ]
        ),
        tools=[look_up],
        handoffs=[editor],
    )
    return Agent(
        name="Triage",
        model=ScriptedModel([[call("look_up", "triage")], [call("transfer_to_writer_2")]]),
        tools=[look_up],
        handoffs=[writer],
    )


def fit(name: str) -> str:
    return name.replace("/", "-")


def told(items: Iterable[RunItem], last: str, error: BaseException | None = None) -> Story:
    """Read the run items: the same story, if nothing was left out or made up."""
    story, calls, path = Story(), dict[str, tuple[str, str]](), []
    for item in items:
        if isinstance(item, HandoffOutputItem):
            path.append((fit(item.source_agent.name), fit(item.target_agent.name)))
        elif isinstance(item, ToolCallItem):
            calls[item.raw_item.call_id] = (fit(item.agent.name), item.raw_item.name)
        elif isinstance(item, ToolCallOutputItem):
            agent, tool = calls.pop(item.raw_item["call_id"])
            story.tools[agent, tool, "completed" if item.output == OK else "failed"] += 1
            if item.output != OK:
                story.errors[agent, "LookupError"] += 1
    for agent, tool in calls.values():  # those without a result have ended the run
        story.tools[agent, tool, "failed"] += 1
    for source, target in path:
        failed = error is not None and target == fit(last)
        story.handoffs[source, target, not failed] += 1
        story.agents |= {source: "terminated", target: "error" if failed else "terminated"}
    if error is not None:
        story.errors[fit(last), type(error).__name__] += 1
    return story


async def streamed(agent: Agent[Any], hooks: FirestateHooks) -> Any:
    result = Runner.run_streamed(agent, "hello", hooks=hooks)
    async for _ in result.stream_events():
        pass
    return result


@pytest.mark.parametrize("way", ["run", "streamed"])
def test_all_goes_well(manager: StateManager, way: str) -> None:
    agent = team(assistant_message("done"))

    async def run() -> Any:
        with FirestateHooks(manager) as hooks:
            if way == "streamed":
                return await streamed(agent, hooks)
            return await Runner.run(agent, "hello", hooks=hooks)

    result = asyncio.run(run())
    assert result.final_output == "done"
    story = told(result.new_items, result.last_agent.name)
    assert len(story.agents) == 3
    assert stored(manager) == story


def test_a_tool_ends_the_run(manager: StateManager) -> None:
    async def run() -> None:
        with FirestateHooks(manager) as hooks:
            await Runner.run(team(call("publish", "x")), "hello", hooks=hooks)

    with pytest.raises(UserError) as raised:
        asyncio.run(run())
    data = raised.value.run_data
    assert data is not None
    story = told(data.new_items, data.last_agent.name, raised.value.__cause__)
    # The call that ended the run is in no item of it.
    story.tools["The_Editor", "publish", "failed"] += 1
    assert stored(manager) == story


def test_a_model_ends_the_run(manager: StateManager) -> None:
    """Its error has no items: up to there they are those of a run that goes well."""
    error = ConnectionError("no model")
    well = asyncio.run(Runner.run(team(assistant_message("done")), "hello"))

    async def run() -> None:
        with FirestateHooks(manager) as hooks:
            await Runner.run(team(error), "hello", hooks=hooks)

    with pytest.raises(ConnectionError):
        asyncio.run(run())
    assert stored(manager) == told(well.new_items, well.last_agent.name, error)


def test_a_session_that_goes_on(manager: StateManager) -> None:
    """Its agents are idle in between, and keep what they have done."""
    stories = []
    for _ in range(2):

        async def run() -> Any:
            with FirestateHooks(manager, "chat/7") as hooks:
                return await Runner.run(team(assistant_message("done")), "hello", hooks=hooks)

        result = asyncio.run(run())
        stories.append(told(result.new_items, result.last_agent.name))
    found = stored(manager)
    assert set(found.agents.values()) == {"idle"}
    assert found.handoffs == stories[0].handoffs + stories[1].handoffs
    assert found.tools == stories[0].tools + stories[1].tools
    state = manager.load("The-Editor", "The_Editor", id_text("chat/7")).value
    assert state is not None
    assert state.agent_config == {"framework": "openai-agents"}


def test_a_tool_words_its_own_error(manager: StateManager, tracing: str) -> None:
    """The SDK then tells of it in a span only: without tracing it looks like a result."""
    model = ScriptedModel([[call("review", "x")], [assistant_message("done")]])
    agent = Agent(name="Reviewer", model=model, tools=[review])

    async def run() -> None:
        with FirestateHooks(manager) as hooks:
            await Runner.run(agent, "hello", hooks=hooks)

    asyncio.run(run())
    outcome = "failed" if tracing == "traced" else "completed"
    assert stored(manager).tools == {("Reviewer", "review", outcome): 1}


def test_runs_beside_each_other(manager: StateManager) -> None:
    """One agent in several runs at once: one state, which is idle when the last has ended."""

    async def run() -> list[Any]:
        with FirestateHooks(manager) as hooks:
            runs = [
                Runner.run(team(assistant_message("done")), "hello", hooks=hooks) for _ in range(3)
            ]
            return await asyncio.gather(*runs)

    results = asyncio.run(run())
    items = [item for result in results for item in result.new_items]
    story, found = Story(), stored(manager)
    for result in results:
        one = told(result.new_items, result.last_agent.name)
        story.agents |= one.agents
        story.handoffs += one.handoffs
        story.tools += one.tools
        story.errors += one.errors
    assert items
    assert found == story


def test_agents_whose_ids_join_alike_are_recorded_apart(manager: StateManager) -> None:
    """In sessions that are named by the program."""
    for name, session in ALIKE:
        model = ScriptedModel([[assistant_message("hi")]])
        with FirestateHooks(manager, session) as hooks:
            asyncio.run(Runner.run(Agent(name=name, model=model), "hello", hooks=hooks))
    check_alike(manager)


def test_the_emergency_stop(manager: StateManager) -> None:
    """The run stops at its next step: here while its first tool is at work."""
    agent = team(assistant_message("done"))

    @function_tool(name_override="look_up")
    def operator(key: str) -> str:
        stop_all(manager)
        return f"{OK}: {key}"

    agent.tools = [operator]

    async def run() -> None:
        with FirestateHooks(manager) as hooks:
            await Runner.run(agent, "hello", hooks=hooks)

    with pytest.raises(EmergencyStopError, match="runaway costs"):
        asyncio.run(run())
    found = stored(manager)
    assert found.handoffs == {("Triage", "Writer-2", False): 1}
    assert found.tools == {("Triage", "look_up", "completed"): 1}
    with pytest.raises(EmergencyStopError):
        asyncio.run(run())
    assert stored(manager) == found
