"""The totals of a state's tasks, kept or not: by kind, by tool and by the type of an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.counters.task_counts import TaskCounts
from firestate.counters.task_history import ended_tasks
from firestate.limits import MAX_COUNT, MAX_NAMES
from firestate.schema.values import time_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from firestate.counters.task_history import EndedTask

_REST = "other"


def totals_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what has ended in a state, plain: its `task_totals`, else those of its history."""
    if fields.get("task_totals") is not None:
        return dict(fields["task_totals"])
    return with_tasks({}, ended_tasks(fields["task_history"], fields["session_id"]))


def with_tasks(
    totals: Mapping[str, Any], ended: Iterable[EndedTask], *, named: bool = True
) -> dict[str, Any]:
    """Return `task_totals` with tasks counted that have ended; without `named`, by no new name."""
    kinds, tools = dict(totals.get("kinds", {})), dict(totals.get("tools", {}))
    errors = dict(totals.get("errors", {}))
    for task in ended:
        _add(kinds, task.kind, task, named=named)
        for tool in task.tools:
            _add(tools, tool, task, named=named)
        if task.error_type:
            name = _with_room(errors, task.error_type, named=named)
            errors[name] = min(errors.get(name, 0) + 1, MAX_COUNT)
    return {"kinds": kinds, "tools": tools} | ({"errors": errors} if errors else {})


def plain_counts(counts: TaskCounts) -> dict[str, Any]:
    """Return counts in the form of `task_totals`, plain.

    A sum past the bound would be refused, and with it all that the agent says from then on.
    """
    return {
        key: min(value, MAX_COUNT) if isinstance(value, int) else value and time_text(value)
        for key, value in counts.as_fields().items()
    }


def _with_room(group: Mapping[str, Any], name: str, *, named: bool) -> str:
    return name if name in group or (named and len(group) < MAX_NAMES - 1) else _REST


def _add(group: dict[str, Any], name: str, task: EndedTask, *, named: bool) -> None:
    name = _with_room(group, name, named=named)
    total = TaskCounts.of_task(task)
    if name in group:
        total = TaskCounts.from_fields(group[name]) + total
    group[name] = plain_counts(total)
