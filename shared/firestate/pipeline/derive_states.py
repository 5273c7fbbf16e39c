"""Several states of one agent, counted in one commit: what the local engine finds in its queue.

Whatever takes away from a memory what was the newest in it needs a fold over all rows of the agent.
Where n sessions are deleted one by one, each fold reads n rows. Here one fold is for all of them.

It is a short cut and nothing more: where it cannot be gone, each state is derived by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate.counters.ledger import difference, is_newer, new_row, shard_of
from firestate.counters.sums import added
from firestate.derive.memory import memory_document, parts_of
from firestate.derive.memory_rows import RowsPart, fold_rows, replace_row
from firestate.pipeline.fold_memory import next_change
from firestate.queries import ROWS_OF_AGENT
from firestate.schema.ids import shard_path
from firestate.stored_states import identity_in
from firestate.stores.protocol import Add, Write, replacing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from firestate.counters.sums import Counts
    from firestate.schema.ids import Identity
    from firestate.stores.protocol import Store, Stored

    Version = tuple[int, int, int]


def states_by_agent(states: Iterable[Stored]) -> dict[str, list[Stored]]:
    """Return states by the memory that they are counted in; what is no state is left out."""
    found: dict[str, list[Stored]] = {}
    for each in states:
        identity = identity_in(each.data)
        if identity is not None and each.path in identity.state_paths:
            found.setdefault(identity.memory_path, []).append(each)
    return found


def derive_states(store: Store, memory_path: str, states: Sequence[Stored]) -> None:
    """Count the contributions of states of one agent in one commit; all of them, or none.

    Raises ConflictError where somebody else has counted one meanwhile, and whatever else is in the
    way of it: then none is counted, and each is to be derived by itself.
    """
    latest = _latest(states)
    rows = store.read_many(list(latest))
    memory = store.read(memory_path)
    part, events = parts_of(memory.data if memory else None)
    replaced: RowsPart | None = part
    new_rows: dict[str, dict[str, Any]] = {}
    changes: dict[int, Counts] = {}
    for path, (identity, version, state) in latest.items():
        row = rows.get(path)
        old = row.data if row else None
        if not is_newer(old, version):
            continue
        counted = (state.data[name] for name in ("counted_version", "counted_at", "contribution"))
        new = new_row(old, identity, *counted)
        shard = old["shard"] if old else shard_of(identity.session_id)
        changes[shard] = added(changes.get(shard, {}), difference(identity, old, new))
        if replaced is not None:
            replaced = replace_row(replaced, old, new)
        new_rows[path] = new | {"shard": shard}
    if not new_rows:
        return
    # Read after the memory, which is written on condition that it is still as it was: whoever
    # changes a row changes that too.
    part = replaced or fold_rows(_all_rows(store, memory_path, new_rows))
    agent = next(identity for identity, _, _ in latest.values())
    document = memory_document(agent.agent_type, agent.agent_id, part, events)
    document["changes"] = next_change(memory)
    writes: list[Write] = []
    for path, new in new_rows.items():
        writes += replacing(rows.get(path), path, new)
    writes += replacing(memory, memory_path, document)
    writes += [Add(shard_path(n), each, _sessions(each)) for n, each in changes.items() if each]
    store.commit(writes)


def _latest(states: Iterable[Stored]) -> dict[str, tuple[Identity, Version, Stored]]:
    """Return of each session, by its row, the state that is counted in place of the others."""
    found: dict[str, tuple[Identity, Version, Stored]] = {}
    for each in states:
        identity = identity_in(each.data)
        if identity is None:
            continue
        generation, epoch, revision = each.data["counted_version"]
        version = (generation, epoch, revision)
        known = found.get(identity.row_path)
        if known is None or version > known[1]:
            found[identity.row_path] = (identity, version, each)
    return found


def _all_rows(
    store: Store, memory_path: str, new_rows: Mapping[str, Mapping[str, Any]]
) -> Iterable[Mapping[str, Any]]:
    yield from new_rows.values()
    for row in store.query(ROWS_OF_AGENT.query(under=memory_path)):
        if row.path not in new_rows:
            yield row.data


def _sessions(change: Counts) -> list[tuple[str, ...]]:
    return [("sessions", session_id) for session_id in change.get("sessions", {})]
