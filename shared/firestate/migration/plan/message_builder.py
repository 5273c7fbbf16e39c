"""From a record to the message that ingest would be sent, and the parts of what is too large.

The message passes ingest's own checks. What the schema has no field for, or does not take, is kept
under `memory_context.legacy` (of an event: `context.legacy`):

    format   which reader read it         guessed   fields that the file did not have
    fields   by their old names           unfit     JSON text of what Firestore cannot hold
    withheld names of secrets, left out
    parts    instead of these two, where they do not fit into the document: so many bytes of JSON,
             with their SHA-256, in documents below it, `legacy/{n}`
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from firestate.errors import InvalidMessageError
from firestate.limits import (
    FULL_STATE_BYTES,
    LEGACY_PART_BYTES,
    MAX_VALUES,
)
from firestate.migration.formats.records import Record, RecordKind
from firestate.migration.plan.schema_fitting import (
    EVENT,
    ROOM,
    STATE,
    fit_agent_id,
    keep,
    move_inexact,
    move_unfit,
)
from firestate.schema.ids import LEGACY
from firestate.schema.messages import EventMessage, StateMessage, event_message, state_message
from firestate.schema.sanitize import sanitize_id, sanitize_type
from firestate.schema.strict_json import half_pairs_in
from firestate.schema.values import extent, problems_of

if TYPE_CHECKING:
    from datetime import datetime

WRITER = "migration-"
"""What the names of writers begin with that are migrations."""

_IDS = (
    "agent_id",
    "session_id",
    "parent_agent_id",
    "parent_session_id",
    "source_agent_id",
    "target_agent_id",
)
_TYPES = ("agent_type", "parent_agent_type", "source_agent_type", "target_agent_type")
_DEPTH = 3  # legacy's fields lie in the maps memory_context, legacy and fields


@dataclass(frozen=True, slots=True)
class BuiltMessage:
    """A message, and the parts that lie below its document, by their paths.

    `guessed` are those of its fields that hang on the date of the file: two messages that differ
    in nothing else tell the same.
    """

    path: str
    message: StateMessage | EventMessage
    writer: str
    parts: dict[str, bytes]
    guessed: frozenset[str]
    kept: tuple[str, ...]

    @property
    def row_path(self) -> str:
        """The ledger row of a state; of an event there is none."""
        message = self.message
        return message.identity.row_path if isinstance(message, StateMessage) else ""


def revision_of(last_updated: datetime) -> int:
    """Give the revision of a migrated state, in epoch 0: below all that an agent writes itself."""
    return max(0, round(last_updated.timestamp() * 1_000_000))


def build_message(
    record: Record, reader: str, writer: str, event_id: str | None = None
) -> BuiltMessage:
    """Give the message of a state or an event; raise InvalidMessageError where none can be."""
    if record.stored:
        return _built(
            record, _message(record, dict(record.fields), writer), writer, record.parts, {}
        )
    of_state = record.kind is RecordKind.STATE
    body: dict[str, Any] = (STATE if of_state else EVENT) | record.fields
    left = dict(record.left)
    if not of_state:
        given = record.fields.get("event_id", "m")
        if not isinstance(given, str) or sanitize_id(given) != given:
            keep(left, "event_id", given)
        body["event_id"] = sanitize_id(event_id or str(given))
    _fit_names(body, left)
    move_inexact(body, left)
    home = "memory_context" if of_state else "context"
    if isinstance(body[home], dict) and LEGACY in body[home]:
        body[home] = dict(body[home])
        left[f"{home}.{LEGACY}"] = body[home].pop(LEGACY)
    while True:
        try:
            parts = _store_left(body, home, left, record, reader)
            message = _message(record, body, writer)
            break
        except (InvalidMessageError, UnicodeEncodeError) as found:
            # Rare, so that it is looked into only now: what does not fit is kept as it was. One
            # mistake can hide another; each time there is less left.
            error = _halves(body, of_state) if isinstance(found, UnicodeEncodeError) else found
            if error.code not in ("schema", "size") or not move_unfit(body, left, error, of_state):
                raise error from found
    return _built(record, message, writer, parts, left)


def _built(
    record: Record,
    message: StateMessage | EventMessage,
    writer: str,
    parts: dict[str, bytes],
    left: dict[str, Any],
) -> BuiltMessage:
    path = message.path if isinstance(message, EventMessage) else message.identity.state_path
    return BuiltMessage(
        path,
        message,
        writer,
        {f"{path}/{LEGACY}/{name}": data for name, data in parts.items()},
        frozenset(record.guessed) & {"created_at", "last_updated", "last_active", "timestamp"},
        tuple(sorted(left)),
    )


def _halves(body: dict[str, Any], of_state: bool) -> InvalidMessageError:  # noqa: FBT001 - as above
    """Say where halves of surrogate pairs are, over which all else would stumble."""
    found = half_pairs_in({"state" if of_state else "event": body})
    return InvalidMessageError("schema", list(found))


def _message(record: Record, body: dict[str, Any], writer: str) -> StateMessage | EventMessage:
    if record.kind is RecordKind.EVENT:
        return event_message({"event": body, "migration": True})
    raw = {
        "epoch": 0,
        "revision": revision_of(record.fields["last_updated"]),
        "writer": writer,
        "migration": True,
        "state": body,
    }
    message = state_message(raw)
    assert isinstance(message, StateMessage)  # noqa: S101 - it has no `deleted`
    return message


def _fit_names(body: dict[str, Any], left: dict[str, Any]) -> None:
    """Make ids and types of what foreign systems call their agents; keep what that changes."""
    for names, fit in ((_IDS, fit_agent_id), (_TYPES, sanitize_type)):
        for name in names:
            given = body.get(name)
            if isinstance(given, bool) or not isinstance(given, str | int):
                continue
            fitted = fit(str(given))
            if fitted != given:
                keep(left, name, given)
                body[name] = fitted


def _store_left(
    body: dict[str, Any], home: str, left: dict[str, Any], record: Record, reader: str
) -> dict[str, bytes]:
    """Put `left` into the legacy entry of `body`, or into parts; give the parts."""
    body[home] = {name: value for name, value in body[home].items() if name != LEGACY}
    if not left and not record.guessed and not record.withheld:
        return {}
    entry: dict[str, Any] = {"format": reader}
    if record.guessed:
        entry["guessed"] = list(record.guessed)
    if record.withheld:
        entry["withheld"] = list(record.withheld)
    parts: dict[str, bytes] = {}
    fields, unfit = _parted(left)
    if fields or unfit:
        size, values = extent([body, fields, unfit])
        if size > FULL_STATE_BYTES - ROOM or values > MAX_VALUES // 2:
            data = _json(left)
            digest = hashlib.sha256(data).hexdigest()
            parts = {
                f"{digest[:12]}-{number:04d}": data[start : start + LEGACY_PART_BYTES]
                for number, start in enumerate(range(0, len(data), LEGACY_PART_BYTES))
            }
            entry |= {"parts": len(parts), "bytes": len(data), "sha256": digest}
        else:
            entry |= {"fields": fields} if fields else {}
            entry |= {"unfit": unfit} if unfit else {}
    body[home][LEGACY] = entry
    return parts


def _parted(left: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Give what Firestore can hold, and the rest as a JSON text."""
    unfit = {
        name: value
        for name, value in left.items()
        if next(iter(problems_of({name: value}, "", _DEPTH - 1)), None)
    }
    fields = {name: value for name, value in left.items() if name not in unfit}
    return fields, _json(unfit).decode() if unfit else ""


def _json(value: object) -> bytes:
    # In ASCII: half of a surrogate pair is kept as it was spelled.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()
