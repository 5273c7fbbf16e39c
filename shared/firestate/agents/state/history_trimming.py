"""What a state carries of its past: the newest entries of its task history, and totals of all.

A history of up to 200 entries counts by itself. One that would grow longer is cut, and from then on
the state carries `task_totals`, which are counted in its place: each task that ended, once.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from firestate.counters.task_counts import TaskCounts
from firestate.counters.task_history import ENDED, EndedTask, ended_tasks
from firestate.limits import MAX_COUNT, MAX_HISTORY, MAX_NAMES
from firestate.schema.models import TaskTotals
from firestate.schema.values import time_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Entry = Mapping[str, Any]


class Former(NamedTuple):
    """What was saved before, of the same session."""

    history: list[Any]
    totals: Mapping[str, Any] | None


_REST = "other"


def is_short(encoded: bytes) -> bool:
    """Whether the JSON of a history surely has no more entries than are kept, looked at quickly."""
    return encoded.count(b"{") <= MAX_HISTORY


def trimmed(
    history: list[Any], totals: Mapping[str, Any] | None, former: Former, session_id: str
) -> dict[str, Any]:
    """Give the fields to be saved in place of a new `history` and `totals`, if others are needed.

    Where no totals are given, the history is taken for whole. Where they are those saved before,
    what has ended since is added. Others are the agent's own, and stay.
    """
    changes: dict[str, Any] = {}
    if totals is None and len(history) > MAX_HISTORY:
        changes["task_totals"] = with_tasks({}, ended_tasks(history, session_id))
    elif totals is not None and _are_the_same(totals, former.totals):
        new, old = _apart(history[_cut_before(history, former.history) :], former.history)
        if ended := Counter(ended_tasks(new, session_id)) - Counter(ended_tasks(old, session_id)):
            changes["task_totals"] = with_tasks(totals, ended.elements())
    if len(history) > MAX_HISTORY:
        changes["task_history"] = history[-MAX_HISTORY:]
    return changes


def with_tasks(totals: Mapping[str, Any], ended: Iterable[EndedTask]) -> dict[str, Any]:
    """Give `task_totals` with tasks counted that have ended."""
    kinds, tools = dict(totals.get("kinds", {})), dict(totals.get("tools", {}))
    errors = dict(totals.get("errors", {}))
    for task in ended:
        _add(kinds, task.kind, task)
        for tool in task.tools:
            _add(tools, tool, task)
        if task.error_type:
            name = _with_room(errors, task.error_type)
            errors[name] = min(errors.get(name, 0) + 1, MAX_COUNT)
    return {"kinds": kinds, "tools": tools} | ({"errors": errors} if errors else {})


def _are_the_same(totals: Mapping[str, Any], former: Mapping[str, Any] | None) -> bool:
    """Whether totals are equal, also where one of them leaves out what is so by default."""
    if former is None or totals == former:
        return former is not None
    return TaskTotals.model_validate(totals) == TaskTotals.model_validate(former)


def _cut_before(history: list[Any], former: list[Any]) -> int:
    """Give how many of the first entries are older than what was kept: they are counted already.

    An agent's own list may be whole, and grow, while of what was saved the oldest were cut off.
    """
    for place in range(len(history) - len(former) + 1):
        if all(map(_is_the_task, history[place:], former)):
            return place
    return 0


def _is_the_task(entry: Any, other: Any) -> bool:  # noqa: ANN401 - the user's own
    """Whether an entry is what was kept, or what has become of it since."""
    if entry is other or entry == other:
        return True
    if not (isinstance(entry, dict) and isinstance(other, dict)) or other.get("status") in ENDED:
        return False
    names = [each.get("task_id", each.get("id")) for each in (entry, other)]
    return names[0] is not None and names[0] == names[1]


def _apart(one: list[Any], other: list[Any]) -> tuple[list[Any], list[Any]]:
    """Leave out the entries that are the very same objects in both, most of the time nearly all."""
    shared = {id(entry) for entry in one} & {id(entry) for entry in other}
    return ([e for e in one if id(e) not in shared], [e for e in other if id(e) not in shared])


def _with_room(group: Mapping[str, Any], name: str) -> str:
    return _REST if name not in group and len(group) >= MAX_NAMES - 1 else name


def _add(group: dict[str, Any], name: str, task: EndedTask) -> None:
    name = _with_room(group, name)
    total = TaskCounts.of_task(task)
    if name in group:
        total = TaskCounts.from_fields(group[name]) + total
    # A sum past the bound would be refused, and with it all that the agent says from then on.
    group[name] = {
        key: min(value, MAX_COUNT) if isinstance(value, int) else value and time_text(value)
        for key, value in total.as_fields().items()
    }
