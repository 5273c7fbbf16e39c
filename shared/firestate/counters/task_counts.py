"""Tasks that ended, counted by kind and by tool: tries, successes, durations."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from firestate.counters.labels import UNSPECIFIED, bounded, label
from firestate.schema.values import utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from firestate.counters.task_history import EndedTask


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """How often something was tried, and how it went.

    `tries` counts the completed and the failed; a cancelled task is neither a try nor timed.
    `duration_ms` is the sum over the `timed` ones, in whole milliseconds; `last_seen` is the time
    of the newest, cancelled or not.
    """

    tries: int = 0
    successes: int = 0
    cancelled: int = 0
    timed: int = 0
    duration_ms: int = 0
    last_seen: datetime | None = None

    @classmethod
    def of_task(cls, task: EndedTask, default_time: datetime | None = None) -> Self:
        """Return the counts of one task; without a time of its own it has the default one."""
        seen = task.ended_at or default_time
        if task.outcome == "cancelled":
            return cls(cancelled=1, last_seen=seen)
        return cls(
            tries=1,
            successes=int(task.outcome == "completed"),
            timed=int(task.duration_ms is not None),
            duration_ms=task.duration_ms or 0,
            last_seen=seen,
        )

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Read the fields of a `Totals`, plain or stored; without `timed`, all tries are."""
        tries, timed, seen = fields["tries"], fields.get("timed"), fields.get("last_seen")
        return cls(
            tries=tries,
            successes=fields["successes"],
            cancelled=fields.get("cancelled") or 0,
            timed=tries if timed is None else timed,
            duration_ms=fields.get("duration_ms") or 0,
            last_seen=utc(datetime.fromisoformat(seen)) if isinstance(seen, str) else seen,
        )

    def __add__(self, other: TaskCounts) -> TaskCounts:
        """Add the numbers up; the newer time stays."""
        seen = [time for time in (self.last_seen, other.last_seen) if time is not None]
        return TaskCounts(
            tries=self.tries + other.tries,
            successes=self.successes + other.successes,
            cancelled=self.cancelled + other.cancelled,
            timed=self.timed + other.timed,
            duration_ms=self.duration_ms + other.duration_ms,
            last_seen=max(seen, default=None),
        )

    def as_fields(self) -> dict[str, Any]:
        """Return the counts by name."""
        return asdict(self)


Counts = dict[str, TaskCounts]


def counts_of_tasks(
    tasks: Iterable[EndedTask], default_time: datetime | None
) -> tuple[Counts, Counts]:
    """Count tasks: by kind, and by each of their tools."""
    kinds: Counts = {}
    tools: Counts = {}
    for task in tasks:
        one = TaskCounts.of_task(task, default_time)
        _add(kinds, task.kind, one)
        for tool in task.tools:
            _add(tools, tool, one)
    return kinds, tools


def counts_of_totals(totals: Mapping[str, Mapping[str, Any]]) -> Counts:
    """Read one group of a state's `task_totals`; what was never tried is left out."""
    counts: Counts = {}
    for name, fields in totals.items():
        one = TaskCounts.from_fields(fields)
        if one.tries or one.cancelled or one.duration_ms:
            _add(counts, label(name, UNSPECIFIED), one)
    return counts


def error_counts(totals: Mapping[str, int]) -> dict[str, int]:
    """Read the failures by error type of a state's `task_totals`."""
    counts: Counter[str] = Counter()
    for name, count in totals.items():
        if count:
            counts[label(name, UNSPECIFIED)] += count
    return dict(counts)


def bounded_fields(counts: Counts) -> dict[str, dict[str, Any]]:
    """Return the fields of the 64 names that ended most often; the rest together are `other`."""
    kept = bounded(counts, lambda one: one.tries + one.cancelled, TaskCounts.__add__)
    return {name: one.as_fields() for name, one in kept.items()}


def _add(counts: Counts, name: str, one: TaskCounts) -> None:
    counts[name] = counts[name] + one if name in counts else one
