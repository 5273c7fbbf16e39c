"""Making a state or event fit into the schema and its document; what does not is kept beside.

Only looked into where ingest's own checks have refused the whole: most records fit.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from firestate.counters.contribution import contribution_of
from firestate.limits import FULL_STATE_BYTES, MAX_HISTORY, MAX_NAMES, MAX_VALUES
from firestate.schema.ids import LEGACY
from firestate.schema.models import AgentState, CoordinationEvent
from firestate.schema.sanitize import sanitize_id, sanitize_text
from firestate.schema.values import digest, extent, problems_of, text_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firestate.errors import InvalidMessageError

ROOM = 20_000
"""Bytes for what stands in a legacy entry beside its fields."""

_MAPS = ("memory_context", "agent_config", "collaboration_context", "context", "task_context")
_NEEDED = frozenset(
    {
        name
        for model in (AgentState, CoordinationEvent)
        for name, info in model.model_fields.items()
        if info.is_required()
    }
)
_EXACT = 2**53  # past it not every whole number is a float
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
            for place, item in moved.items():
                keep(left, place, item)
        else:
            _move(body, left, name, defaults)
    return len(left) > before


def fit_agent_id(given: str) -> str:
    """Give the id of a foreign name. One that is changed gets a digest: `a/b` is not `a-b`."""
    fitted = sanitize_id(given)
    return fitted if fitted == given else sanitize_id(f"{fitted[:300]}-{digest(given)[:6]}")


def keep(left: dict[str, Any], name: str, value: object) -> None:
    """Keep a value under its name, or one like it where that is taken."""
    while name in left:
        name += "~"
    left[name] = value


def _move(body: dict[str, Any], left: dict[str, Any], name: str, defaults: dict[str, Any]) -> None:
    keep(left, name, body.pop(name))
    if name in defaults:
        body[name] = defaults[name]


def move_inexact(body: dict[str, Any], left: dict[str, Any]) -> None:
    """Move metrics that are stored as floats, and would not be the same any more."""
    metrics = body.get("performance_metrics")
    if not isinstance(metrics, dict):
        return
    large = {k: v for k, v in metrics.items() if isinstance(v, int) and abs(v) > _EXACT}
    if large:
        body["performance_metrics"] = {k: v for k, v in metrics.items() if k not in large}
    for name, value in large.items():
        keep(left, f"performance_metrics.{name}", value)


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
    for key, value in moved.items():
        keep(left, f"{name}.{key}", value)


def _fitting_items(name: str, items: list[Any]) -> tuple[list[Any], dict[str, Any]]:
    kept: list[Any] = []
    moved: dict[str, Any] = {}
    for number, item in enumerate(items):
        place = f"{name}[{number}]"
        if name == "task_history" and isinstance(item, dict):
            # The rest of it stays: a task that ended is counted.
            odd = [key for key in item if next(iter(problems_of({key: item[key]}, "", 1)), None)]
            kept.append({key: value for key, value in item.items() if key not in odd})
            moved |= {f"{place}.{key}": item[key] for key in odd}
            continue
        fit = None if name == "task_history" else _as_name(name, item)
        room = len(kept) < MAX_NAMES
        if fit is not None and room:
            kept.append(fit)
        if fit is None or fit != item or not room:
            moved[place] = item
    return kept, moved


def _as_name(name: str, item: object) -> str | None:
    """Give an agent's child, or a tool, by its name: a tool may be described, not only named."""
    if name == "child_agent_ids":
        named = isinstance(item, str | int) and not isinstance(item, bool)
        return fit_agent_id(str(item)) if named else None
    if isinstance(item, dict):
        item = item.get("name")
    if isinstance(item, str):
        return sanitize_text(item) if text_problem(item) else item
    return None


def _move_large(body: dict[str, Any], left: dict[str, Any]) -> None:
    """Move the largest entries until the rest fits; tasks that go were counted before."""
    history = body.get("task_history", [])
    if gone := _too_many(history):
        if "task_totals" not in body:
            entries = [each for each in history if isinstance(each, dict)]
            counted = contribution_of(STATE | body | {"task_history": entries})
            body["task_totals"] = {group: counted[group] for group in ("kinds", "tools")}
        keep(left, "task_history", history[:gone])
        body["task_history"] = history[gone:]
    for name, key in _by_size(body):
        if fits(body):
            return
        if key is None:
            _move(body, left, name, STATE)
        else:
            keep(left, f"{name}.{key}", body[name][key])
            body[name] = {k: v for k, v in body[name].items() if k != key}


def _too_many(history: list[Any]) -> int:
    """Give how many of the oldest tasks go, so that the rest takes half of a document at most."""
    size = values = 0
    for number, each in enumerate(reversed(history)):
        found = extent(each)
        size, values = size + found.size, values + found.values
        if number >= MAX_HISTORY or size > FULL_STATE_BYTES // 2 or values > MAX_VALUES // 4:
            return len(history) - number
    return 0


def fits(body: dict[str, Any]) -> bool:
    """Whether a state or event fits into its document, with a legacy entry beside it."""
    size, values = extent(body)
    return size <= FULL_STATE_BYTES - ROOM and values <= MAX_VALUES // 2


def _by_size(body: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    found: list[tuple[int, str, str | None]] = []
    for name, value in body.items():
        if name in _MAPS and isinstance(value, dict):
            found += [
                (extent(item).size, name, key) for key, item in value.items() if key != LEGACY
            ]
        elif value and (name in STATE or name not in _NEEDED) and name != "task_history":
            found.append((extent(value).size, name, None))
    found.sort(key=lambda each: (-each[0], each[1], each[2] or ""))
    yield from ((name, key) for _, name, key in found)
