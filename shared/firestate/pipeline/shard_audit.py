"""The audit by schedule: do the shards hold what the ledger says?

Every commit that changes a row (or an agent's event counts) changes a shard by the same amount.
So at one read time both sides are equal, also in the middle of traffic: a difference is damage,
never lag. It is given to a shard as one addition; a total is never set. Sums are aggregations,
at one read per 1,000 documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate.counters.shard_totals import sum_of_shards
from firestate.counters.sums import Counts, subtracted
from firestate.pipeline.shard_overflow import shard_with_room
from firestate.queries import ALL_MEMORIES, ALL_ROWS, SHARDS
from firestate.schema.ids import SYSTEM, shard_path
from firestate.stores.protocol import Add, Create, Update

if TYPE_CHECKING:
    from firestate.stores.protocol import Store, Stored, Write

REPAIRS = f"{SYSTEM}/repairs"
"""Written by each repair, on condition of what it was when the audit began."""


def cheap_audit(store: Store) -> str:
    """Compare the main sums, repair the shards, and say in a few words what was found."""
    last_repair = store.read(REPAIRS)
    at = store.now()
    sums = store.total(ALL_ROWS.query(), at=at) | store.total(ALL_MEMORIES.query(), at=at)
    shards = sum_of_shards(shard.data for shard in store.query(SHARDS.query(), at=at))
    expected: Counts = {}
    actual: Counts = {}
    for name in (*ALL_ROWS.sums, *ALL_MEMORIES.sums):
        # A shard has the same counts, without the field that is around them here.
        path = tuple(name.split(".")[1:])
        _put(expected, path, sums[name])
        _put(actual, path, _get(shards, path))
    drift = subtracted(expected, actual)
    if not drift:
        return "no drift"
    repair_shards(store, drift, last_repair)
    return f"repaired {drift}"


def repair_shards(store: Store, drift: Counts, last_repair: Stored | None) -> None:
    """Add `drift` to a shard.

    `last_repair` is what REPAIRS was before the audit read anything: if another audit has
    repaired since then, the same drift may be repaired already, and ConflictError is raised.
    """
    note = {"schema_version": 1, "drift": drift}
    claim: Write = (
        Create(REPAIRS, note)
        if last_repair is None
        else Update(REPAIRS, last_repair.token, note | {"number": _next(last_repair)})
    )
    stamped = [("sessions", name) for name in drift.get("sessions", {})]
    shard_with_room(0, lambda shard: store.commit([claim, Add(shard_path(shard), drift, stamped)]))


def _next(last_repair: Stored) -> int:
    # Writing the same again would leave the document's update time, and so its token, as it is.
    number: int = last_repair.data.get("number", 0)
    return number + 1


def _get(counts: Counts, path: tuple[str, ...]) -> int:
    value: int | Counts = counts
    for name in path:
        value = value.get(name, 0) if isinstance(value, dict) else 0
    return value if isinstance(value, int) else 0


def _put(counts: Counts, path: tuple[str, ...], value: int) -> None:
    *outer, last = path
    for name in outer:
        counts = counts.setdefault(name, {})
    counts[last] = value
