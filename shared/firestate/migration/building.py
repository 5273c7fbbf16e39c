"""From a record to the message that ingest would be sent, and the parts of what is too large.

The message passes ingest's own checks. What the schema has no field for, or does not take, is kept
under `memory_context.legacy` (of an event: `context.legacy`):

    format   which reader read it         guessed   fields that the file did not have
    fields   by their old names           unfit     JSON text of what Firestore cannot hold
    parts    instead of these two, where they do not fit into the document: so many bytes of JSON,
             with their SHA-256, in documents below it, `legacy/{n}`
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from firestate.counters.contribution import contribution_of
from firestate.errors import InvalidMessageError
from firestate.limits import (
    LEGACY_PART_BYTES,
    MAX_HISTORY,
    MAX_NAMES,
    MAX_STATE_BYTES,
    MAX_VALUES,
)
from firestate.migration.records import Kind, Record
from firestate.schema.messages import EventMessage, StateMessage, event_message, state_message
from firestate.schema.names import fit_id, fit_text, fit_type
from firestate.schema.values import extent, problems_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

LEGACY = "legacy"

_MAPS = ("memory_context", "agent_config", "collaboration_context", "context", "task_context")
_LISTS = ("task_history", "tools_enabled", "child_agent_ids")
_IDS = ("agent_id", "session_id", "parent_agent_id", "source_agent_id", "target_agent_id")
_TYPES = ("agent_type", "source_agent_type", "target_agent_type")
_DEPTH = 3  # legacy's fields lie in the maps memory_context, legacy and fields
_ROOM = 20_000  # for what stands in a legacy entry beside its fields


_STATE: dict[str, Any] = {
    "memory_context": {},
    "task_history": [],
    "performance_metrics": {},
    "agent_config": {},
    "tools_enabled": [],
}
_EVENT: dict[str, Any] = {"context": {}, "task_context": {}}


@dataclass(frozen=True, slots=True)
class Built:
    """A message, and the parts that lie below its document, by their paths.

    `guessed` are those of its fields that hang on the date of the file: two messages that differ
    in nothing else tell the same.
    """

    path: str
    message: StateMessage | EventMessage
    writer: str
    parts: dict[str, bytes]
    guessed: frozenset[str]
    kept: tuple[str, ...]


def revision_of(last_updated: datetime) -> int:
    """Give the revision of a migrated state, in epoch 0: below all that an agent writes itself."""
    return round(last_updated.timestamp() * 1_000_000)


def build(record: Record, reader: str, writer: str, event_id: str | None = None) -> Built:
    """Give the message of a state or an event; raise InvalidMessageError where none can be."""
    of_state = record.kind is Kind.STATE
    body: dict[str, Any] = (_STATE if of_state else _EVENT) | record.fields
    if not of_state:
        body["event_id"] = event_id or body["event_id"]
    left = dict(record.left)
    _fit_names(body, left)
    home = "memory_context" if of_state else "context"
    if isinstance(body[home], dict) and LEGACY in body[home]:
        body[home] = dict(body[home])
        left[f"{home}.{LEGACY}"] = body[home].pop(LEGACY)
    parts = _store_left(body, home, left, record, reader)
    try:
        message = _message(record, body, writer)
    except InvalidMessageError as error:
        # Rare, so that it is looked into only now: what does not fit is kept as it was.
        if error.code not in ("schema", "size") or not _move_unfit(body, left, error, of_state):
            raise
        parts = _store_left(body, home, left, record, reader)
        message = _message(record, body, writer)
    path = message.path if isinstance(message, EventMessage) else message.identity.state_path
    return Built(
        path,
        message,
        writer,
        {f"{path}/{LEGACY}/{name}": data for name, data in parts.items()},
        frozenset(record.guessed) & {"created_at", "last_updated", "last_active", "timestamp"},
        tuple(sorted(left)),
    )


def _message(record: Record, body: dict[str, Any], writer: str) -> StateMessage | EventMessage:
    if record.kind is Kind.EVENT:
        return event_message({"event": body, "migration": True})
    raw = {
        "epoch": 0,
        "revision": revision_of(record.fields["last_updated"]),
        "writer": writer,
        "migration": True,
        "state": body,
    }
    message = state_message(raw)
    assert isinstance(message, StateMessage)  # noqa: S101 - it has no `deleted`
    return message


def _fit_names(body: dict[str, Any], left: dict[str, Any]) -> None:
    """Make ids and types of what foreign systems call their agents; keep what that changes."""
    for names, fit in ((_IDS, fit_id), (_TYPES, fit_type)):
        for name in names:
            given = body.get(name)
            if isinstance(given, bool) or not isinstance(given, str | int):
                continue
            fitted = fit(str(given))
            if fitted != given:
                left.setdefault(name, given)
                body[name] = fitted


def _store_left(
    body: dict[str, Any], home: str, left: dict[str, Any], record: Record, reader: str
) -> dict[str, bytes]:
    """Put `left` into the legacy entry of `body`, or into parts; give the parts."""
    body[home] = {name: value for name, value in body[home].items() if name != LEGACY}
    if not left and not record.guessed:
        return {}
    entry: dict[str, Any] = {"format": reader}
    if record.guessed:
        entry["guessed"] = list(record.guessed)
    parts: dict[str, bytes] = {}
    fields, unfit = _parted(left)
    if fields or unfit:
        size, values = extent([body, fields, unfit])
        if size > MAX_STATE_BYTES - _ROOM or values > MAX_VALUES // 2:
            data = _json(left)
            digest = hashlib.sha256(data).hexdigest()
            parts = {
                f"{digest[:12]}-{number:04d}": data[start : start + LEGACY_PART_BYTES]
                for number, start in enumerate(range(0, len(data), LEGACY_PART_BYTES))
            }
            entry |= {"parts": len(parts), "bytes": len(data), "sha256": digest}
        else:
            entry |= {"fields": fields} if fields else {}
            entry |= {"unfit": unfit} if unfit else {}
    body[home][LEGACY] = entry
    return parts


def _parted(left: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Give what Firestore can hold, and the rest as a JSON text."""
    unfit = {
        name: value
        for name, value in left.items()
        if next(iter(problems_of({name: value}, "", _DEPTH - 1)), None)
    }
    fields = {name: value for name, value in left.items() if name not in unfit}
    return fields, _json(unfit).decode() if unfit else ""


def _json(value: object) -> bytes:
    # In ASCII: half of a surrogate pair is kept as it was spelled.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()


def _move_unfit(
    body: dict[str, Any],
    left: dict[str, Any],
    error: InvalidMessageError,
    of_state: bool,  # noqa: FBT001 - the only caller names it
) -> bool:
    """Move what the schema refuses from `body` to `left`; tell whether there was anything."""
    before = len(left)
    if error.code == "size":
        _move_large(body, left)
        return len(left) > before
    home = "state" if of_state else "event"
    named = {
        problem.field.removeprefix(f"{home}.").partition(".")[0].partition("[")[0]
        for problem in error.problems
    }
    defaults = _STATE if of_state else _EVENT
    for name in named & body.keys():
        given = body[name]
        if isinstance(given, dict) and name in (*_MAPS, "performance_metrics"):
            _move_entries(body, left, name)
        elif isinstance(given, list) and name in _LISTS:
            kept, moved = _fitting_items(name, given)
            body[name] = kept
            left |= moved
        else:
            left[name] = body.pop(name)
            if name in defaults:
                body[name] = defaults[name]
    return len(left) > before


def _move_entries(body: dict[str, Any], left: dict[str, Any], name: str) -> None:
    numbers = name == "performance_metrics"
    moved = {
        key: value
        for key, value in body[name].items()
        if next(iter(problems_of({key: value}, "")), None)
        or (numbers and (isinstance(value, bool) or not isinstance(value, int | float)))
    }
    kept = {key: value for key, value in body[name].items() if key not in moved}
    if numbers and len(kept) > MAX_NAMES:
        moved |= dict(islice(kept.items(), MAX_NAMES, None))
    body[name] = {key: value for key, value in kept.items() if key not in moved}
    left |= {f"{name}.{key}": value for key, value in moved.items()}


def _fitting_items(name: str, items: list[Any]) -> tuple[list[Any], dict[str, Any]]:
    kept: list[Any] = []
    moved: dict[str, Any] = {}
    for number, item in enumerate(items):
        wanted = dict if name == "task_history" else str
        fits = isinstance(item, wanted) and not next(iter(problems_of(item, "", 1)), None)
        if name == "child_agent_ids" and fits:
            fits = item == fit_id(item)
        if fits and (name == "task_history" or len(kept) < MAX_NAMES):
            kept.append(item)
        else:
            moved[f"{name}[{number}]"] = item
            if isinstance(item, dict) and isinstance(item.get("name"), str):
                kept.append(fit_text(item["name"]))  # a tool that is described, not only named
    return kept, moved


def _move_large(body: dict[str, Any], left: dict[str, Any]) -> None:
    """Move the largest entries until the rest fits; tasks that go were counted before."""
    history = body.get("task_history", [])
    if len(history) > MAX_HISTORY and "task_totals" not in body:
        counted = contribution_of(_STATE | body)
        body["task_totals"] = {group: counted[group] for group in ("kinds", "tools")}
    if len(history) > MAX_HISTORY:
        left["task_history"] = history[:-MAX_HISTORY]
        body["task_history"] = history[-MAX_HISTORY:]
    for name, key in _by_size(body):
        if fits(body):
            return
        if key is None:
            left[name] = body.pop(name)
        else:
            left[f"{name}.{key}"] = body[name][key]
            body[name] = {k: v for k, v in body[name].items() if k != key}


def fits(body: dict[str, Any]) -> bool:
    """Whether a state or event fits into its document, with a legacy entry beside it."""
    size, values = extent(body)
    return size <= MAX_STATE_BYTES - _ROOM and values <= MAX_VALUES // 2


def _by_size(body: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    found: list[tuple[int, str, str | None]] = []
    for name, value in body.items():
        if name in _MAPS and isinstance(value, dict):
            found += [
                (extent(item).size, name, key) for key, item in value.items() if key != LEGACY
            ]
        elif name in ("error_message", "current_task"):
            found.append((extent(value).size, name, None))
    found.sort(key=lambda each: (-each[0], each[1], each[2] or ""))
    yield from ((name, key) for _, name, key in found)
