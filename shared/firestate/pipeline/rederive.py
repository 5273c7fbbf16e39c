"""Computing contributions again from the states.

Done after a release that counts differently, or after damage. What changes gets a higher
version, and goes through the ledger like any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate.counters.contribution import contribution_of
from firestate.ingest.outcomes import Outcome
from firestate.ingest.states import next_version
from firestate.pipeline.contention import until_settled
from firestate.pipeline.deliveries import Report
from firestate.pipeline.derive_state import derive_state
from firestate.schema.ids import STATES, Identity
from firestate.schema.messages import Order
from firestate.schema.values import digest
from firestate.stores.protocol import Query, Update

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firestate.stores.protocol import Store, Stored


def rederive(store: Store) -> Iterator[Report]:
    """Recount every state, one by one; give a report for each."""
    for state in store.query(Query(STATES, fields=["counted_version"])):
        yield recount(store, state.path)


def recount(store: Store, path: str, *, force: bool = False) -> Report:
    """Compute the contribution of one state again and derive it.

    Where it is the same, the ledger decides whether there is anything to do. With `force` the
    row is replaced even if its version says that it needs not: it may be damaged.
    """

    def attempt() -> Stored | None:
        state = store.read(path)
        if state is None:
            return None
        data = state.data
        contribution = contribution_of(data)
        fresh = digest(contribution)
        if not force and contribution == data["contribution"]:
            return state
        known = max(tuple(data["counted_version"]), _row_version(store, data))
        version = next_version(known, Order(data["epoch"], data["revision"]), recount=True)
        changes = {
            "contribution": contribution,
            "digests": {**data["digests"], "contribution": fresh},
            "counted_version": list(version),
        }
        store.commit([Update(path, state.token, changes)])
        return store.read(path)

    state = until_settled(path, attempt)
    return derive_state(store, state) if state else Report(Outcome.IGNORED, path)


def _row_version(store: Store, data: dict[str, object]) -> tuple[int, int, int]:
    identity = Identity(*(str(data[name]) for name in Identity._fields))
    row = store.read(identity.row_path, ["version"])
    if row is None:
        return (0, 0, 0)
    generation, epoch, revision = row.data["version"]
    return (generation, epoch, revision)
