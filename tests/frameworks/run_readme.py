"""What the README says of agent frameworks, as it stands there."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from agents import Agent, Runner, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message
from google.adk.apps import App
from google.genai import types
from langgraph.graph import START, StateGraph
from opentelemetry.sdk.trace import TracerProvider

from tests.frameworks.recorded_actions import stored
from tests.frameworks.run_adk import agent as adk_agent
from tests.frameworks.run_adk import run_app
from tests.frameworks.run_langgraph import State, say
from tests.frameworks.run_opentelemetry import doing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firestate.agents.manager import StateManager

README = Path(__file__).parents[2] / "README.md"


def preamble(manager: StateManager) -> dict[str, Any]:
    """Define what the blocks take for granted."""
    set_tracing_disabled(disabled=True)
    graph = StateGraph(State)
    graph.add_node("node", say("done"))
    graph.add_edge(START, "node")
    return {
        "manager": manager,
        "Runner": Runner,
        "agent": Agent(name="Openai", model=ScriptedModel([[assistant_message("done")]])),
        "graph": graph.compile(),
        "inputs": {"messages": []},
        "App": App,
        "root_agent": adk_agent("adk", [[types.Part(text="done")]]),
        "provider": TracerProvider(shutdown_on_exit=False),
    }


@pytest.fixture
def loop() -> Iterator[None]:
    """`Runner.run_sync` leaves its thread's event loop open, on purpose."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.mark.usefixtures("loop")
def test_three_lines_each(manager: StateManager) -> None:
    section = README.read_text().partition("## From agent frameworks\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names = preamble(manager)
    for block in blocks:
        assert len(list(filter(None, block.splitlines()))) == 3
        exec(block, names)  # noqa: S102 - our own README
    run_app(names["app"])
    with doing(names["provider"].get_tracer("readme"), "invoke_agent", "traced"):
        pass
    assert stored(manager).agents == {
        "Openai": "terminated",
        "LangGraph": "terminated",
        "node": "terminated",
        "adk": "idle",
        "traced": "terminated",
    }
