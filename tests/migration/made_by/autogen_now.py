"""Saves the state of teams of AutoGen as today's AutoGen saves it.

It made these samples in `tests/migration/samples/autogen`: round_robin.json, selector_tools.json,
swarm_handoff.json, magentic_one.json, team_in_team.json, graph_flow.json and one_agent.json.
They were made by autogen-agentchat 0.7.5 and autogen-ext 0.7.5. No model is called: the answers are
written here, and AutoGen's own replay client gives them.

To run it again, in an environment of its own:

    pip install autogen-agentchat==0.7.5 "autogen-ext==0.7.5"
    python tests/migration/made_by/autogen_now.py FOLDER
"""

# The framework is not there when types are checked.
# mypy: disable-error-code="import-not-found", disallow-subclassing-any=False

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from autogen_agentchat import teams
from autogen_agentchat.agents import AssistantAgent, UserProxyAgent
from autogen_agentchat.conditions import HandoffTermination, MaxMessageTermination
from autogen_core import FunctionCall
from autogen_core.models import CreateResult, ModelInfo, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient

TASK = "Write a function that tells whether a year is a leap year, and test it."
CODE = "def leap(year):\n    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)"
ABLE = ModelInfo(
    vision=False, function_calling=True, json_output=True, family="unknown", structured_output=True
)


def run_tests(path: str) -> str:
    """Run the tests of a file."""
    return f"4 passed in {path}"


def call(name: str, **arguments: str) -> CreateResult:
    """Give the answer of a model that calls a tool."""
    asked = FunctionCall(id="call_1", name=name, arguments=json.dumps(arguments))
    usage = RequestUsage(prompt_tokens=40, completion_tokens=8)
    return CreateResult(
        finish_reason="function_calls",
        content=[asked],
        usage=usage,
        cached=False,
        thought="A tool.",
    )


def client(*said: str | CreateResult) -> ReplayChatCompletionClient:
    return ReplayChatCompletionClient(list(said), model_info=ABLE)


def agent(name: str, *said: str | CreateResult, **more: Any) -> AssistantAgent:
    return AssistantAgent(name, client(*said), description=f"The {name} of the team.", **more)


def round_robin() -> teams.RoundRobinGroupChat:
    people = [
        agent("planner", "1. Write it. 2. Test it.", "The plan is done."),
        agent("coder", CODE),
        UserProxyAgent("owner", input_func=lambda _: "I like it. Über gut. ✔"),
    ]
    return teams.RoundRobinGroupChat(people, termination_condition=MaxMessageTermination(5))


def selector() -> teams.SelectorGroupChat:
    people = [
        agent("planner", "First the code, then the tests."),
        agent("coder", CODE),
        agent("tester", call("run_tests", path="test_leap.py"), tools=[run_tests]),
    ]
    end = MaxMessageTermination(4)
    choose = client("planner", "coder", "tester")
    return teams.SelectorGroupChat(people, model_client=choose, termination_condition=end)


def swarm() -> teams.Swarm:
    to_coder = call("transfer_to_coder")
    people = [
        agent("planner", to_coder, handoffs=["coder"]),
        agent("coder", call("transfer_to_owner"), handoffs=["owner", "planner"]),
    ]
    return teams.Swarm(people, termination_condition=HandoffTermination(target="owner"))


def magentic_one() -> teams.MagenticOneGroupChat:
    def ledger(speaker: str, *, done: bool) -> str:
        answers = {
            "is_request_satisfied": done,
            "is_in_loop": False,
            "is_progress_being_made": True,
            "next_speaker": speaker,
            "instruction_or_question": f"{speaker}, do your part.",
        }
        return json.dumps({key: {"reason": "So it is.", "answer": answers[key]} for key in answers})

    lead = client(
        "1. GIVEN OR VERIFIED FACTS\nA year is a number.",
        "- coder: write it\n- tester: test it",
        ledger("coder", done=False),
        ledger("tester", done=False),
        ledger("tester", done=True),
        "The function is written and tested.",
    )
    people = [agent("coder", CODE), agent("tester", "All four tests pass.")]
    return teams.MagenticOneGroupChat(people, model_client=lead)


def team_in_team() -> teams.RoundRobinGroupChat:
    inner = teams.RoundRobinGroupChat(
        [agent("coder", CODE), agent("tester", "It passes.")],
        name="builders",
        termination_condition=MaxMessageTermination(3),
    )
    outer = [agent("planner", "Builders, begin."), inner]
    return teams.RoundRobinGroupChat(outer, name="house", max_turns=2)


def graph_flow() -> teams.GraphFlow:
    people = [agent("planner", "Code it."), agent("coder", CODE), agent("tester", "It passes.")]
    builder = teams.DiGraphBuilder()
    for each in people:
        builder.add_node(each)
    builder.add_edge("planner", "coder").add_edge("coder", "tester")
    return teams.GraphFlow(
        people, graph=builder.build(), termination_condition=MaxMessageTermination(4)
    )


async def main(folder: Path) -> None:
    """Run each team, and write down its state."""
    makers = {
        "round_robin": round_robin(),
        "selector_tools": selector(),
        "swarm_handoff": swarm(),
        "magentic_one": magentic_one(),
        "team_in_team": team_in_team(),
        "graph_flow": graph_flow(),
        "one_agent": agent("coder", CODE, "You are welcome."),
    }
    for name, team in makers.items():
        await team.run(task=TASK)
        state = await team.save_state()
        (folder / f"{name}.json").write_text(json.dumps(state, indent=2), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
