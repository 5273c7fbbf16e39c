"""From a message of `agent-coordination` to a document of `coordination`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate.errors import ExistsError, FieldProblem, InvalidMessageError, RefusedError
from firestate.ingest.events import HEAD, decide_known_event, event_creation, may_be_expired
from firestate.ingest.outcomes import Outcome
from firestate.pipeline.deliveries import Delivery, StepReport
from firestate.pipeline.quarantine import quarantine
from firestate.pipeline.released import check_released
from firestate.pipeline.retry import retry_on_conflict
from firestate.schema.messages import EventMessage, parse_event_message

if TYPE_CHECKING:
    from datetime import datetime

    from firestate.stores.protocol import Store


def ingest_event(store: Store, delivery: Delivery, now: datetime) -> StepReport:
    """Store the event, unless it is there already.

    It is created without looking first, which costs one write; only a refusal is looked into.
    """
    try:
        message = parse_event_message(delivery.data)
        if message.migration:
            check_released(store, delivery)
        try:
            return StepReport(_store_event(store, message, now), message.path)
        except RefusedError as error:
            raise InvalidMessageError("store", [FieldProblem("event", str(error))]) from error
    except InvalidMessageError as error:
        return quarantine(store, delivery, error, now)


def _store_event(store: Store, message: EventMessage, now: datetime) -> Outcome:
    if may_be_expired(message, now):
        return decide_known_event(store.read(message.path, HEAD), message)

    def attempt() -> Outcome:
        try:
            store.commit([event_creation(message, now)])
        except ExistsError:
            known = store.read(message.path, HEAD)
            if known is None:
                raise  # removed in between: created at the next try
            return decide_known_event(known, message)
        return Outcome.STORED

    return retry_on_conflict(message.path, attempt)
