"""From a written state to the counters and its agent's memory, through the ledger.

One read where nothing counted has changed; else row, memory and shard in one commit, so that a
crash leaves all three or none, and a redelivery finds the row at its version and does nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.counters.ledger import difference, is_newer, new_row, shard_of
from firestate.derive.memory import memory_document, parts_of
from firestate.derive.memory_rows import RowsPart, fold_rows, replace_row
from firestate.ingest.outcomes import Outcome
from firestate.pipeline.deliveries import StepReport
from firestate.pipeline.fold_memory import next_change, until_counted
from firestate.pipeline.foreign import keep_foreign_state
from firestate.pipeline.shard_overflow import shard_with_room
from firestate.queries import ROWS_OF_AGENT
from firestate.schema.ids import Identity, shard_path
from firestate.stores.protocol import Add, Stored, Write, replacing

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate.counters.sums import Counts
    from firestate.stores.protocol import Store

FIELDS = (*Identity._fields, "counted_version", "counted_at", "contribution")
"""All of a state that deriving needs."""


def derive_state(store: Store, state: Stored) -> StepReport:
    """Count the contribution that `state` brings, unless its row has it, or a later one.

    A document that is no state goes into quarantine.
    """
    if foreign := keep_foreign_state(store, state):
        return foreign
    identity = Identity(*(state.data[name] for name in Identity._fields))
    version = tuple(state.data["counted_version"])

    def attempt() -> StepReport:
        row = store.read(identity.row_path)
        shown = ".".join(map(str, version))
        if not is_newer(row.data if row else None, version):
            return StepReport(Outcome.UNCHANGED, identity.row_path, shown)
        writes = _replacement(store, identity, state, row)
        home = row.data["shard"] if row else shard_of(identity.session_id)
        shard_with_room(home, lambda shard: store.commit(writes(shard)))
        return StepReport(Outcome.COUNTED, identity.row_path, shown)

    return until_counted(store, identity.agent_type, identity.agent_id, attempt)


def _replacement(
    store: Store, identity: Identity, state: Stored, row: Stored | None
) -> Callable[[int], list[Write]]:
    """Read what is needed; give the writes, which depend on the shard that has room for them."""
    old = row.data if row else None
    new = new_row(
        old,
        identity,
        state.data["counted_version"],
        state.data["counted_at"],
        state.data["contribution"],
    )
    memory = store.read(identity.memory_path)
    rows, events = parts_of(memory.data if memory else None)
    # What follows holds only while row and memory are as they were read: both are written on
    # that condition. Whoever changes a row changes the memory too, be it by the number of its
    # changes alone: so a fold over all rows, read after the memory, is of the same moment, or
    # the commit is refused.
    rows = replace_row(rows, old, new) or _fold_anew(store, identity, new)
    document = memory_document(identity.agent_type, identity.agent_id, rows, events)
    document["changes"] = next_change(memory)

    def writes(shard: int) -> list[Write]:
        counted_in = old["shard"] if old else shard
        if counted_in == shard:
            changes = {shard: difference(identity, old, new)}
        else:  # the row moves, and takes along what it has counted
            changes = {
                counted_in: difference(identity, old, None),
                shard: difference(identity, None, new),
            }
        return [
            *replacing(row, identity.row_path, new | {"shard": shard}),
            *replacing(memory, identity.memory_path, document),
            *(Add(shard_path(n), each, _sessions(each)) for n, each in changes.items() if each),
        ]

    return writes


def _sessions(change: Counts) -> list[tuple[str, ...]]:
    return [("sessions", session_id) for session_id in change.get("sessions", {})]


def _fold_anew(store: Store, identity: Identity, new: dict[str, Any]) -> RowsPart:
    rows = store.query(ROWS_OF_AGENT.query(under=identity.memory_path))
    others = (row.data for row in rows if row.data["session_id"] != identity.session_id)
    return fold_rows([new, *others])
