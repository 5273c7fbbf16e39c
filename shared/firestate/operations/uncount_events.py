"""Taking events out again, and out of what they were counted in: the undoing of a migration.

Event, memory and shard are one commit, as when they were counted: a crash before it leaves all
three, one after it none. An event that was not counted yet is only removed: its trigger then
finds nothing. A memory whose windows have lost entries is folded once more, when all are gone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from firestate.counters.event_counts import event_counts
from firestate.counters.ledger import shard_of
from firestate.counters.sums import Counts, added, subtracted
from firestate.derive.memory import memory_document, parts_of
from firestate.derive.memory_events import EventsPart, without_events
from firestate.derive.newest_entries import newest
from firestate.errors import DamagedDocumentError
from firestate.limits import MAX_ACTIVITIES, MAX_DECISIONS
from firestate.pipeline.fold_memory import (
    damage_named,
    events_part,
    fold_memory,
    next_change,
)
from firestate.pipeline.retry import retry_on_conflict
from firestate.pipeline.shard_overflow import shard_with_room
from firestate.queries import ROWS_OF_AGENT
from firestate.schema.ids import memory_path, shard_path
from firestate.stores.protocol import Add, Remove, Stored, Write, replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from firestate.stores.protocol import Store


def uncount_events(
    store: Store,
    agent_type: str,
    agent_id: str,
    paths: Sequence[str],
    wanted: Callable[[Stored], bool],
) -> tuple[int, int]:
    """Remove those events of one source agent that are `wanted`; give how many, and how many not.

    All of `paths` are of one shard. Raises ContentionError, StoreError; doing it again is safe.
    """
    path = memory_path(agent_type, agent_id)

    def attempt() -> tuple[int, int]:
        with damage_named(path):
            memory = store.read(path)
            found = store.read_many(paths)
            events = [each for each in found.values() if wanted(each)]
            outcome = len(events), len(found) - len(events)
            if not events:
                return outcome
            counted = [each.data for each in events if each.data.get("counted")]
            rows, part = parts_of(memory.data if memory else None)
            document = memory_document(agent_type, agent_id, rows, without_events(part, counted))
        document["changes"] = next_change(memory)
        writes: list[Write] = [Remove(each.path, each.token) for each in events]
        if not counted:
            store.commit(writes)
            return outcome
        if memory is not None:  # else somebody has removed it, and there is nothing to take from
            writes += replacing(memory, path, document)
        total: Counts = {}
        for each in counted:
            total = added(total, event_counts(each))
        shard_with_room(
            shard_of(paths[0]),
            lambda shard: store.commit([*writes, Add(shard_path(shard), subtracted({}, total))]),
        )
        return outcome

    try:
        return retry_on_conflict(path, attempt)
    except DamagedDocumentError:
        fold_memory(store, agent_type, agent_id)
        return retry_on_conflict(path, attempt)


def refold_events(store: Store, agent_type: str, agent_id: str) -> None:
    """Fold what a memory holds of events anew, from those that are left."""
    path = memory_path(agent_type, agent_id)

    def attempt() -> None:
        # Read before what it is folded from: whoever counts an event writes the memory too.
        memory = store.read(path)
        if memory is None:
            return
        with damage_named(path):
            rows, known = parts_of(memory.data)
            left = events_part(store, agent_type, agent_id)
            events = left if _total(left) == _total(known) else _with_expired(known, left)
            document = memory_document(agent_type, agent_id, rows, events)
        rows_left = next(iter(store.query(ROWS_OF_AGENT.query(under=path, limit=1))), None)
        if rows_left is None and not _total(events):
            store.commit([Remove(path, memory.token)])  # as before: there was none
        elif replacing(memory, path, document):
            document["changes"] = next_change(memory)
            store.commit(replacing(memory, path, document))

    retry_on_conflict(path, attempt)


def _total(part: EventsPart) -> int:
    counted = part.counts.get("coordination", {})
    return int(counted.get("total", 0) + counted.get("cancelled", 0))


def _with_expired(known: EventsPart, left: EventsPart) -> EventsPart:
    """Some that were counted have expired: of them the sums are known, and what windows show."""
    return replace(
        known,
        decisions=newest(_merged(known.decisions, left.decisions), MAX_DECISIONS),
        recent=newest(_merged(known.recent, left.recent), MAX_ACTIVITIES),
    )


def _merged(
    one: list[dict[str, object]], other: list[dict[str, object]]
) -> list[dict[str, object]]:
    return [*one, *(each for each in other if each not in one)]
