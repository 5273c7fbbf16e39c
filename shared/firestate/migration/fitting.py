"""Making a state or event fit into the schema and its document; what does not is kept beside.

Only looked into where ingest's own checks have refused the whole: most records fit.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from firestate.counters.contribution import contribution_of
from firestate.limits import MAX_HISTORY, MAX_NAMES, MAX_STATE_BYTES, MAX_VALUES
from firestate.schema.ids import LEGACY
from firestate.schema.names import fit_id, fit_text
from firestate.schema.values import extent, problems_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firestate.errors import InvalidMessageError

ROOM = 20_000
"""Bytes for what stands in a legacy entry beside its fields."""

_MAPS = ("memory_context", "agent_config", "collaboration_context", "context", "task_context")
_LISTS = ("task_history", "tools_enabled", "child_agent_ids")

STATE: dict[str, Any] = {
    "memory_context": {},
    "task_history": [],
    "performance_metrics": {},
    "agent_config": {},
    "tools_enabled": [],
}
"""What a state has where its file says nothing."""
EVENT: dict[str, Any] = {"context": {}, "task_context": {}}
"""What an event has where its file says nothing."""


def move_unfit(
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
    defaults = STATE if of_state else EVENT
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
        counted = contribution_of(STATE | body)
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
    return size <= MAX_STATE_BYTES - ROOM and values <= MAX_VALUES // 2


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
