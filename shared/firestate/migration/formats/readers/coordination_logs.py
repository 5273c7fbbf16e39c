"""Logs of what agents did to one another: a list of events, `{"events": [...]}`, or one event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.limits import MAX_DURATION_SECONDS
from firestate.migration.formats.records import NO_TYPE, Draft, Facts, Record, RecordKind, Refusal
from firestate.migration.formats.synonyms import EVENT_TYPES, FAILED, hinted_type, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "coordination-log"

_SOURCES = ("source_agent_id", "from_agent", "source_agent", "source", "agent_id")
_TYPES = ("event_type", "type", "event", "action")
_TARGETS = ("target_agent_id", "to_agent", "target_agent", "target")
_TIMES = ("timestamp", "time", "created_at", "ts")
_ENDED = frozenset({"completed", "success", "succeeded", "ok", "done"})


def recognises(value: Any, name: str) -> bool:  # noqa: ANN401, ARG001 - any JSON, by content alone
    """A list of events, perhaps under `events`, or one event."""
    events = value.get("events") if isinstance(value, dict) else value
    if isinstance(events, list) and events:
        found = sum(is_event(each) for each in events)
        # A log may hold a broken entry, which is refused by itself.
        return 2 * found > len(events)
    return is_event(value)


def is_event(value: object) -> bool:
    """Whether an object says what somebody did to somebody, or that something failed."""
    if not isinstance(value, dict):
        return False
    kind = next((value[name] for name in _TYPES if isinstance(value.get(name), str)), None)
    acting = any(name in value for name in _SOURCES[:2])
    if acting and kind is not None:
        return True
    known = kind is not None and kind.lower() in EVENT_TYPES
    return known and any(name in value for name in (*_SOURCES, *_TARGETS[:2]))


def is_name(value: object) -> bool:
    """Whether a value can name somebody."""
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def leave(draft: Draft, name: str) -> None:
    """Keep a value that is no good for its field beside, as it was."""
    if name in draft.fields:
        draft.left[name] = draft.fields.pop(name)


def read(value: Any, facts: Facts) -> Iterator[Record | Refusal]:  # noqa: ANN401 - any JSON
    """Give the events in the order of the file."""
    if is_event(value):
        yield _event("", value, facts, {})
        return
    events, prefix, beside = value, "", {}
    if isinstance(value, dict):
        events, prefix = value["events"], "events"
        beside = {name: each for name, each in value.items() if name != "events"}
    for number, each in enumerate(events):
        place = f"{prefix}[{number}]"
        if not is_event(each):
            yield Refusal(
                place,
                "is no event: it needs a type and a source agent",
                "complete it, or leave it out of the file",
            )
            continue
        # What stands beside the events is kept with the first of them.
        yield _event(place, each, facts, beside)
        beside = {}


def _event(position: str, old: dict[str, Any], facts: Facts, beside: dict[str, Any]) -> Record:
    draft = Draft.of(position, old)
    draft.left |= {f"beside.{name}": each for name, each in beside.items()}
    draft.take("event_id", "eventId", "id")
    draft.take("event_type", *_TYPES[1:])
    draft.take("source_agent_id", *_SOURCES[1:])
    draft.take("source_agent_type", "from_type", "source_type", "agent_type")
    draft.take("target_agent_id", *_TARGETS[1:])
    draft.take("target_agent_type", "to_type", "target_type")
    draft.take("session_id", "sessionId", "session")
    draft.take("error_message")
    _translate(draft)
    for old_name, name in (("context", "context"), ("task_context", "task_context")):
        if isinstance(draft.left.get(old_name), dict):
            draft.take(name)
    _task(draft)
    _duration(draft)
    _outcome(draft)
    timestamp = None
    for name in _TIMES:
        if (timestamp := parse_time(draft.left.get(name))) is not None:
            draft.fields["timestamp"] = timestamp
            draft.left.pop(name)
            break
    if timestamp is None:
        draft.guess("timestamp", facts.date)
    return draft.record(RecordKind.EVENT, old)


def _translate(draft: Draft) -> None:
    fields = draft.fields
    kind = fields.get("event_type")
    known = EVENT_TYPES.get(kind.lower()) if isinstance(kind, str) else None
    if known is None:
        draft.guess("event_type", "collaboration")
        draft.left["event_type"] = kind
    elif known != kind:
        draft.say("event_type", kind, known)
    if not is_name(fields.get("source_agent_id")):
        leave(draft, "source_agent_id")
        draft.guess("source_agent_id", "unknown")
    if not isinstance(fields.get("source_agent_type"), str):
        leave(draft, "source_agent_type")
        draft.guess("source_agent_type", _type_of(fields["source_agent_id"]))
    if "target_agent_id" in fields and not isinstance(fields.get("target_agent_type"), str):
        leave(draft, "target_agent_type")
        draft.guess("target_agent_type", _type_of(fields["target_agent_id"]))


def _type_of(name: object) -> str:
    return hinted_type(str(name)) or NO_TYPE


def _task(draft: Draft) -> None:
    task = draft.left.get("task")
    if task is None or "task_context" in draft.fields:
        return
    if isinstance(task, dict):
        draft.take("task_context", "task")
    elif isinstance(task, str):
        draft.fields["task_context"] = {"task": draft.left.pop("task")}
        draft.mapped.append("task is task_context.task")


def _duration(draft: Draft) -> None:
    for name, unit in (("duration_seconds", 1), ("duration", 1), ("duration_ms", 1000)):
        given = draft.left.get(name)
        if isinstance(given, bool) or not isinstance(given, int | float):
            continue
        if 0 <= given <= MAX_DURATION_SECONDS * unit:
            draft.fields["duration_seconds"] = float(given / unit)
            if unit == 1:
                draft.left.pop(name)  # else the old number is kept beside the one it was made of
            return


def _outcome(draft: Draft) -> None:
    error = draft.left.get("error")
    if isinstance(error, str) and error and "error_message" not in draft.fields:
        draft.take("error_message", "error")
    status = draft.left.get("status")
    word = status.lower() if isinstance(status, str) else None
    failed = bool(error) or "error_message" in draft.fields or word in FAILED
    if isinstance(draft.left.get("success"), bool):
        draft.fields["success"] = draft.left.pop("success")
    elif failed or draft.fields["event_type"] == "error" or word in _ENDED:
        draft.fields["success"] = not failed and draft.fields["event_type"] != "error"
    else:
        draft.guess("success", value=True)
