"""Runs of Google's ADK, beside the events of its own session."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.apps import App
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.genai import types

from firestate.adapters.adk import FirestatePlugin
from firestate.errors import EmergencyStopError
from tests.frameworks.recorded_actions import ALIKE, Story, check_alike, stop_all, stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.adk.events.event import Event

    from firestate.agents.manager import StateManager

TRANSFER = "transfer_to_agent"


class Scripted(BaseLlm):
    """Says what it is told to say, a list of parts or an error each time."""

    script: list[Any]

    async def generate_content_async(
        self,
        llm_request: LlmRequest,  # noqa: ARG002 - what ADK calls it with
        stream: bool = False,  # noqa: ARG002, FBT001, FBT002 - what ADK calls it with
    ) -> AsyncIterator[LlmResponse]:
        said = self.script.pop(0)
        if isinstance(said, Exception):
            raise said
        yield LlmResponse(content=types.Content(role="model", parts=said))


class Survives(BasePlugin):
    """Makes a result of a tool's error, as a user's own plugin may."""

    async def on_tool_error_callback(self, **given: Any) -> dict[str, Any]:
        return {"error": str(given["error"])}


def look_up(key: str) -> str:
    """Look something up."""
    if key == "lost":
        raise LookupError(key)
    return "found it"


def call(tool: str, **arguments: str) -> types.Part:
    return types.Part(function_call=types.FunctionCall(name=tool, args=arguments))


def agent(name: str, script: list[Any], *below: LlmAgent) -> LlmAgent:
    model = Scripted(model="scripted", script=script)
    return LlmAgent(name=name, model=model, tools=[look_up], sub_agents=list(below))


def team(*last: Any) -> LlmAgent:
    """Triage, the writer, a helper below it, the writer again, and the editor, who is the last."""
    helper = agent(
        "helper", [[call("look_up", key="here")], [call(TRANSFER, agent_name="a_writer")]]
    )
    tools = [call("look_up", key="here"), call("look_up", key="lost")]
    transfers = [[call(TRANSFER, agent_name=name)] for name in ("helper", "editor")]
    writer = agent("a_writer", [tools, *transfers], helper)
    editor = agent("editor", list(last))
    return agent("triage", [[call(TRANSFER, agent_name="a_writer")]], writer, editor)


def run(root: LlmAgent, *plugins: BasePlugin) -> list[Event]:
    """Run it with one message, and give its session's events, those before an error too."""
    return run_app(App(name="app", root_agent=root, plugins=list(plugins)))


def run_app(app: App) -> list[Event]:
    """Do the same with an app."""
    return asyncio.run(_run(app))


async def _run(app: App) -> list[Event]:
    service = InMemorySessionService()
    where = {"app_name": app.name, "user_id": "user", "session_id": "chat/1"}
    await service.create_session(**where)
    async with Runner(app=app, session_service=service) as runner:
        message = types.UserContent("hello")
        try:
            async for _ in runner.run_async(
                user_id="user", session_id="chat/1", new_message=message
            ):
                pass
        except (ConnectionError, LookupError, ValueError):
            pass
        session = await service.get_session(**where)
    assert session is not None
    return list(session.events)


def told(root: LlmAgent, events: list[Event], error: Exception | None = None) -> Story:
    """Read the events: the same story, if nothing was left out or made up."""
    story = Story({root.name: "idle"})
    calls: dict[str, str] = {}
    path: list[tuple[str, str]] = []
    for event in events:
        if target := event.actions.transfer_to_agent:
            path.append((event.author, target))
        calls |= {each.id: event.author for each in event.get_function_calls()}
        for given in event.get_function_responses():
            author = calls.pop(given.id)
            if given.name != TRANSFER:
                outcome = "failed" if "error" in given.response else "completed"
                story.tools[author, given.name, outcome] += 1
                story.errors[author, "LookupError"] += outcome == "failed"
    for source, target in path:
        parent = root.find_agent(target).parent_agent
        story.spawns[parent.name, target] = 1
        story.agents[target] = "idle"
        story.handoffs[source, target, True] += 1
    if error is not None:  # of which there is no event of its agent
        source, target = path[-1]
        story.handoffs += Counter({(source, target, True): -1, (source, target, False): 1})
        story.errors[target, type(error).__name__] += 1
        story.agents[target] = "error"
        for author in calls.values():
            story.tools[author, "look_up", "failed"] += 1
    story.errors = +story.errors
    return story


def test_all_goes_well(manager: StateManager) -> None:
    root = team([types.Part(text="done")])
    events = run(root, FirestatePlugin(manager), Survives("survives"))
    assert events[-1].content.parts[0].text == "done"
    story = told(root, events)
    assert len(story.agents) == 4
    assert stored(manager) == story


def test_a_model_ends_the_run(manager: StateManager) -> None:
    error = ConnectionError("no model")
    root = team(error)
    events = run(root, FirestatePlugin(manager), Survives("survives"))
    assert stored(manager) == told(root, events, error)


def test_a_tool_ends_the_run(manager: StateManager) -> None:
    """Nobody makes a result of its error."""
    below = agent("below", [[call("look_up", key="lost")]])
    root = agent("root", [[call(TRANSFER, agent_name="below")]], below)
    events = run(root, FirestatePlugin(manager))
    assert stored(manager) == told(root, events, LookupError("lost"))


def test_a_transfer_to_nowhere(manager: StateManager) -> None:
    """ADK refuses one to an agent that is no relative: it has failed, and who asked for it."""
    below = agent("below", [[call(TRANSFER, agent_name="far")]])
    middle = agent("middle", [[call(TRANSFER, agent_name="below")]], below)
    root = agent("root", [[call(TRANSFER, agent_name="middle")]], middle, agent("far", []))
    run(root, FirestatePlugin(manager))
    found = stored(manager)
    assert found.handoffs == {
        ("root", "middle", True): 1,
        ("middle", "below", False): 1,
        ("below", "far", False): 1,
    }
    assert found.agents["below"] == "error"
    assert found.errors == {("below", "ValueError"): 1}


def test_a_second_turn(manager: StateManager) -> None:
    """ADK goes on with the agent that was the last: the same one, in the same session."""
    below = agent("below", [[types.Part(text="1")], [types.Part(text="2")]])
    root = agent("root", [[call(TRANSFER, agent_name="below")]], below)
    plugin = FirestatePlugin(manager)

    async def turns() -> list[str]:
        service = InMemorySessionService()
        await service.create_session(app_name="app", user_id="u", session_id="s")
        app = App(name="app", root_agent=root, plugins=[plugin])
        authors = []
        async with Runner(app=app, session_service=service) as runner:
            for _ in range(2):
                run = runner.run_async(
                    user_id="u", session_id="s", new_message=types.UserContent("hello")
                )
                authors += [event.author async for event in run]
        return authors

    assert asyncio.run(turns())[-2:] == ["below", "below"]
    found = stored(manager)
    assert found.agents == {"root": "idle", "below": "idle"}
    assert found.handoffs == {("root", "below", True): 1}


def hello(manager: StateManager, *users: str, app: str = "shop", session: str = "main") -> None:
    """Have users say hello in a session that has the same id for each."""

    async def chats() -> None:
        service = InMemorySessionService()
        for user in users:
            await service.create_session(app_name=app, user_id=user, session_id=session)
            root = agent("helper", [[types.Part(text="hi")]])
            own = App(name=app, root_agent=root, plugins=[FirestatePlugin(manager)])
            async with Runner(app=own, session_service=service) as runner:
                message = types.UserContent("hello")
                async for _ in runner.run_async(
                    user_id=user, session_id=session, new_message=message
                ):
                    pass

    asyncio.run(chats())
    assert manager.settle()


def sessions(manager: StateManager) -> set[str]:
    return {each.session_id for each in manager.active().value}


def test_a_session_is_one_of_app_user_and_id(manager: StateManager) -> None:
    """Two users' sessions of one name are two, and so are those of two apps."""
    hello(manager, "alice", "bob")
    hello(manager, "alice", app="desk")
    assert sessions(manager) == {"shop:alice:main", "shop:bob:main", "desk:alice:main"}


def test_a_session_that_an_earlier_release_has_stored_goes_on(manager: StateManager) -> None:
    """It was known by its id alone: who comes first takes it along, and nobody else."""
    manager.start("helper", "helper", "main").remember("fact", {"text": "as before"})
    hello(manager, "alice", "bob")
    assert sessions(manager) == {"shop:alice:main", "shop:bob:main"}
    alice = manager.load("helper", "helper", "shop:alice:main").value
    bob = manager.load("helper", "helper", "shop:bob:main").value
    former = manager.load("helper", "helper", "main").value
    assert alice is not None
    assert bob is not None
    assert former is not None
    assert "fact" in alice.memory_context
    assert "fact" not in bob.memory_context
    assert former.collaboration_context["resumed_as"] == "shop:alice:main"
    hello(manager, "alice")
    assert sessions(manager) == {"shop:alice:main", "shop:bob:main"}


def test_agents_whose_ids_join_alike_are_recorded_apart(manager: StateManager) -> None:
    """In sessions that are named by the program."""
    for name, session in ALIKE:
        run(agent(name, [[types.Part(text="hi")]]), FirestatePlugin(manager, session))
    check_alike(manager)


def test_the_emergency_stop(manager: StateManager) -> None:
    class Operator(BasePlugin):
        async def after_tool_callback(self, **_: Any) -> None:
            stop_all(manager)

    with pytest.raises(RuntimeError, match="runaway costs") as raised:
        run(team(), FirestatePlugin(manager), Operator("operator"))
    assert isinstance(raised.value.__cause__, EmergencyStopError)
    found = stored(manager)
    assert found.agents == {"triage": "idle"}
    assert found.handoffs == {("triage", "a_writer", False): 1}
