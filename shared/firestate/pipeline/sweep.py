"""What a schedule does, every 15 minutes: what no message wakes.

- the roll-up once more, should a wake have been lost, with two figures that only a query knows:
  stale agents, and messages that wait in quarantine;
- entries of sessions without agents are taken out of the shards;
- once an hour the cheap audit, with its repair.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from firestate.counters.shard_totals import ended_sessions
from firestate.errors import ConflictError, StoreError
from firestate.ingest.outcomes import Outcome
from firestate.limits import LEASE_SECONDS
from firestate.pipeline.deliveries import StepReport
from firestate.pipeline.shard_audit import cheap_audit
from firestate.queries import KEPT, STALE, WORKING_STATUSES
from firestate.stores.protocol import Remove

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from firestate.pipeline.roll_up import RollUp
    from firestate.stores.protocol import Store, Stored

_EVERY_MINUTES = 15


def sweep(store: Store, roll_up: RollUp, now: datetime) -> StepReport:
    """Do all of the above; each part can be run twice, or not at all, without harm."""
    swept_at = store.now()
    try:
        figures = swept_figures(store, swept_at)
    except StoreError:
        # What stops the counting, such as an index that is not built yet, must not stop this.
        roll_up.fold()
        raise
    # What is compacted or repaired changes a shard, which wakes the roll-up like any other write.
    roll_up.fold({**figures, "swept_at": swept_at})
    detail = ", ".join(f"{name} {count}" for name, count in figures.items())
    detail += f", compacted {_compact(store, roll_up.shards)}"
    if now.minute < _EVERY_MINUTES:
        detail += f", audit: {cheap_audit(store)}"
    return StepReport(Outcome.SWEPT, detail=detail)


def swept_figures(store: Store, at: datetime) -> dict[str, int]:
    """Give the system metrics that only a query knows, as they were at the store's time `at`."""
    until = at - timedelta(seconds=LEASE_SECONDS)
    stale = STALE.query({"status": WORKING_STATUSES}, high=until)
    waiting = KEPT.query({"waiting": True})
    return {
        "stale_agent_count": store.total(stale, at=at)["count"],
        "quarantine_count": store.total(waiting, at=at)["count"],
    }


def _compact(store: Store, shards: Sequence[Stored]) -> int:
    """Take ended sessions out of each shard, on condition that nothing was added meanwhile."""
    compacted = 0
    for shard in shards:
        if ended := ended_sessions(shard.data):
            fields = [("sessions", session_id) for session_id in ended]
            try:
                store.commit([Remove(shard.path, shard.token, fields)])
            except ConflictError:
                continue  # a busy shard: the next sweep finds it quieter
            compacted += len(ended)
    return compacted
