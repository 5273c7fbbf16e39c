"""From a message of `agent-state` to a document of `agent_states`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate.errors import FieldProblem, InvalidMessageError, RefusedError
from firestate.ingest.states import HEAD, decide_state, may_be_removed
from firestate.ingest.take_overs import late_path
from firestate.pipeline.deliveries import Delivery, StepReport
from firestate.pipeline.quarantine import quarantine
from firestate.pipeline.released import check_released
from firestate.pipeline.retry import retry_on_conflict
from firestate.pipeline.state_moves import move_state
from firestate.schema.messages import parse_state_message
from firestate.stored_states import StoredState, read_state
from firestate.stores.protocol import Create, Remove, Update

if TYPE_CHECKING:
    from datetime import datetime

    from firestate.ingest.states import StateDecision
    from firestate.schema.messages import StateMessage, TombstoneMessage
    from firestate.stores.protocol import Store, Stored, Write


def ingest_state(
    store: Store, delivery: Delivery, now: datetime, *, released: bool = False
) -> StepReport:
    """Store the state, or find that it need not or must not be stored.

    A crash before the commit leaves nothing, one after it is followed by a redelivery that finds
    its own write and reports a duplicate. A message that is `released` was kept in quarantine
    through no fault of its own: it may be of any age.
    """
    try:
        message = parse_state_message(delivery.data)
        if message.migration and not released:
            check_released(store, delivery)
            released = True
        try:
            return _store_state(store, message, now, released=released)
        except RefusedError as error:
            # Never to be seen, since the schema refuses it first; but it must not loop either.
            raise InvalidMessageError("store", [FieldProblem("state", str(error))]) from error
    except InvalidMessageError as error:
        return quarantine(store, delivery, error, now)


def _store_state(
    store: Store, message: StateMessage | TombstoneMessage, now: datetime, *, released: bool
) -> StepReport:
    identity = message.identity
    path = identity.state_path

    def decide(found: StoredState, content: Stored | None = None) -> StateDecision:
        row = None
        if found.state is None and (released or may_be_removed(message, now)):
            row = store.read(identity.row_path, ["version"])
        # Another agent's document at this path is decided on only where it could not be moved.
        head = found.state or found.occupant
        return decide_state(head, message, now, row, of_any_age=released, content=content)

    def attempt(*, may_move: bool = True) -> StepReport | None:
        found = read_state(store, identity, HEAD)
        if found.state is None and found.occupant is not None and may_move:
            return None
        decision = decide(found)
        if decision.needs_content and found.state is not None:
            content = store.read(found.state.path)
            decision = decide(found, content)
        if writes := writes_of(store, path, decision):
            store.commit(writes)
        return StepReport(decision.outcome, path, f"{message.epoch}.{message.revision}")

    report = retry_on_conflict(path, attempt)
    if report is None:
        # A document of the former form lies here: it goes where it belongs, and makes room.
        move_state(store, path)
        report = retry_on_conflict(path, lambda: attempt(may_move=False))
    assert report is not None  # noqa: S101 - nothing is moved the second time
    return report


def writes_of(store: Store, path: str, decision: StateDecision) -> list[Write]:
    """Return the writes of a decision: of the state at `path`, and of what is kept beside it.

    They are one commit: the state's own write is the condition of the others.
    """
    if decision.write is None:
        return []
    removed = [late_path(path, epoch) for epoch in decision.removes_late]
    known = store.read_many(removed, ["revision"]) if removed else {}
    writes: list[Write] = [decision.write]
    writes += [Remove(each.path, each.token) for each in known.values()]
    if (late := decision.late) is not None:
        there = store.read(late.path)  # whole: fields that it has no more are removed
        if there is None:
            writes.append(Create(late.path, late.document))
        elif there.data["revision"] < late.revision:
            gone = [name for name in there.data if name not in late.document]
            writes.append(Update(late.path, there.token, late.document, gone))
    return writes
