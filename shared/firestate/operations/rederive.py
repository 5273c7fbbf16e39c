"""Bringing what is stored up to this release, state by state.

- A state that lies at the former path of its identity is moved (pipeline/state_moves).
- Contributions are computed again. What changes gets a higher version, and goes through the ledger
  like any other. Done after a release that counts differently, or after damage.
- Messages that were refused since their path was another agent's are ingested now.

Safe under traffic; stopped at any point, it is to be called again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from firestate.counters.contribution import contribution_of
from firestate.counters.ledger import is_newer
from firestate.errors import DamagedDocumentError
from firestate.ingest.outcomes import Outcome
from firestate.ingest.refusal import ON_REPLAY, replayed
from firestate.ingest.states import next_version
from firestate.operations.quarantined_messages import read_quarantined
from firestate.operations.republish_quarantined import as_published
from firestate.pipeline.deliveries import Delivery, StepReport
from firestate.pipeline.derive_state import derive_state
from firestate.pipeline.fold_memory import damage_named
from firestate.pipeline.ingest_state import ingest_state
from firestate.pipeline.retry import retry_on_conflict
from firestate.pipeline.state_moves import move_state
from firestate.queries import ALL_STATES, KEPT_WITH_CODE
from firestate.schema.ids import Identity
from firestate.schema.messages import Order
from firestate.schema.upgrades import upgrade_document
from firestate.schema.values import digest
from firestate.stored_states import FIELDS as STATE_FIELDS
from firestate.stored_states import identity_in, read_state
from firestate.stores.protocol import Update

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from firestate.stores.protocol import Store, Stored, Write

_IDENTITY = Identity._fields


def rederive(
    store: Store, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Iterator[StepReport]:
    """Move and recount every state, one by one; then release messages that had no place.

    Yields a report for each state that was moved (`moved`), for each state (`counted`,
    `unchanged`, `ignored` where no agent wrote it or somebody has damaged it), and for each message
    (`released`, or `quarantined` where it is refused for another reason now).
    """
    for state in store.query(ALL_STATES.query(fields=_IDENTITY)):
        path, identity = state.path, identity_in(state.data)
        if identity is not None and path == identity.former_state_path != identity.state_path:
            move_state(store, path)
            # Moved just now, or before, to make room for another one.
            there = read_state(store, identity, STATE_FIELDS).state
            path = path if there is None else there.path
            if path == identity.state_path:
                yield StepReport(Outcome.MOVED, path)
        try:
            yield recount(store, path)
        except DamagedDocumentError as error:
            yield StepReport(Outcome.IGNORED, path, detail=str(error))
    yield from _release(store, clock)


def _release(store: Store, clock: Callable[[], datetime]) -> Iterator[StepReport]:
    """Ingest the messages that were refused as `identity`."""
    kept_ids = KEPT_WITH_CODE.query({"code": "identity", "waiting": True}, fields=["id"])
    for each in list(store.query(kept_ids)):
        try:
            kept = read_quarantined(store, each.id)
        except DamagedDocumentError as error:
            yield StepReport(Outcome.IGNORED, each.path, detail=str(error))
            continue
        if kept is None:
            continue
        message = as_published(kept)
        delivery = Delivery(message.topic, message.data, dict(message.attributes))
        report = ingest_state(store, delivery, clock(), released=True)
        if report.outcome is Outcome.QUARANTINED:
            yield report
            continue

        def mark(path: str = each.path, before: Stored = kept.stored) -> None:
            latest = store.read(path, ON_REPLAY)
            if latest is not None:
                store.commit([replayed(before, latest, clock())])

        retry_on_conflict(each.path, mark)
        yield StepReport(Outcome.RELEASED, each.path, detail=report.outcome.value)


def recount(store: Store, path: str, *, force: bool = False) -> StepReport:
    """Compute the contribution of one state again and derive it.

    Where it is the same, the ledger decides whether there is anything to do. With `force` the
    row is replaced even if its version says that it needs not: it may be damaged. Raises
    DamagedDocumentError where somebody has edited the state into a form that cannot be counted.
    """

    def attempt() -> Stored | StepReport:
        state = store.read(path)
        identity = None if state is None else identity_in(state.data)
        if state is None or identity is None or "counted_version" not in state.data:
            return StepReport(Outcome.IGNORED, path)
        row = store.read(identity.row_path, ["version", "task_errors"])
        with damage_named(path):
            writes = _recounted(state, row, force=force)
        if writes:
            store.commit(writes)
            return store.read(path) or StepReport(Outcome.IGNORED, path)
        if row is not None and not is_newer(row.data, tuple(state.data["counted_version"])):
            return StepReport(Outcome.UNCHANGED, path)
        return state

    found = retry_on_conflict(path, attempt)
    return found if isinstance(found, StepReport) else derive_state(store, found)


def _recounted(state: Stored, row: Stored | None, *, force: bool) -> list[Write]:
    """Return the writes after which the state is derived as this release counts it."""
    data = state.data
    contribution = contribution_of(upgrade_document(dict(data)))
    changes: dict[str, Any] = _missing_times(data)
    lacking = row is not None and _lacks_errors(row.data, data, contribution)
    writes: list[Write] = []
    if force or lacking or contribution != data["contribution"]:
        known = tuple(data["counted_version"])
        if row is not None:
            known = (max(known[0], row.data["version"][0]), *known[1:])
        order = Order(data["epoch"], data["revision"])
        version = next_version(known, order, recount=True)
        changes |= {
            "contribution": contribution,
            "digests": {**data["digests"], "contribution": digest(contribution)},
            "counted_version": list(version),
        }
        if row is not None and not is_newer(row.data, version):
            # Its version was damaged, and would keep out all that is still to come.
            writes = [Update(row.path, row.token, {"version": [0, 0, 0]})]
    return [Update(state.path, state.token, changes), *writes] if changes else []


def _lacks_errors(
    row: Mapping[str, Any], state: Mapping[str, Any], contribution: Mapping[str, Any]
) -> bool:
    """Whether a row that knows of a state has not counted its task errors as they are.

    So it is after a release that did not know them has derived the state.
    """
    same = list(row["version"]) == list(state["counted_version"])
    return same and row.get("task_errors", {}) != contribution.get("task_errors", {})


def _missing_times(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the times that ingest keeps, where a release that does not has stored the state last.

    Nothing tells since when it has been so; at the latest since it was written last.
    """
    order = [data["epoch"], data["revision"]]
    if "status" not in data or data.get("since_order") == order:
        return {}
    since = {"status_since": data["last_updated"], "since_order": order}
    if "current_task" in data or "task_status" in data:
        since["task_since"] = data["last_updated"]
    return since
