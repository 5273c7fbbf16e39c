"""What becomes of a coordination event: it is created once, and never changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate.errors import FieldProblem, InvalidMessageError
from firestate.ingest.outcomes import Outcome
from firestate.limits import EARLIEST_ARRIVAL, EVENT_LIFETIME, LATEST_ARRIVAL
from firestate.schema.serialization import to_document
from firestate.stores.protocol import Create

if TYPE_CHECKING:
    from datetime import datetime

    from firestate.schema.messages import EventMessage
    from firestate.stores.protocol import Stored

HEAD = ("digest",)


def event_creation(message: EventMessage, now: datetime) -> Create:
    """Give the write that stores the event. It says nothing of being counted: that is a mark.

    Raises InvalidMessageError for an event that is dated more than a day ahead.
    """
    if message.event.timestamp > now + EARLIEST_ARRIVAL:
        reason = f"is of {message.event.timestamp:%Y-%m-%d}, which is yet to come"
        raise InvalidMessageError("too_early", [FieldProblem("event.timestamp", reason)])
    document = {
        **to_document(message.event),
        "schema_version": 1,
        "digest": message.content_digest,
        "expire_at": now + EVENT_LIFETIME,
    }
    return Create(message.path, document)


def may_be_expired(message: EventMessage, now: datetime) -> bool:
    """Whether the event is so old that its document may have been stored and removed already.

    Only such a one is looked up before it is created.
    """
    return not message.migration and message.event.timestamp < now - LATEST_ARRIVAL


def decide_known_event(head: Stored | None, message: EventMessage) -> Outcome:
    """Decide on an event that is stored already, or (None) too old to be stored.

    Raises InvalidMessageError if it belongs into quarantine.
    """
    if head is None:
        reason = f"is of {message.event.timestamp:%Y-%m-%d}, older than 30 days"
        raise InvalidMessageError("too_late", [FieldProblem("event.timestamp", reason)])
    if head.data.get("digest") == message.content_digest:
        return Outcome.DUPLICATE
    problem = FieldProblem("event.event_id", "is stored with other content")
    raise InvalidMessageError("conflict", [problem])
