"""Saves agents of Letta as the first version of its files had them, one agent in each.

It made these samples in `tests/migration/samples/letta`: planner_v1.af, tester_tools_v1.af,
empty_v1.af and in_a_string_v1.af.
They were made by letta 0.7.29: its own store (SQLite) holds the agents, and its own serializer
reads them from there. No model is called: the messages are written here. The last of the files is
the first one more, as a string of JSON that holds JSON.

To run it again, in an environment of its own; the store is made in the folder HOME:

    pip install letta==0.7.29
    HOME=$(mktemp -d) python tests/migration/made_by/letta_before.py FOLDER
"""

# The framework is not there when types are checked.
# mypy: disable-error-code="import-not-found", disallow-subclassing-any=False

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from letta.schemas.agent import CreateAgent
from letta.schemas.block import CreateBlock
from letta.schemas.embedding_config import EmbeddingConfig
from letta.schemas.letta_message_content import TextContent
from letta.schemas.llm_config import LLMConfig
from letta.schemas.message import Message, ToolReturn
from letta.schemas.tool import Tool
from letta.schemas.tool_rule import ChildToolRule, TerminalToolRule
from letta.services.agent_manager import AgentManager
from letta.services.organization_manager import OrganizationManager
from letta.services.tool_manager import ToolManager
from letta.services.user_manager import UserManager

START = datetime(2025, 6, 3, 9, 30, tzinfo=UTC)
MODEL = LLMConfig(model="scripted", model_endpoint_type="openai", context_window=32000)
VECTORS = EmbeddingConfig(
    embedding_endpoint_type="openai", embedding_model="scripted", embedding_dim=8
)
CODE = '''def run_tests(path: str) -> str:
    """
    Run the tests of a file.

    Args:
        path (str): The file.

    Returns:
        str: How many passed.
    """
    return f"4 passed in {path}"
'''
SPEAK = {"name": "send_message", "arguments": '{"message": "All four tests pass."}'}
RUN = {"name": "run_tests", "arguments": '{"path": "test_leap.py"}'}


def said(role: str, text: str | None, **more: Any) -> dict[str, Any]:
    content = [TextContent(text=text)] if text else []
    return {"role": role, "content": content, **more}


def called(which: int, function: dict[str, str], thought: str) -> list[dict[str, Any]]:
    """Give the call of a tool, and what came of it."""
    name = f"call_{which}"
    call = {"id": name, "type": "function", "function": function}
    got = "4 passed in test_leap.py" if function is RUN else "None"
    back = [ToolReturn(status="success", stdout=[], stderr=[])]
    text = json.dumps({"status": "OK", "message": got})
    return [
        said("assistant", thought, tool_calls=[call], model=MODEL.model),
        said("tool", text, tool_call_id=name, name=function["name"], tool_returns=back),
    ]


def main(folder: Path) -> None:
    """Make each agent, give it messages, and write it down."""
    OrganizationManager().create_default_organization()
    user = UserManager().create_default_user()
    agents, tools = AgentManager(), ToolManager()
    tool = tools.create_tool(Tool(name="run_tests", source_code=CODE, tags=["tests"]), actor=user)

    def write(file: str, messages: list[dict[str, Any]], **more: Any) -> str:
        name = file.split("_", maxsplit=1)[0]
        create = CreateAgent(
            name=name,
            system=f"You are the {name} of a team that writes software.",
            initial_message_sequence=[],
            include_base_tools=False,
            llm_config=MODEL,
            embedding_config=VECTORS,
            **more,
        )
        agent = agents.create_agent(create, actor=user)
        rows = [
            Message(agent_id=agent.id, created_at=START + timedelta(seconds=7 * each), **message)
            for each, message in enumerate(messages)
        ]
        if rows:
            agents.append_to_in_context_messages(rows, agent_id=agent.id, actor=user)
        text = str(agents.serialize(agent.id, actor=user).model_dump_json(indent=2))
        (folder / file).write_text(text, encoding="utf-8")
        return text

    person = CreateBlock(label="human", value="Name: Ada. She likes short plans. ✔", limit=2000)
    plan = CreateBlock(label="plan", value="1. Write it.\n2. Test it.", description="What is next.")
    talk = [
        said("user", "Plan a function that tells leap years."),
        said("assistant", "First the function, then its tests.", model=MODEL.model),
        said("user", "Good."),
    ]
    text = write("planner_v1.af", talk, memory_blocks=[person, plan], tags=["team", "plans"])
    run = [
        said("user", "Run the tests."),
        *called(1, RUN, "I run them."),
        *called(2, SPEAK, "I say so."),
    ]
    rules = [
        ChildToolRule(tool_name="run_tests", children=["send_message"]),
        TerminalToolRule(tool_name="send_message"),
    ]
    write(
        "tester_tools_v1.af",
        run,
        memory_blocks=[person],
        tool_ids=[tool.id],
        tool_rules=rules,
        tool_exec_environment_variables={"MODE": "fast"},
        description="It tests.",
        metadata={"sprint": 3, "grid": [[1, 2], [3]]},
    )
    write("empty_v1.af", [], memory_blocks=[])
    string = json.dumps(text, ensure_ascii=False)
    (folder / "in_a_string_v1.af").write_text(string, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
