"""What becomes of a coordination event: it is created once, and never changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate.errors import FieldProblem, InvalidMessageError
from firestate.ingest.outcomes import Outcome
from firestate.limits import EVENT_LIFETIME, LATEST_ARRIVAL
from firestate.schema.serialization import to_document
from firestate.schema.times import check_times
from firestate.schema.upgrades import document_version
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
    fields = to_document(message.event)
    check_times("event", fields, now)
    document = {
        **fields,
        "schema_version": document_version(fields),
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
