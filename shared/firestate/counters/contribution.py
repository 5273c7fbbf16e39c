"""What one state contributes to the counters and to its agent's analytics.

Ingest computes it and stores it in the state's document, beside the version at which it last
changed; the ledger takes it from there. A session contributes what it did itself: entries that
name another session are carried along and count where they were made.

Whenever the meaning of a contribution changes, raise CODE and run `firestate rederive`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from firestate.counters.labels import bounded
from firestate.counters.memory_counts import memory_counts
from firestate.counters.task_counts import (
    bounded_fields,
    counts_of_tasks,
    counts_of_totals,
    error_counts,
)
from firestate.counters.task_history import ENDED, EndedTask, ended_tasks
from firestate.limits import MAX_DECISIONS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

CODE = 2

Contribution = dict[str, Any]
Version = tuple[int, int, int]
"""(generation, epoch, revision): another one whenever the contribution of a state changes."""


def contribution_of(document: Mapping[str, Any]) -> Contribution:
    """Give what a state (its fields as stored) or a tombstone contributes.

    `spawned` is 1 for each, `current` 1 unless terminated or deleted. `kinds` and `tools` hold
    tries, successes, cancelled, timed, duration_ms and last_seen by name; `decisions` the newest
    100 tasks that ended; `task_errors`, only where there are any, the failed by error type.
    """
    if document.get("deleted"):
        return {"spawned": 1, "current": 0, "tasks": dict.fromkeys(ENDED, 0)}
    session_id, created_at = document["session_id"], document["created_at"]
    ended = ended_tasks(document["task_history"], session_id)
    contribution: Contribution = {
        "spawned": 1,
        "current": int(document["status"] != "terminated"),
        "status": document["status"],
        "created_at": created_at,
        "memory": memory_counts(document["memory_context"], session_id),
        "decisions": _decisions(ended, created_at),
    }
    return contribution | _totals(document.get("task_totals"), ended, created_at)


def _totals(
    given: Mapping[str, Any] | None, ended: list[EndedTask], created_at: datetime
) -> Contribution:
    if given is None:
        kinds, tools = counts_of_tasks(ended, created_at)
        errors = dict(Counter(task.error_type for task in ended if task.error_type))
    else:
        kinds = counts_of_totals(given.get("kinds", {}))
        tools = counts_of_totals(given.get("tools", {}))
        errors = error_counts(given.get("errors", {}))
    by_outcome = Counter(
        completed=sum(kind.successes for kind in kinds.values()),
        failed=sum(kind.tries - kind.successes for kind in kinds.values()),
        cancelled=sum(kind.cancelled for kind in kinds.values()),
    )
    # Left out where there are none: most contributions are then what they were in the release
    # before, and need not be counted again.
    more = {"task_errors": bounded(errors, int, int.__add__)} if errors else {}
    return more | {
        "tasks": {outcome: by_outcome[outcome] for outcome in ENDED},
        "kinds": bounded_fields(kinds),
        "tools": bounded_fields(tools),
    }


def _decisions(ended: list[EndedTask], created_at: datetime) -> list[dict[str, Any]]:
    # A task tried twice under one id is two decisions: `attempt` tells them apart.
    seen: Counter[str] = Counter()
    decisions = []
    for task in ended:
        seen[task.task_id] += 1
        decisions.append(
            {
                "id": task.task_id,
                "attempt": seen[task.task_id],
                "at": task.ended_at or created_at,
                "kind": task.kind,
                "outcome": task.outcome,
                "duration_ms": task.duration_ms,
            }
        )
    decisions.sort(key=lambda each: (each["at"], each["id"], each["attempt"]), reverse=True)
    return decisions[:MAX_DECISIONS]
