"""Builds agent files of Letta as their second version has them, with agents side by side.

It made these samples in `tests/migration/samples/letta`: one_agent.af, team_with_group.af,
tools_and_approval.af, bare.af and in_a_string.af.
They were built by the classes of letta 0.16.7 for such a file (letta.schemas.agent_file), which
check what they are given, fill in the rest and write it. What the agents said is written here. No
server of Letta ran and no model was called. The last of the files is the first one more, as a
string of JSON that holds JSON: such files were found.

The first version's files are made by letta_before.py.

To run it again, in an environment of its own:

    pip install letta==0.16.7 asyncpg
    HOME=$(mktemp -d) python tests/migration/made_by/letta_files.py FOLDER
"""

# The framework is not there when types are checked.
# mypy: disable-error-code="import-not-found", disallow-subclassing-any=False

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from letta.schemas import agent_file as af
from letta.schemas.embedding_config import EmbeddingConfig
from letta.schemas.letta_message_content import ReasoningContent, TextContent
from letta.schemas.llm_config import LLMConfig
from letta.schemas.message import ToolReturn
from letta.schemas.tool_rule import ChildToolRule, TerminalToolRule

START = datetime(2025, 11, 4, 8, 15, 0, 250000, tzinfo=UTC)
MODEL = LLMConfig(model="scripted", model_endpoint_type="openai", context_window=32000)
VECTORS = EmbeddingConfig(
    embedding_endpoint_type="openai", embedding_model="scripted", embedding_dim=8
)
PATH = {"type": "string", "enum": ["test_leap.py", "test_zones.py"]}
TESTS = af.ToolSchema(
    id="tool-0",
    name="run_tests",
    description="Run the tests of a file.",
    source_code='def run_tests(path: str):\n    """Run the tests of a file."""\n    return "ok"\n',
    json_schema={
        "name": "run_tests",
        "description": "Run the tests of a file.",
        "parameters": {"type": "object", "properties": {"path": PATH}, "required": ["path"]},
    },
    tags=["tests"],
)


def block(which: int, label: str, value: str, **more: Any) -> af.BlockSchema:
    return af.BlockSchema(id=f"block-{which}", label=label, value=value, **more)


def agent(which: int, name: str, said: list[dict[str, Any]], **more: Any) -> af.AgentSchema:
    """Make an agent, of whose messages all but the second are in its context."""
    first = {"role": "system", "content": [TextContent(text=f"You are the {name} of a team.")]}
    messages = [
        af.MessageSchema(
            id=f"message-{each}",
            agent_id=f"agent-{which}",
            created_at=START + timedelta(seconds=9 * each),
            model=MODEL.model,
            otid=None,
            **message,
        )
        for each, message in enumerate([first, *said])
    ]
    none = ("memory_blocks", "tools", "tool_ids", "source_ids", "block_ids", "tool_rules", "tags")
    as_exported = {key: [] for key in none} | {"include_base_tools": False, "timezone": "UTC"}
    return af.AgentSchema(
        id=f"agent-{which}",
        name=name,
        system=f"You are the {name} of a team.",
        agent_type="letta_v1_agent",
        llm_config=MODEL,
        embedding_config=VECTORS,
        messages=messages,
        in_context_message_ids=[each.id for each in messages if each.id != "message-1"],
        **(as_exported | more),
    )


def said(role: str, *content: Any, **more: Any) -> dict[str, Any]:
    parts = [TextContent(text=each) if isinstance(each, str) else each for each in content]
    return {"role": role, "content": parts, **more}


def file(*agents: af.AgentSchema, **more: Any) -> str:
    parts: dict[str, Any] = {
        key: [] for key in ("groups", "blocks", "files", "sources", "tools", "mcp_servers")
    }
    made = af.AgentFileSchema(
        agents=list(agents),
        metadata={"revision_id": "297e8217e952"},
        created_at=START + timedelta(hours=1),
        **(parts | more),
    )
    return json.dumps(
        made.model_dump(), indent=2, ensure_ascii=False, default=lambda time: time.isoformat()
    )


def one_agent() -> str:
    talk = [
        said("user", "Plan a calendar."),
        said("assistant", "1. Dates. 2. Time zones. ✔"),
        said("user", "Zones first, please."),
        said("assistant", ReasoningContent(reasoning="She knows best.", is_native=True), "Yes."),
    ]
    blocks = [
        block(0, "human", "Name: Ada. She likes short plans.", limit=2000),
        block(1, "plan", "1. Zones.\n2. Dates.", description="What is next.", read_only=True),
    ]
    more = {"block_ids": ["block-0", "block-1"], "tags": ["plans"], "description": "It plans."}
    return file(agent(0, "planner", talk, **more), blocks=blocks)


def team_with_group() -> str:
    coder = agent(1, "coder", [said("user", "Write it.")], block_ids=["block-0"])
    tester = agent(2, "tester", [said("user", "Test it.")], block_ids=["block-0"])
    lead = agent(0, "lead", [], block_ids=["block-0"], group_ids=["group-0"])
    group = af.GroupSchema(
        id="group-0",
        agent_ids=["agent-1", "agent-2"],
        description="Those who build.",
        shared_block_ids=["block-0"],
        manager_config=af.SupervisorManagerSchema(manager_agent_id="agent-0"),
    )
    board = block(0, "board", "leap.py: coder. test_leap.py: tester.", metadata={"sprint": 3})
    return file(lead, coder, tester, groups=[group], blocks=[board])


def tools_and_approval() -> str:
    call = {"name": "run_tests", "arguments": '{"path": "test_leap.py"}'}
    asked = [{"id": "call_1", "type": "function", "function": call}]
    back = ToolReturn(tool_call_id="call_1", status="error", func_response="1 failed, 3 passed")
    talk = [
        said("user", "Run the tests."),
        said("approval", tool_calls=asked),
        said("approval", approve=True, approval_request_id="message-2"),
        said("tool", "1 failed, 3 passed", tool_call_id="call_1", tool_returns=[back]),
        said("assistant", "One of four fails: 1900 is no leap year."),
    ]
    rules = [
        ChildToolRule(tool_name="run_tests", children=["send_message"]),
        TerminalToolRule(tool_name="send_message"),
    ]
    more = {"tool_ids": ["tool-0"], "tool_rules": rules, "metadata": {"runs": [[3, 1], [4, 0]]}}
    skill = af.SkillSchema(name="testing", files={"SKILL.md": "Run the tests before you speak."})
    return file(agent(0, "tester", talk, **more), tools=[TESTS], skills=[skill])


def main(folder: Path) -> None:
    """Write down each file."""
    for maker in (one_agent, team_with_group, tools_and_approval):
        (folder / f"{maker.__name__}.af").write_text(maker(), encoding="utf-8")
    (folder / "bare.af").write_text(file(), encoding="utf-8")
    string = json.dumps(one_agent(), ensure_ascii=False)
    (folder / "in_a_string.af").write_text(string, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
