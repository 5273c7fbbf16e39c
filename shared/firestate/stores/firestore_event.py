"""What a Firestore trigger brings: the document as it is after the change.

The data of such an event is the protobuf `google.events.cloud.firestore.v1.DocumentEventData`,
whose field 1 is a Document with the same layout as the one of Firestore's own API. Of the
messages that the client library already has, `DocumentChange` has a Document in field 1 and no
fields 2 and 3, so it reads such an event as it is, without another package to load on a cold start.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from google.api_core.datetime_helpers import DatetimeWithNanoseconds
from google.cloud.firestore_v1.types import DocumentChange
from google.protobuf.message import DecodeError

from firestate.errors import FieldProblem, InvalidMessageError
from firestate.stores.protocol import Stored

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME_PARTS_BEFORE_PATH = 5  # projects/P/databases/D/documents


def changed_document(data: bytes, fields: Sequence[str] | None = None) -> Stored | None:
    """Read the event's document, or only `fields` of it; None if the change was its removal.

    Raises InvalidMessageError for bytes that are no such event.
    """
    try:
        document = DocumentChange.pb().FromString(data).document
    except DecodeError as error:
        problem = FieldProblem("data", "is no Firestore event")
        raise InvalidMessageError("event", [problem]) from error
    if not document.name:
        return None
    path = document.name.split("/", _NAME_PARTS_BEFORE_PATH)[_NAME_PARTS_BEFORE_PATH]
    updated_at: datetime = DatetimeWithNanoseconds.from_timestamp_pb(document.update_time)  # type: ignore[no-untyped-call] # the library has no types here
    values = {
        name: _value(value)
        for name, value in document.fields.items()
        if fields is None or name in fields
    }
    return Stored(path, values, updated_at, updated_at)


def _value(value: Any) -> Any:  # noqa: ANN401 - one return for each kind of value
    match value.WhichOneof("value_type"):
        case "map_value":
            return {name: _value(item) for name, item in value.map_value.fields.items()}
        case "array_value":
            return [_value(item) for item in value.array_value.values]
        case "timestamp_value":
            moment: datetime = value.timestamp_value.ToDatetime(tzinfo=UTC)
            return moment
        case "null_value" | None:
            return None
        case kind:
            return getattr(value, kind)
