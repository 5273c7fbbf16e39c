"""From a created coordination event to the counters and its source agent's memory.

The event itself carries the mark that it is counted. Mark, memory and shard are one commit, on
condition that the event is still as it was created:

    created ──▶ [mark · memory · shard] ──▶ the same trigger again: the condition fails, nothing
         crash before: nothing is written, the redelivery counts
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate.counters.event_counts import event_counts
from firestate.counters.ledger import shard_of
from firestate.derive.memory import memory_document, parts_of
from firestate.derive.memory_events import add_event
from firestate.errors import ConflictError
from firestate.ingest.outcomes import Outcome
from firestate.pipeline.deliveries import StepReport
from firestate.pipeline.fold_memory import until_counted
from firestate.pipeline.foreign import keep_foreign_event
from firestate.pipeline.shard_overflow import shard_with_room
from firestate.schema.ids import memory_path, shard_path
from firestate.stores.protocol import Add, Stored, Update, replacing

if TYPE_CHECKING:
    from firestate.stores.protocol import Store

FIELDS = (
    "event_id",
    "event_type",
    "timestamp",
    "source_agent_id",
    "source_agent_type",
    "target_agent_id",
    "target_agent_type",
    "session_id",
    "context",
    "success",
    "duration_seconds",
    "cancelled",
)
"""All of an event that deriving needs."""


def derive_event(store: Store, event: Stored) -> StepReport:
    """Count `event`, read or brought by its trigger as it was created, unless it is counted.

    A document that is no event goes into quarantine.
    """
    if foreign := keep_foreign_event(store, event):
        return foreign
    source = (event.data["source_agent_type"], event.data["source_agent_id"])
    path = memory_path(*source)

    def attempt() -> StepReport:
        memory = store.read(path)
        rows, events = parts_of(memory.data if memory else None)
        if any(
            entry["id"] == event.data["event_id"] and entry["at"] == event.data["timestamp"]
            for entry in events.recent
        ):
            # Among the newest that this memory has counted: no need to let a commit be refused.
            return StepReport(Outcome.UNCHANGED, event.path)
        document = memory_document(*source, rows, add_event(events, event.data))
        counted = [
            Update(event.path, event.token, {"counted": True}),
            *replacing(memory, path, document),
        ]
        counts = event_counts(event.data)
        try:
            shard_with_room(
                shard_of(event.path),
                lambda shard: store.commit([*counted, Add(shard_path(shard), counts)]),
            )
        except ConflictError:
            current = store.read(event.path, ["counted"])
            if current is None or current.data.get("counted"):
                return StepReport(Outcome.UNCHANGED, event.path)
            raise
        return StepReport(Outcome.COUNTED, event.path)

    return until_counted(store, *source, attempt)
