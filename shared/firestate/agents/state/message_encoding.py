"""From an agent's state to the bytes of a message: checked as the functions will check it.

So that nothing is refused once it is on its way: what comes out of here is accepted by ingest.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import to_json

from firestate.errors import InvalidMessageError
from firestate.limits import MAX_EVENT_BYTES, MAX_STATE_BYTES, MAX_VALUES
from firestate.schema.messages import EventMessage, Order, check_size, problems_in
from firestate.schema.models import AgentState, CoordinationEvent
from firestate.schema.upgrades import MESSAGE_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firestate.schema.ids import Identity

_MOST_FIRESTORE_BYTES_A_CHARACTER = 8
"""A number takes eight bytes in Firestore, and in JSON at least one character with its comma."""


def checked_state(fields: Mapping[str, Any]) -> AgentState:
    """Give the state of plain `fields`; raise InvalidMessageError with each field that is wrong."""
    try:
        return AgentState.model_validate(fields)
    except ValidationError as error:
        raise InvalidMessageError("schema", problems_in(error)) from error


def checked_event(fields: Mapping[str, Any]) -> EventMessage:
    """Give the message of an event; raise InvalidMessageError like the above."""
    try:
        event = CoordinationEvent.model_validate(fields)
    except ValidationError as error:
        raise InvalidMessageError("schema", problems_in(error)) from error
    return EventMessage(event=event)


def state_data(body: bytes, order: Order, writer: str) -> bytes:
    """Give the bytes of a state message; raise InvalidMessageError where it is too large.

    `body` is the JSON of the state, checked.
    """
    return _data("state", body, MAX_STATE_BYTES, _envelope(order, writer))


def event_data(message: EventMessage) -> bytes:
    """Give the bytes of an event message; raise InvalidMessageError where it is too large."""
    # By way of plain values: what a signal raises in the code of an enum comes out as it is.
    body = to_json(message.event.model_dump(mode="json"))
    return _data("event", body, MAX_EVENT_BYTES, {"schema_version": MESSAGE_VERSION})


def tombstone_data(identity: Identity, deleted_at: str, order: Order, writer: str) -> bytes:
    """Give the bytes of the message that a state is deleted."""
    deleted = {**identity._asdict(), "deleted_at": deleted_at}
    return to_json({**_envelope(order, writer), "deleted": deleted})


def _envelope(order: Order, writer: str) -> dict[str, Any]:
    return {"schema_version": MESSAGE_VERSION, **order._asdict(), "writer": writer}


def _data(name: str, body: bytes, most: int, envelope: dict[str, Any]) -> bytes:
    # To count as Firestore does takes longer than all the rest: only what could be too large.
    if len(body) * _MOST_FIRESTORE_BYTES_A_CHARACTER > most or len(body) > MAX_VALUES:
        check_size(name, json.loads(body), most)
    return b'%s,"%s":%s}' % (to_json(envelope)[:-1], name.encode(), body)
