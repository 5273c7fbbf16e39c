"""Defects planted for a moment: the histories find each of them."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from firestate.audit.full import FullAudit
from firestate.counters.shard_totals import global_document
from firestate.counters.sums import added
from firestate.ingest.outcomes import Outcome
from firestate.ingest.states import StateDecision, decide_state
from firestate.pipeline.derive_event import derive_event
from firestate.queries import SHARDS
from firestate.schema.ids import SESSIONS
from firestate.schema.messages import TombstoneMessage
from firestate.stores.protocol import Query, Remove, Update
from tests.chaos.invariants import check_history
from tests.chaos.simulated_network import SimulatedNetwork

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate.counters.sums import Counts
    from firestate.stores.protocol import Store, Stored

    Plant = Callable[[pytest.MonkeyPatch], None]

MOST_HISTORIES = 400
_TOTALS = ("coordination", "tasks", "spawned")


def without_version_guard(patch: pytest.MonkeyPatch) -> None:
    """Count every trigger, whatever version its row has."""
    patch.setattr("firestate.pipeline.derive_state.is_newer", lambda *_: True)


def version_not_raised(patch: pytest.MonkeyPatch) -> None:
    """Leave the version as it was when the contribution changes."""

    def next_version(stored: Any, order: Any, *, recount: bool = False) -> Any:
        del recount
        return stored or (1, *order)

    patch.setattr("firestate.ingest.states.next_version", next_version)


def acknowledged_before_the_write(patch: pytest.MonkeyPatch) -> None:
    """Take a message or a trigger for done when its process starts, not when it has ended."""
    done = SimulatedNetwork._done

    def done_at_once(self: SimulatedNetwork, work: Callable[[], object]) -> bool:
        done(self, work)
        return True

    patch.setattr(SimulatedNetwork, "_done", done_at_once)


def shard_folded_twice(patch: pytest.MonkeyPatch) -> None:
    """Add the first shard up twice."""

    def twice(shards: list[Any], *rest: Any) -> Any:
        return global_document([*shards, *shards[:1]], *rest)

    patch.setattr("firestate.pipeline.roll_up.global_document", twice)


def tombstone_ignored(patch: pytest.MonkeyPatch) -> None:
    """Take a tombstone for a late message."""

    def decide(head: Any, message: Any, *rest: Any, **more: Any) -> StateDecision:
        if isinstance(message, TombstoneMessage):
            return StateDecision(Outcome.SUPERSEDED)
        return decide_state(head, message, *rest, **more)

    patch.setattr("firestate.pipeline.ingest_state.decide_state", decide)


def row_removed_with_its_document(patch: pytest.MonkeyPatch) -> None:
    """Remove the ledger row when the state's document expires."""
    expire = SimulatedNetwork._expire

    def with_row(self: SimulatedNetwork, document: Stored) -> None:
        expire(self, document)
        store = self.engine.store
        for row in list(store.query(Query(SESSIONS, group=True))):
            if document.path.endswith(f"_{row.data['agent_id']}_{row.id}"):
                store.commit([Remove(row.path, row.token)])

    patch.setattr(SimulatedNetwork, "_expire", with_row)


def repair_sets_a_total(patch: pytest.MonkeyPatch) -> None:
    """Write what a counter should have been when the audit read it, instead of the difference."""

    seen: dict[str, dict[str, Any]] = {}

    class Seeing(FullAudit):
        def _check_shards(self, rows: dict[str, Stored]) -> None:
            super()._check_shards(rows)
            seen.clear()
            seen.update({shard.path: shard.data for shard in self._read(SHARDS)})

    def set_totals(store: Store, drift: Counts, _: object) -> None:
        for path, counts in seen.items():
            latest = store.read(path)
            assert latest is not None
            kept = {name: count for name, count in counts.items() if name in _TOTALS}
            store.commit([Update(path, latest.token, added(kept, drift))])
            drift = {}

    patch.setattr("firestate.audit.repair.FullAudit", Seeing)
    patch.setattr("firestate.audit.repair.repair_shards", set_totals)


def marker_apart_from_its_effect(patch: pytest.MonkeyPatch) -> None:
    """Mark an event as counted in a commit of its own."""

    class Splitting:
        def __init__(self, store: Store) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        def commit(self, writes: Any) -> Any:
            first, *rest = writes
            self._store.commit([first])
            return self._store.commit(rest)

    def derive(store: Any, event: Stored) -> Any:
        return derive_event(Splitting(store), event)

    patch.setattr("firestate.local.engine.derive_event", derive)


def expired_documents_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Take a document that has expired for one that never was."""
    patch.setattr("firestate.pipeline.ingest_state.may_be_removed", lambda *_: False)


PLANTS = (
    expired_documents_forgotten,
    without_version_guard,
    version_not_raised,
    acknowledged_before_the_write,
    shard_folded_twice,
    tombstone_ignored,
    row_removed_with_its_document,
    repair_sets_a_total,
    marker_apart_from_its_effect,
)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_defect_is_found(plant: Plant) -> None:
    """Some history, of a few hundred, ends wrong with the defect, and well without it."""
    for seed in range(MOST_HISTORIES):
        if not ends_well(seed, plant):
            assert ends_well(seed, lambda _: None)
            return
    pytest.fail(f"{plant.__name__} was not found in {MOST_HISTORIES} histories")


def ends_well(seed: int, plant: Plant) -> bool:
    """Play one history; tell whether it kept all guarantees."""
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        draw = random.Random(seed)
        with suppress(AssertionError):
            check_history(SimulatedNetwork(draw, patch), draw.randrange(5, 60))
            return True
    return False
