"""Runs of LangGraph, beside the debug stream and the messages of the same runs."""

from __future__ import annotations

import asyncio
import operator
from typing import TYPE_CHECKING, Annotated, Any, TypedDict
from uuid import UUID

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, Send, interrupt

from firestate.adapters.langgraph import FirestateHandler
from firestate.errors import EmergencyStopError
from firestate.schema.sanitize import id_text
from tests.frameworks.recorded_actions import ALIKE, Story, check_alike, stop_all, stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate.agents.manager import StateManager


class State(TypedDict):
    """What goes from node to node."""

    messages: Annotated[list[Any], operator.add]


@tool
def look_up(key: str) -> str:
    """Look something up."""
    if key == "lost":
        raise LookupError(key)
    return "found it"


def plan(_: State) -> State:
    calls = [
        {"name": "look_up", "args": {"key": key}, "id": f"c-{key}", "type": "tool_call"}
        for key in ("here", "lost")
    ]
    return {"messages": [AIMessage("", tool_calls=calls)]}


def write(_: State) -> Command[str]:
    return Command(goto="review", update={"messages": [AIMessage("written")]})


def review(state: State) -> State:
    if "bad" in state["messages"][0]:
        raise PermissionError("not like that")
    return {"messages": [AIMessage("reviewed")]}


def newsroom() -> Any:
    """Plan, look up, write, review: by an edge, by a condition, by a Command."""
    graph = StateGraph(State)
    graph.add_node("plan", plan)
    graph.add_node("look_it_up", ToolNode([look_up], handle_tool_errors=True))
    graph.add_node("write", write)
    graph.add_node("review", review)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "look_it_up")
    graph.add_conditional_edges("look_it_up", lambda _: "on", {"on": "write", "off": END})
    graph.add_edge("review", END)
    return graph.compile(name="newsroom")


def told(debug: list[dict[str, Any]], *, status: str = "terminated") -> Story:
    """Read the debug stream of a graph whose nodes follow one another."""
    story, before = Story({"newsroom": status}), None
    for event in debug:
        name, payload = event["payload"].get("name"), event["payload"]
        if event["type"] == "task":
            story.agents[name] = "error"  # until there is a result
            story.spawns["newsroom", name] += 1
            if before is not None:
                story.handoffs[before, name, False] += 1
            before, source = name, before
        elif event["type"] == "task_result" and not payload["error"]:
            story.agents[name] = status
            if source is not None:
                story.handoffs[source, name, False] -= 1
                story.handoffs[source, name, True] += 1
            messages = payload["result"]["messages"]
            for message in (each for each in messages if isinstance(each, ToolMessage)):
                outcome = "completed" if message.status == "success" else "failed"
                story.tools[name, message.name, outcome] += 1
                if outcome == "failed":
                    story.errors[name, "LookupError"] += 1
    if "error" in story.agents.values():
        story.agents["newsroom"] = "error"
    story.handoffs = +story.handoffs
    return story


def stream(graph: Any, message: str, config: dict[str, Any], debug: list[Any]) -> None:
    for mode, event in graph.stream({"messages": [message]}, config, stream_mode=["debug"]):
        assert mode == "debug"
        debug.append(event)


async def astream(graph: Any, message: str, config: dict[str, Any], debug: list[Any]) -> None:
    async for _, event in graph.astream({"messages": [message]}, config, stream_mode=["debug"]):
        debug.append(event)


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("message", ["good", "bad"])
def test_one_after_the_other(manager: StateManager, way: str, message: str) -> None:
    debug: list[Any] = []
    config = {"callbacks": [FirestateHandler(manager)]}

    def run() -> None:
        if way == "sync":
            stream(newsroom(), message, config, debug)
        else:
            asyncio.run(astream(newsroom(), message, config, debug))

    if message == "good":
        run()
    else:
        with pytest.raises(PermissionError):
            run()
    story = told(debug)
    assert len(story.agents) == 5
    if message == "bad":
        story.errors["review", "PermissionError"] += 1
        assert story.agents["review"] == "error"
    assert stored(manager) == story


def say(word: str) -> Callable[[State], State]:
    return lambda _: {"messages": [word]}


def test_beside_each_other(manager: StateManager) -> None:
    """Branches, a join of branches of unequal length, and one node several times at once."""
    graph = StateGraph(State)
    for name in ("split", "short", "long", "longer", "join", "many"):
        graph.add_node(name, say(name))
    graph.add_edge(START, "split")
    graph.add_edge("split", "short")
    graph.add_edge("split", "long")
    graph.add_edge("long", "longer")
    graph.add_edge(["short", "longer"], "join")
    graph.add_conditional_edges("join", lambda _: [Send("many", {})] * 3, ["many"])
    graph.compile().invoke({"messages": []}, {"callbacks": [FirestateHandler(manager)]})
    edges = {
        (edge.source, edge.target)
        for edge in graph.compile().get_graph().edges
        if not {"__start__", "__end__"} & {edge.source, edge.target}
    }
    found = stored(manager)
    # `short` has gone on to the join; that `long` ran at the same time does not make it a source.
    expected = dict.fromkeys([(*edge, True) for edge in edges], 1) | {("join", "many", True): 3}
    # The edge to `longer` is a plain one, which `short` might have had as well.
    assert found.handoffs == {**expected, ("short", "longer", True): 1}
    assert set(found.agents.values()) == {"terminated"}


def test_a_graph_in_a_graph(manager: StateManager) -> None:
    """Its nodes are of the node that it is; one of them jumps out, to a node of the graph above."""

    def jump(_: State) -> Command[str]:
        return Command(goto="other", graph=Command.PARENT)

    inner = StateGraph(State)
    inner.add_node("first", say("1"))
    inner.add_node("jump", jump)
    inner.add_edge(START, "first")
    inner.add_edge("first", "jump")
    outer = StateGraph(State)
    outer.add_node("team", inner.compile())
    outer.add_node("other", say("2"))
    outer.add_edge(START, "team")
    graph = outer.compile(name="outer")
    ran = [
        ("/".join(each.partition(":")[0] for each in namespace), name)
        for namespace, update in graph.stream({"messages": []}, subgraphs=True)
        for name in update
    ]
    graph.invoke({"messages": []}, {"callbacks": [FirestateHandler(manager)]})
    found = stored(manager)
    assert ("team", "first") in ran
    names = {"-".join(filter(None, each)) for each in ran} | {"team", "team-jump"}
    assert set(found.agents) == names | {"outer"}
    assert found.spawns == {
        ("outer", "team"): 1,
        ("outer", "other"): 1,
        ("team", "team-first"): 1,
        ("team", "team-jump"): 1,
    }
    assert found.handoffs == {("team-first", "team-jump", True): 1, ("team", "other", True): 1}
    assert not found.errors


def test_a_thread_waits_for_people(manager: StateManager) -> None:
    """To wait is no error; who is asked goes on in the same session, by its thread."""

    def ask(_: State) -> State:
        return {"messages": [interrupt("really?")]}

    graph = StateGraph(State)
    graph.add_node("ask", ask)
    graph.add_node("do", say("done"))
    graph.add_edge(START, "ask")
    graph.add_edge("ask", "do")
    compiled = graph.compile(InMemorySaver(), name="careful")
    config: dict[str, Any] = {"configurable": {"thread_id": "t_1"}}
    config["callbacks"] = [FirestateHandler(manager)]
    waiting = compiled.invoke({"messages": []}, config)
    assert waiting["__interrupt__"]
    assert stored(manager).agents == {"careful": "idle", "ask": "idle"}
    config["callbacks"] = [FirestateHandler(manager)]  # as another process would
    compiled.invoke(Command(resume="yes"), config)
    found = stored(manager)
    assert found.agents == {"careful": "idle", "ask": "idle", "do": "idle"}
    assert found.spawns == {("careful", "ask"): 1, ("careful", "do"): 1}
    assert found.handoffs == {("ask", "do", True): 1}
    assert not found.errors
    state = manager.load("do", "do", "t_1").value
    assert state is not None
    assert state.parent_agent_id == "careful"


def test_agents_whose_ids_join_alike_are_recorded_apart(manager: StateManager) -> None:
    """Nodes by their names, in threads."""
    for name, thread in ALIKE:
        graph = StateGraph(State)
        graph.add_node(name, say("hello"))
        graph.add_edge(START, name)
        config: dict[str, Any] = {"configurable": {"thread_id": thread}}
        config["callbacks"] = [FirestateHandler(manager)]
        graph.compile(InMemorySaver()).invoke({"messages": []}, config)
    check_alike(manager)


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize(
    ("thread", "session"),
    [
        ("7", "7"),
        (7, "7"),
        (0, "0"),
        ("", id_text("")),
        (1.5, "1.5"),
        (UUID(int=5), str(UUID(int=5))),
        ("a/\ud800", id_text("a/\ud800")),
    ],
)
def test_two_turns_of_a_thread_are_one_session(
    manager: StateManager, way: str, thread: object, session: str
) -> None:
    """Whatever names it: what LangGraph takes for a thread is recorded as text."""
    graph = StateGraph(State)
    graph.add_node("say", say("hello"))
    graph.add_edge(START, "say")
    compiled = graph.compile(InMemorySaver())
    for _ in range(2):
        config: dict[str, Any] = {
            "configurable": {"thread_id": thread},
            "callbacks": [FirestateHandler(manager)],
        }
        if way == "sync":
            compiled.invoke({"messages": []}, config)
        else:
            asyncio.run(compiled.ainvoke({"messages": []}, config))
    manager.settle()
    assert {each.session_id for each in manager.active().value} == {session}
    assert manager.system().value.total_agents_spawned == 2


def test_a_reader_that_leaves_is_no_error(manager: StateManager) -> None:
    """A stream that is not read to its end was broken off: nobody has failed."""
    config: dict[str, Any] = {"configurable": {"thread_id": "t"}}
    config["callbacks"] = [FirestateHandler(manager)]
    graph = StateGraph(State)
    graph.add_node("say", say("hello"))
    graph.add_edge(START, "say")
    graph.add_node("more", say("more"))
    graph.add_edge("say", "more")
    for _ in graph.compile(InMemorySaver()).stream({"messages": []}, config):
        break
    found = stored(manager)
    assert not found.errors
    assert set(found.agents.values()) == {"idle"}


def test_the_emergency_stop(manager: StateManager) -> None:
    def stop_and_plan(state: State) -> State:
        stop_all(manager)
        return plan(state)

    graph = StateGraph(State)
    graph.add_node("plan", stop_and_plan)
    graph.add_node("write", say("never"))
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "write")
    compiled, config = graph.compile(), {"callbacks": [FirestateHandler(manager)]}
    with pytest.raises(EmergencyStopError, match="runaway costs"):
        compiled.invoke({"messages": []}, config)
    found = stored(manager)
    assert found.agents == {"LangGraph": "terminated", "plan": "terminated"}
    assert found.handoffs == {("plan", "write", False): 1}
    assert not found.errors, "what an operator stops has not failed"
    with pytest.raises(EmergencyStopError):
        compiled.invoke({"messages": []}, config)
    assert stored(manager) == found
