"""What one coordination event adds to a shard. An event is counted once; nothing replaces it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.counters.labels import label
from firestate.counters.sums import milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firestate.counters.sums import Counts


def event_counts(event: Mapping[str, Any]) -> Counts:
    """Give the counts of `event` (its fields as stored).

    An error is an event of type `error` or one without success; it is counted by its event type,
    and by `context.error_type` where there is one. One that was cancelled is no error, and in no
    total: it is counted by itself.
    """
    kind, succeeded = event["event_type"], int(event["success"])
    if event.get("cancelled"):
        cancelled = {"cancelled": 1}
        return {"coordination": {**cancelled, "by_type": {kind: cancelled}}}
    counts = {
        "total": 1,
        "succeeded": succeeded,
        "duration_ms": milliseconds(event.get("duration_seconds") or 0),
    }
    change: dict[str, Any] = {"coordination": counts | {"by_type": {kind: counts}}}
    if kind == "error" or not succeeded:
        change["errors"] = {"by_event_type": {kind: 1}}
        if error_type := label(event["context"].get("error_type"), ""):
            change["errors"]["by_error_type"] = {error_type: 1}
    return change
