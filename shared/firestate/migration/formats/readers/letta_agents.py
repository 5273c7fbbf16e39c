"""Agent files of Letta (.af): version 2 with agents, blocks and tools side by side; version 1 flat.

Blocks become the memory, tools are named, the models and the instructions are the configuration.
Messages, and all definitions, are kept beside, but no secrets. A file that is a JSON text holding
JSON was parsed twice before it comes here.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from firestate.migration.formats.records import (
    Draft,
    Facts,
    Record,
    RecordKind,
    Refusal,
    session_of,
)
from firestate.migration.formats.secret_fields import withhold
from firestate.migration.formats.synonyms import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

NAME = "letta"

_CONFIGURATION = (
    "system",
    "description",
    "llm_config",
    "embedding_config",
    "model",
    "embedding",
    "model_settings",
    "tool_rules",
    "response_format",
    "timezone",
)

_SECRETS = ("secrets", "tool_exec_environment_variables")
_SECRETS_OF_SERVERS = ("token", "custom_headers", "env")


class _Parts(NamedTuple):
    """The session that the file is taken for, and what of the file belongs to one agent."""

    session_id: str
    blocks: list[Any]
    tools: list[Any]


def recognises(value: Any, name: str) -> bool:  # noqa: ANN401, ARG001 - any JSON, by content alone
    """Lists of agents and blocks; or an agent with its core memory."""
    if not isinstance(value, dict):
        return False
    return _is_flat(value) or (
        isinstance(value.get("agents"), list)
        and isinstance(value.get("blocks"), list)
        and isinstance(value.get("tools"), list)
    )


def _is_flat(value: dict[str, Any]) -> bool:
    lists = ("core_memory", "messages", "tools")
    return "agent_type" in value and all(isinstance(value.get(each), list) for each in lists)


def read(value: Any, facts: Facts) -> Iterator[Record | Refusal]:  # noqa: ANN401 - any JSON
    """Give a state for each agent."""
    session_id = session_of(NAME, value)
    if _is_flat(value):
        draft = Draft.of("", value)
        blocks = draft.left.pop("core_memory")
        times = (value.get("created_at"), value.get("updated_at"))
        yield _state(draft, value, _Parts(session_id, blocks, value["tools"]), times, facts)
        return
    if not value["agents"]:
        yield Refusal("agents", "is empty: there is no agent in it", "leave the file out")
        return
    yield from _side_by_side(value, session_id, facts)


def _side_by_side(
    value: dict[str, Any], session_id: str, facts: Facts
) -> Iterator[Record | Refusal]:
    blocks, tools = _by_id(value["blocks"]), _by_id(value["tools"])
    used: set[tuple[str, str]] = set()
    seen: Counter[str] = Counter()
    agents = [each if isinstance(each, dict) else {} for each in value["agents"]]
    names = {str(each.get("id")): each.get("name") for each in agents}
    for agent in agents:
        used |= {(name, each) for name in ("block_ids", "tool_ids") for each in _ids(agent, name)}
    beside = {f"beside.{k}": v for k, v in value.items() if k not in ("agents", "blocks", "tools")}
    withheld = _without_secrets(beside)
    spare = [each for key, each in blocks.items() if ("block_ids", key) not in used]
    spare += [each for key, each in tools.items() if ("tool_ids", key) not in used]
    beside |= {"beside.unused": spare} if spare else {}
    for number, agent in enumerate(agents):
        if not agent:
            yield Refusal(f"agents[{number}]", "is no object, and so no agent", "leave it out")
            continue
        draft = Draft.of(f"agents[{number}]", agent)
        draft.left |= beside
        draft.withheld += withheld
        beside, withheld = {}, []
        own = [tools[each] for each in _ids(agent, "tool_ids") if each in tools]
        if draft.left.get("tools"):
            draft.left["tools.named"] = draft.left["tools"]
        draft.left["tools"] = own
        memory = [blocks[each] for each in _ids(agent, "block_ids") if each in blocks]
        if (parent := names.get(str(_manager(value, agent)))) and isinstance(parent, str):
            draft.fields["parent_agent_id"] = parent
        # Those of one name are told apart by their number.
        name = str(agent.get("name") or "agent")
        seen[name] += 1
        if seen[name] > 1:
            draft.left["name"] = f"{name}-{seen[name]}"
        times = (value.get("created_at"),)
        yield _state(draft, agent, _Parts(session_id, memory, own), times, facts)


def _state(
    draft: Draft, agent: dict[str, Any], parts: _Parts, times: tuple[Any, ...], facts: Facts
) -> Record:
    session_id, blocks, tools = parts
    draft.withheld += withhold(draft.left, _SECRETS)
    if not draft.take("agent_id", "name"):
        draft.guess("agent_id", session_id)
    kind = draft.left.get("agent_type")
    if isinstance(kind, str) and kind:
        draft.take("agent_type")
    else:
        draft.guess("agent_type", "letta")
    draft.guess("session_id", session_id)
    draft.guess("status", "idle")
    memory, odd = _memory(blocks)
    draft.fields["memory_context"] = memory
    if odd:
        draft.left["blocks"] = odd
    draft.fields["tools_enabled"] = [
        each["name"]
        for each in tools
        if isinstance(each, dict) and isinstance(each.get("name"), str)
    ]
    draft.fields["agent_config"] = {
        name: draft.left.pop(name)
        for name in _CONFIGURATION
        if draft.left.get(name) not in (None, "", [], {})
    }
    draft.date([*map(parse_time, times), *_times(agent)], facts)
    old = {"session": session_id, "agent": agent, "blocks": blocks, "tools": tools}
    return draft.record(RecordKind.STATE, old)


def _without_secrets(beside: dict[str, Any]) -> list[str]:
    """Take the secrets out of the definitions of servers; name them."""
    servers = beside.get("beside.mcp_servers")
    withheld: list[str] = []
    if isinstance(servers, list):
        beside["beside.mcp_servers"] = servers = json.loads(json.dumps(servers))
        for number, each in enumerate(servers):
            at = f"mcp_servers[{number}]."
            for held in (each, each.get("stdio_config")) if isinstance(each, dict) else ():
                if isinstance(held, dict):
                    withheld += withhold(held, _SECRETS_OF_SERVERS, at)
    return withheld


def _memory(blocks: list[Any]) -> tuple[dict[str, Any], list[Any]]:
    """Give the blocks by their labels, and those that have none, or one that another has."""
    memory: dict[str, Any] = {}
    odd = []
    for block in blocks:
        label = block.get("label") if isinstance(block, dict) else None
        if isinstance(label, str) and label and label not in memory:
            memory[label] = {"type": "block", **{k: v for k, v in block.items() if v is not None}}
        else:
            odd.append(block)
    return memory, odd


def _by_id(items: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, each in enumerate(items):
        key = str(each.get("id", number)) if isinstance(each, dict) else str(number)
        found[f"{key}#{number}" if key in found else key] = each
    return found


def _ids(agent: dict[str, Any], name: str) -> list[str]:
    ids = agent.get(name)
    return [str(each) for each in ids] if isinstance(ids, list) else []


def _manager(value: dict[str, Any], agent: dict[str, Any]) -> object:
    groups = value.get("groups")
    for group in groups if isinstance(groups, list) else ():
        manager = group.get("manager_config") if isinstance(group, dict) else None
        if isinstance(manager, dict) and str(agent.get("id")) in _ids(group, "agent_ids"):
            return manager.get("manager_agent_id")
    return None


def _times(agent: dict[str, Any]) -> Iterator[datetime | None]:
    messages = agent.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict):
            yield parse_time(message.get("created_at"))
