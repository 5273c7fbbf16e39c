"""Saves sessions of Google's ADK as today's `adk run --save_session` saves them.

It made these samples in `tests/migration/samples/adk`: transfer.session.json,
tools_and_state.session.json, nested_arrays.session.json and failed_tool.session.json.
They were made by google-adk 2.13.0. No model is called: what it says is written here. ADK itself
chooses the ids and the times.

To run it again, in an environment of its own:

    pip install google-adk==2.13.0
    python tests/migration/made_by/adk_now.py FOLDER
"""

# The framework is not there when types are checked.
# mypy: disable-error-code="import-not-found", disallow-subclassing-any=False

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.adk.agents import LlmAgent
from google.adk.apps import App
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.adk.tools import ToolContext  # noqa: TC002 - ADK looks it up
from google.genai import types

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Scripted(BaseLlm):
    """Says what it is told to say."""

    script: list[Any]

    async def generate_content_async(
        self,
        llm_request: LlmRequest,  # noqa: ARG002 - what ADK calls it with
        stream: bool = False,  # noqa: ARG002, FBT001, FBT002 - what ADK calls it with
    ) -> AsyncIterator[LlmResponse]:
        said = self.script.pop(0)
        parts = said if isinstance(said, list) else [types.Part(text=said)]
        usage = types.GenerateContentResponseUsageMetadata(
            prompt_token_count=61, candidates_token_count=17, total_token_count=78
        )
        yield LlmResponse(
            content=types.Content(role="model", parts=parts),
            usage_metadata=usage,
            finish_reason=types.FinishReason.STOP,
        )


def run_tests(path: str, tool_context: ToolContext) -> dict[str, Any]:
    """Run the tests of a file, and remember how many passed."""
    runs = [*tool_context.state.get("runs", []), {"path": path, "passed": 4, "failed": 0}]
    tool_context.state["runs"] = runs
    tool_context.state["user:favourite"] = path
    tool_context.state["app:release"] = "0.9"
    tool_context.state["temp:scratch"] = "not kept"
    return {"status": "passed", "count": 4}


def measure(grid: list[list[int]], tool_context: ToolContext) -> dict[str, Any]:
    """Measure a grid, and remember it."""
    tool_context.state["grid"] = grid
    tool_context.state["cube"] = [[[1, 2], [3]], [], [[None]]]
    return {"sides": [[len(grid)], [len(grid[0])]]}


def open_file(path: str) -> dict[str, Any]:
    """Open a file, which is not there."""
    return {"error": f"there is no {path}"}


def call(tool: str, **arguments: Any) -> list[types.Part]:
    return [types.Part(function_call=types.FunctionCall(name=tool, args=arguments))]


def agent(name: str, script: list[Any], *below: LlmAgent, **more: Any) -> LlmAgent:
    tools = [run_tests, measure, open_file]
    model = Scripted(model="scripted", script=script)
    return LlmAgent(name=name, model=model, tools=tools, sub_agents=list(below), **more)


def transfer() -> LlmAgent:
    coder = agent("coder", ["def leap(year): ...", "It is in leap.py. ✔"], description="Codes.")
    tester = agent("tester", ["Not yet."], description="Tests.")
    return agent("planner", [call("transfer_to_agent", agent_name="coder")], coder, tester)


def tools_and_state() -> LlmAgent:
    script = [
        call("run_tests", path="test_leap.py") + call("run_tests", path="test_dates.py"),
        "All eight tests pass.",
        call("run_tests", path="test_leap.py"),
        "They still pass.",
    ]
    return agent("tester", script, output_key="last_report")


def nested_arrays() -> LlmAgent:
    return agent("planner", [call("measure", grid=[[1, 2, 3], [4, 5, 6]]), "Two by three.", "Yes."])


def failed_tool() -> LlmAgent:
    return agent("coder", [call("open_file", path="lost.py"), "I cannot find it.", "Still not."])


async def saved(name: str, root: LlmAgent) -> str:
    """Say two things to an agent, and give its session as `adk run --save_session` writes it."""
    service = InMemorySessionService()
    state = {"sprint": 3, "board": [["plan", "done"], ["code", "open"]], "__seen__": True}
    where = {"app_name": name, "user_id": "test_user"}
    session = await service.create_session(**where, state=state)
    async with Runner(app=App(name=name, root_agent=root), session_service=service) as runner:
        for said in ("Write a function that tells leap years.", "Is it done?"):
            async for _ in runner.run_async(
                user_id="test_user", session_id=session.id, new_message=types.UserContent(said)
            ):
                pass
    kept = await service.get_session(**where, session_id=session.id)
    return str(kept.model_dump_json(by_alias=True, indent=2, exclude_none=True))


async def main(folder: Path) -> None:
    """Run each agent, and write down its session."""
    for maker in (transfer, tools_and_state, nested_arrays, failed_tool):
        text = await saved(maker.__name__, maker())
        (folder / f"{maker.__name__}.session.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
