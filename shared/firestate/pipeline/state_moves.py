"""Moving a state from its former path to the one that belongs to its identity.

    before   agent_states/QA_red_team_lead_7      its parts, legacy/{n}
                        │ one commit: create, remove
    after    agent_states/QA_red_team_lead_7~8    its parts

Parts that would make the commit too large are made at the new place before; a crash leaves them
there, where the next try finds them. Ledger row, counters and memory know the identity alone, so
nothing is counted again: the trigger of the new document finds its version in the row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from firestate.ingest.outcomes import Outcome
from firestate.pipeline.deliveries import StepReport
from firestate.pipeline.retry import retry_on_conflict
from firestate.queries import PARTS_OF_OLD
from firestate.schema.ids import LEGACY
from firestate.stored_states import identity_in
from firestate.stores.protocol import Create, Remove, Stored, Update, Write, changed_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from firestate.stores.protocol import Store

_PARTS_AT_ONCE = 2
"""Parts of 900 KB in one commit: with a document of 1 MiB below 4 MiB, as the emulator takes it."""

_MOST_TRIES = 3


def move_state(store: Store, path: str) -> StepReport:
    """Move the state at `path` to where its identity belongs, with its parts.

    Where both paths hold a state of the identity, the later one stays. Where another identity's
    state lies at the new path, by its own former path, that is moved first. A document that is
    where it belongs, or that no agent wrote, is left alone. Safe under traffic, and to be called
    again.
    """
    for _ in range(_MOST_TRIES):
        moved = retry_on_conflict(path, lambda: _moved(store, path))
        if isinstance(moved, StepReport):
            return moved
        # Whoever is in the way goes first; somebody else may have seen to that already.
        move_state(store, moved.occupied)
    return StepReport(Outcome.IGNORED, path)


class _Occupied(NamedTuple):
    """The path at which another identity's document is in the way."""

    occupied: str


def _moved(store: Store, path: str) -> StepReport | _Occupied:
    old = store.read(path)
    identity = None if old is None else identity_in(old.data)
    if old is None or identity is None or path != identity.former_state_path:
        return StepReport(Outcome.IGNORED, path)
    if path == identity.state_path:
        return StepReport(Outcome.UNCHANGED, path)
    new = store.read(identity.state_path)
    if new is not None and identity_in(new.data) != identity:
        return _Occupied(new.path)
    creations, removals = _part_moves(store, path, identity.state_path)
    while len(creations) > _PARTS_AT_ONCE:
        store.commit(creations[:_PARTS_AT_ONCE])
        creations = creations[_PARTS_AT_ONCE:]
    move = _replacement(new, identity.state_path, old)
    store.commit([*move, *creations, *removals, Remove(path, old.token)])
    return StepReport(Outcome.MOVED, identity.state_path)


def _replacement(new: Stored | None, path: str, old: Stored) -> list[Write]:
    """Return the write that puts the later of the two states at `path`."""
    if new is None:
        return [Create(path, old.data)]
    if (old.data["epoch"], old.data["revision"]) <= (new.data["epoch"], new.data["revision"]):
        return []
    gone = [name for name in new.data if name not in old.data]
    return [Update(path, new.token, changed_fields(new.data, old.data), gone)]


def _part_moves(store: Store, path: str, new_path: str) -> tuple[Sequence[Write], list[Write]]:
    """Return the writes that make the parts at the new place, and those that remove them here."""
    parts = list(store.query(PARTS_OF_OLD.query(under=path)))
    places = {part.path: f"{new_path}/{LEGACY}/{part.id}" for part in parts}
    # A part that is there holds the right bytes: its name is made of them.
    there = store.read_many(list(places.values()), ["expire_at"]) if parts else {}
    creations: list[Write] = [
        Create(places[part.path], part.data) for part in parts if places[part.path] not in there
    ]
    return creations, [Remove(part.path, part.token) for part in parts]
