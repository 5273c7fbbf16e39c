"""States of AutoGen's teams and agents, as `await team.save_state()` gives them.

Since 0.4.9 `agent_states` has the agents' names; before, names with the team's id, which is also
under `team_id`: there it is the session. A team within a team is an agent that has children.
Handoffs in a manager's thread become events. An agent that was saved alone has no name but that
under which it spoke.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from firestate.migration.formats.records import (
    Draft,
    Facts,
    Record,
    RecordKind,
    Refusal,
    session_of,
)
from firestate.migration.formats.synonyms import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

NAME = "autogen"

_TEAM = "TeamState"
_ALONE = "AssistantAgentState"


class _Saved(NamedTuple):
    """What holds for all of a file; the session is `known` where the file names it."""

    session_id: str
    known: bool
    facts: Facts


class _TeamPlace(NamedTuple):
    """Where an agent stands in the file, its name, and that of the agent whose team it is in."""

    position: str
    name: str | None
    parent: str | None = None


def recognises(value: Any, name: str) -> bool:  # noqa: ANN401, ARG001 - any JSON, by content alone
    """A `TeamState`, or an `AssistantAgentState` by itself."""
    if not isinstance(value, dict):
        return False
    team = isinstance(value.get("agent_states"), dict)
    alone = value.get("type") == _ALONE and isinstance(value.get("llm_context"), dict)
    return (team and value.get("type", _TEAM) == _TEAM) or alone


def read(value: Any, facts: Facts) -> Iterator[Record | Refusal]:  # noqa: ANN401 - any JSON
    """Give the agents of the team, those of its teams after it, and the handoffs."""
    team_id = value.get("team_id")
    known = isinstance(team_id, str) and team_id
    session_id = team_id if known else session_of(NAME, value)
    saved = _Saved(session_id, bool(known), facts)
    if value.get("type") == _ALONE:
        agent = {"agent_state": value}
        yield _state(_TeamPlace("", _speaker(value) or session_id), agent, agent, saved)
        return
    if not any(value["agent_states"].values()):
        yield Refusal("agent_states", "is empty: the team has no agent", "leave the file out")
        return
    beside = {f"beside.{k}": v for k, v in value.items() if k != "agent_states"}
    if known:
        beside.pop("beside.team_id")
    empty = [key for key, each in value["agent_states"].items() if each == {}]
    beside |= {"beside.empty": empty} if empty else {}
    yield from _team(value, _TeamPlace("", None), saved, beside)


def _team(
    team: dict[str, Any], around: _TeamPlace, saved: _Saved, beside: dict[str, Any]
) -> Iterator[Record | Refusal]:
    outer = f"{around.name}." if around.name else ""
    for key, agent in team["agent_states"].items():
        if agent == {}:  # a collector of messages, of no agent
            continue
        place = f"{around.position}agent_states.{key}"
        if not isinstance(agent, dict):
            yield Refusal(place, "is no object, and so no agent", "leave it out of the file")
            continue
        name = f"{outer}{key.rpartition('/')[0] or key}"
        inner: Any = agent.get("agent_state")
        nested = isinstance(inner, dict) and isinstance(inner.get("agent_states"), dict)
        left = dict(agent) | beside
        if nested:
            left["agent_state"] = {k: v for k, v in inner.items() if k != "agent_states"}
        yield _state(_TeamPlace(place, name, around.name), agent, left, saved)
        beside = {}
        thread = agent.get("message_thread")
        for number, message in enumerate(thread if isinstance(thread, list) else ()):
            if isinstance(message, dict) and message.get("type") == "HandoffMessage":
                place_of = f"{place}.message_thread[{number}]"
                yield _handoff(place_of, outer, message, saved)
        if nested:
            yield from _team(inner, _TeamPlace(f"{place}.agent_state.", name), saved, {})


def _state(place: _TeamPlace, agent: dict[str, Any], left: dict[str, Any], saved: _Saved) -> Record:
    name = str(place.name)
    draft = Draft(place.position, dict(left), {"agent_id": name})
    draft.guess("agent_type", name.rpartition(".")[2])
    draft.guess("status", "idle")
    draft.fields["session_id"] = saved.session_id
    if not saved.known:
        draft.guessed.append("session_id")
    if place.parent:
        draft.fields["parent_agent_id"] = place.parent
    draft.take("current_task", "task")
    draft.date(_times(agent), saved.facts)
    return draft.record(
        RecordKind.STATE, {"name": name, "session": saved.session_id, "agent": agent}
    )


def _handoff(position: str, outer: str, message: dict[str, Any], saved: _Saved) -> Record:
    source, target = f"{outer}{message.get('source')}", f"{outer}{message.get('target')}"
    draft = Draft(position, {"message": message})
    draft.fields = {
        "event_type": "handoff",
        "source_agent_id": source,
        "source_agent_type": str(message.get("source")),
        "target_agent_id": target,
        "target_agent_type": str(message.get("target")),
        "session_id": saved.session_id,
        "success": True,
    }
    if isinstance(message.get("id"), str):
        draft.fields["event_id"] = message["id"]
    time = parse_time(message.get("created_at"))
    if time is None:
        draft.guess("timestamp", saved.facts.date)
    else:
        draft.fields["timestamp"] = time
    old = {"at": position, "session": saved.session_id, "message": message}
    return draft.record(RecordKind.EVENT, old)


def _speaker(state: dict[str, Any]) -> str | None:
    messages = state["llm_context"].get("messages")
    names = [
        message["source"]
        for message in (messages if isinstance(messages, list) else ())
        if isinstance(message, dict)
        and message.get("type") == "AssistantMessage"
        and isinstance(message.get("source"), str)
    ]
    return names[-1] if names else None


def _times(agent: dict[str, Any]) -> Iterator[datetime | None]:
    for name in ("message_buffer", "message_thread"):
        messages = agent.get(name)
        for message in messages if isinstance(messages, list) else ():
            if isinstance(message, dict):
                yield parse_time(message.get("created_at"))
