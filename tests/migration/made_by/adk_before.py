"""Saves sessions of Google's ADK as its first versions saved them, with names in snake_case.

It made these samples in `tests/migration/samples/adk`: before_transfer.session.json,
before_tools.session.json, before_untouched.session.json, context_tools.session.json and
context_transfer.session.json.
The three of them that begin with `before_` were made by google-adk 0.1.0. No model is called: what
it says is written here. ADK itself chooses the ids and the times.
The two that begin with `context_` were not made by ADK. The form of before its first release, with
`context` in place of `state`, cannot be installed. This script makes them out of the sessions
above, after two such files that were found.

To run it again, in an environment of its own:

    pip install google-adk==0.1.0 google-genai==1.10.0 google-cloud-aiplatform==1.91.0 \
        mcp==1.6.0 deprecated
    python tests/migration/made_by/adk_before.py FOLDER
"""

# The framework is not there when types are checked.
# mypy: disable-error-code="import-not-found", disallow-subclassing-any=False

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.artifacts import InMemoryArtifactService
from google.adk.models import BaseLlm, LlmResponse
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.adk.tools.tool_context import ToolContext
from google.genai import types


class Scripted(BaseLlm):
    """Says what it is told to say."""

    script: list[Any]

    async def generate_content_async(
        self,
        llm_request: Any,  # noqa: ARG002 - what ADK calls it with
        stream: bool = False,  # noqa: ARG002, FBT001, FBT002 - what ADK calls it with
    ) -> AsyncIterator[LlmResponse]:
        said = self.script.pop(0)
        parts = said if isinstance(said, list) else [types.Part(text=said)]
        yield LlmResponse(content=types.Content(role="model", parts=parts))


def update_board(task: str, column: str, tool_context: ToolContext) -> dict[str, str]:
    """Move a task on the board."""
    board = tool_context.state.get("board", {})
    tool_context.state["board"] = {**board, task: column}
    tool_context.state["moves"] = [*tool_context.state.get("moves", []), [task, column]]
    return {"moved": task}


def call(tool: str, **arguments: str) -> list[types.Part]:
    return [types.Part(function_call=types.FunctionCall(name=tool, args=arguments))]


def agent(name: str, script: list[Any], *below: LlmAgent) -> LlmAgent:
    model = Scripted(model="scripted", script=script)
    about = f"The {name} of the team."
    tools = [update_board]
    return LlmAgent(name=name, model=model, description=about, tools=tools, sub_agents=list(below))


def transfer() -> LlmAgent:
    coder = agent("coder", ["I begin with the parser.", "The parser reads dates now."])
    return agent("planner", [call("transfer_to_agent", agent_name="coder")], coder)


def tools() -> LlmAgent:
    first = call("update_board", task="parser", column="doing")
    second = call("update_board", task="parser", column="done")
    return agent("tester", [first, "It is on the board.", second, "It is done. ✔"])


def saved(name: str, root: LlmAgent, *said: str) -> str:
    """Say something to an agent, and give its session as this version's `adk run` writes it."""
    service = InMemorySessionService()
    where = {"app_name": name, "user_id": "test_user"}
    state = {"sprint": 2, "people": "planner, coder, tester"}
    session = service.create_session(**where, state=state)
    runner = Runner(
        app_name=name,
        agent=root,
        session_service=service,
        artifact_service=InMemoryArtifactService(),
    )

    async def run() -> None:
        for each in said:
            message = types.UserContent(parts=[types.Part(text=each)])
            async for _ in runner.run_async(
                user_id="test_user", session_id=session.id, new_message=message
            ):
                pass

    asyncio.run(run())
    kept = service.get_session(**where, session_id=session.id)
    return str(kept.model_dump_json(indent=2, exclude_none=True))


def as_before_that(text: str) -> str:
    """Turn a session into the form with `context`, and with `options` in place of `actions`."""
    session = json.loads(text)
    events = []
    for event in session["events"]:
        actions = event.pop("actions")
        options = {"partial": False} if event["author"] != "user" else {}
        if actions["state_delta"]:
            options["update_context"] = actions["state_delta"]
        if "transfer_to_agent" in actions:
            options["transfer_to_agent"] = actions["transfer_to_agent"]
        kept = ("invocation_id", "author", "content")
        last = {"options": options, "id": event["id"], "timestamp": event["timestamp"]}
        events.append({key: event[key] for key in kept} | last)
    context = {"_time": "2024-12-01 09:02:43.531503", **session["state"]}
    form = {"id": session["id"], "context": context, "events": events, "past_events": []}
    empty: dict[str, Any] = {"pending_events": {}, "artifacts": {}, "event_logs": []}
    return json.dumps(form | empty, indent=2, ensure_ascii=False)


def main(folder: Path) -> None:
    """Run each agent, and write down its session, in both forms."""
    two = ("Let us build the parser of dates.", "How far is it?")
    made = {
        "tools": saved("board", tools(), *two),
        "transfer": saved("team", transfer(), *two),
        "untouched": saved("team", agent("planner", [])),
    }
    for name, text in made.items():
        (folder / f"before_{name}.session.json").write_text(text, encoding="utf-8")
    for name in ("tools", "transfer"):
        text = as_before_that(made[name])
        (folder / f"context_{name}.session.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
