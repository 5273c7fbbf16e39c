"""From a message of `agent-state` to a document of `agent_states`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate.errors import FieldProblem, InvalidMessageError, RefusedError
from firestate.ingest.states import HEAD, decide_state, may_be_removed
from firestate.pipeline.deliveries import Delivery, StepReport
from firestate.pipeline.quarantine import quarantine
from firestate.pipeline.retry import retry_on_conflict
from firestate.schema.messages import parse_state_message

if TYPE_CHECKING:
    from datetime import datetime

    from firestate.stores.protocol import Store


def ingest_state(store: Store, delivery: Delivery, now: datetime) -> StepReport:
    """Store the state, or find that it need not or must not be stored.

    A crash before the commit leaves nothing, one after it is followed by a redelivery that finds
    its own write and reports a duplicate.
    """
    try:
        message = parse_state_message(delivery.data)
        path = message.identity.state_path

        def attempt() -> StepReport:
            head = store.read(path, HEAD)
            row = None
            if head is None and may_be_removed(message, now):
                row = store.read(message.identity.row_path, ["version"])
            decision = decide_state(head, message, now, row)
            if decision.write is not None:
                store.commit([decision.write])
            version = f"{message.epoch}.{message.revision}"
            return StepReport(decision.outcome, path, version)

        try:
            return retry_on_conflict(path, attempt)
        except RefusedError as error:
            # Never to be seen, since the schema refuses it first; but it must not loop either.
            raise InvalidMessageError("store", [FieldProblem("state", str(error))]) from error
    except InvalidMessageError as error:
        return quarantine(store, delivery, error, now)
