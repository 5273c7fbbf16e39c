"""Saves the state of teams of AutoGen as AutoGen saved it before its version 0.4.9.

It made these samples in `tests/migration/samples/autogen`: before_round_robin.json,
before_selector.json, before_swarm.json and before_one_agent.json.
They were made by autogen-agentchat 0.4.5 and autogen-ext 0.4.5. In that version the agents of a
team are named `name/id`, and the state has a `team_id`. No model is called: the answers are written
here, and AutoGen's own replay client gives them.

To run it again, in an environment of its own:

    pip install autogen-agentchat==0.4.5 "autogen-ext==0.4.5"
    python tests/migration/made_by/autogen_before.py FOLDER
"""

# The framework is not there when types are checked.
# mypy: disable-error-code="import-not-found", disallow-subclassing-any=False

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from autogen_agentchat.agents import AssistantAgent, UserProxyAgent
from autogen_agentchat.conditions import HandoffTermination, MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat, SelectorGroupChat, Swarm
from autogen_core import FunctionCall
from autogen_core.models import CreateResult, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient

TASK = "Plan the release of the calendar, and test what is in it."


class Client(ReplayChatCompletionClient):
    """A replay client that may call tools, which this version's own cannot say of itself."""

    def __init__(self, *said: str | CreateResult) -> None:
        super().__init__(list(said))
        self._model_info["function_calling"] = True


def run_tests(path: str) -> str:
    """Run the tests of a file."""
    return f"12 passed in {path}"


def call(name: str, **arguments: str) -> CreateResult:
    """Give the answer of a model that calls a tool."""
    asked = FunctionCall(id="call_1", name=name, arguments=json.dumps(arguments))
    usage = RequestUsage(prompt_tokens=52, completion_tokens=9)
    return CreateResult(finish_reason="function_calls", content=[asked], usage=usage, cached=False)


def agent(name: str, *said: str | CreateResult, **more: Any) -> AssistantAgent:
    return AssistantAgent(name, Client(*said), description=f"The {name} of the team.", **more)


def round_robin() -> RoundRobinGroupChat:
    people = [
        agent("planner", "Monday: freeze. Tuesday: test. Wednesday: out.", "Then so be it."),
        agent("critic", "Tuesday is too short for the tests of the time zones."),
        UserProxyAgent("owner", input_func=lambda _: "Take Thursday too."),
    ]
    return RoundRobinGroupChat(people, termination_condition=MaxMessageTermination(5))


def selector() -> SelectorGroupChat:
    people = [
        agent("planner", "The tests come first."),
        agent("tester", call("run_tests", path="test_zones.py"), tools=[run_tests]),
    ]
    end = MaxMessageTermination(3)
    return SelectorGroupChat(
        people, model_client=Client("planner", "tester"), termination_condition=end
    )


def swarm() -> Swarm:
    people = [
        agent("planner", call("transfer_to_tester"), handoffs=["tester"]),
        agent("tester", call("transfer_to_owner"), handoffs=["owner", "planner"]),
    ]
    return Swarm(people, termination_condition=HandoffTermination(target="owner"))


async def main(folder: Path) -> None:
    """Run each team, and write down its state."""
    makers = {
        "before_round_robin": round_robin(),
        "before_selector": selector(),
        "before_swarm": swarm(),
        "before_one_agent": agent("planner", "First the freeze, then the tests."),
    }
    for name, team in makers.items():
        await team.run(task=TASK)
        state = await team.save_state()
        (folder / f"{name}.json").write_text(json.dumps(state, indent=2), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
