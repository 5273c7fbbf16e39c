"""Sessions of Google's Agent Development Kit, of today and of earlier releases.

Names are in camelCase today, in snake_case before; at first `context` was where the state is. Each
author but the user is an agent of the session. The first has what the session remembers; each has
its own events, and an entry of its history for each invocation that it took part in. A transfer
becomes a handoff.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.migration.formats.records import Draft, Facts, Record, RecordKind, Refusal
from firestate.migration.formats.synonyms import parse_time
from firestate.schema.values import time_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    Event = dict[str, Any]

NAME = "google-adk"

_USER = "user"


def recognises(value: Any, name: str) -> bool:  # noqa: ANN401, ARG001 - any JSON, by content alone
    """An `id`, `events` by authors, and `state` with an app's name, or `context`."""
    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
        return False
    events = value.get("events")
    if not isinstance(events, list) or not all(
        isinstance(each, dict) and isinstance(each.get("author"), str) for each in events
    ):
        return False
    named = isinstance(value.get("appName", value.get("app_name")), str)
    return (named and isinstance(value.get("state", {}), dict)) or (
        isinstance(value.get("context"), dict) and (bool(events) or "past_events" in value)
    )


def read(value: Any, facts: Facts) -> Iterator[Record | Refusal]:  # noqa: ANN401 - any JSON
    """Give a state for each agent, and an event for each transfer."""
    app = value.get("appName", value.get("app_name"))
    authors = list(dict.fromkeys(each["author"] for each in value["events"]))
    agents = [each for each in authors if each != _USER] or [app or "agent"]
    for number, name in enumerate(agents):
        yield _state(value, name, facts, first=number == 0)
    for number, event in enumerate(value["events"]):
        actions = event.get("actions", event.get("options"))
        if isinstance(actions, dict):
            target = actions.get("transferToAgent", actions.get("transfer_to_agent"))
            if isinstance(target, str) and target:
                yield _handoff(f"events[{number}]", value["id"], event, target, facts)


def _state(session: dict[str, Any], name: str, facts: Facts, *, first: bool) -> Record:
    own = [each for each in session["events"] if each["author"] == name]
    others = [each for each in session["events"] if each["author"] == _USER] if first else []
    draft = Draft(f"agent {name}", {"events": list(own)})
    if first:
        home = "state" if isinstance(session.get("state"), dict) else "context"
        beside = {key: each for key, each in session.items() if key not in ("id", "events", home)}
        draft.left |= beside | ({"user_events": others} if others else {})
        memory = session.get(home)
        draft.fields["memory_context"] = memory if isinstance(memory, dict) else {}
    draft.fields |= {"agent_id": name, "session_id": session["id"]}
    draft.guess("agent_type", name)
    draft.guess("status", "idle")
    if history := _history(own):
        draft.guess("task_history", history)
    app = session.get("appName", session.get("app_name"))
    if isinstance(app, str):
        draft.fields["agent_config"] = {"app": app}
    last = parse_time(session.get("lastUpdateTime", session.get("last_update_time")))
    times = [parse_time(each.get("timestamp")) for each in own]
    draft.date([*times, last if first or not own else None], facts)
    old = {"session": session if first else session["id"], "agent": name, "events": own}
    return draft.record(RecordKind.STATE, old)


def _history(events: list[Event]) -> list[dict[str, Any]]:
    """Give an entry for each invocation; it has failed where an event of it has an error code."""
    tasks: dict[str, dict[str, Any]] = {}
    for event in events:
        invocation = event.get("invocationId", event.get("invocation_id"))
        if not isinstance(invocation, str):
            continue
        new = {"task_id": invocation, "kind": "invocation", "status": "completed", "tools": []}
        task = tasks.setdefault(invocation, new)
        if (ended := parse_time(event.get("timestamp"))) is not None:
            task["ended_at"] = time_text(ended)
        if event.get("errorCode", event.get("error_code")):
            task["status"] = "failed"
        task["tools"] += [tool for tool in _tools(event) if tool not in task["tools"]]
    return list(tasks.values())


def _tools(event: Event) -> Iterator[str]:
    content = event.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    for part in parts if isinstance(parts, list) else ():
        call = part.get("functionCall", part.get("function_call")) if isinstance(part, dict) else {}
        if isinstance(call, dict) and isinstance(call.get("name"), str):
            yield call["name"]


def _handoff(position: str, session_id: str, event: Event, target: str, facts: Facts) -> Record:
    draft = Draft(position, {})
    draft.fields = {
        "event_type": "handoff",
        "source_agent_id": event["author"],
        "source_agent_type": event["author"],
        "target_agent_id": target,
        "target_agent_type": target,
        "session_id": session_id,
        "success": True,
    }
    if isinstance(event.get("id"), str) and event["id"]:
        draft.fields["event_id"] = event["id"]
    time = parse_time(event.get("timestamp"))
    if time is None:
        draft.guess("timestamp", facts.date)
    else:
        draft.fields["timestamp"] = time
    return draft.record(RecordKind.EVENT, {"at": position, "session": session_id, "event": event})
