"""Computing contributions again from the states.

Done after a release that counts differently, or after damage. What changes gets a higher
version, and goes through the ledger like any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.counters.contribution import contribution_of
from firestate.counters.ledger import is_newer
from firestate.ingest.outcomes import Outcome
from firestate.ingest.states import next_version
from firestate.pipeline.deliveries import StepReport
from firestate.pipeline.derive_state import derive_state
from firestate.pipeline.retry import retry_on_conflict
from firestate.queries import ALL_STATES
from firestate.schema.ids import Identity
from firestate.schema.messages import Order
from firestate.schema.values import digest
from firestate.stores.protocol import Update

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firestate.stores.protocol import Store, Stored, Write


def rederive(store: Store) -> Iterator[StepReport]:
    """Recount every state, one by one; give a report for each."""
    for state in store.query(ALL_STATES.query(fields=["counted_version"])):
        yield recount(store, state.path)


def recount(store: Store, path: str, *, force: bool = False) -> StepReport:
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
        row = store.read(_identity(data).row_path, ["version"])
        known = tuple(data["counted_version"])
        if row is not None:
            known = (max(known[0], row.data["version"][0]), *known[1:])
        order = Order(data["epoch"], data["revision"])
        version = next_version(known, order, recount=True)
        changes = {
            "contribution": contribution,
            "digests": {**data["digests"], "contribution": fresh},
            "counted_version": list(version),
        }
        writes: list[Write] = [Update(path, state.token, changes)]
        if row is not None and not is_newer(row.data, version):
            # Its version was damaged, and would keep out all that is still to come.
            writes.append(Update(row.path, row.token, {"version": [0, 0, 0]}))
        store.commit(writes)
        return store.read(path)

    state = retry_on_conflict(path, attempt)
    return derive_state(store, state) if state else StepReport(Outcome.IGNORED, path)


def _identity(data: Mapping[str, Any]) -> Identity:
    return Identity(*(data[name] for name in Identity._fields))
