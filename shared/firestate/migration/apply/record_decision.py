"""What becomes of a record, given what is stored: a pure decision.

stored                                     outcome
nothing                                    created, in epoch 0
nothing, but its ledger row is live        superseded: it has ended, and been removed
nothing, but the row is a tombstone's      created, above it
by a migration, the same content           there
by a migration, a newer state              superseded
by a migration, an older state             replaced
by a migration, undone                     replaced, above the tombstone
by an agent                                superseded: a migration never lowers that
event: the same content                    there
event: other content                       refused
other agent                                refused: both ids join to the same document id
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from firestate.errors import FieldProblem, InvalidMessageError
from firestate.ingest.events import event_creation
from firestate.ingest.states import HEAD as STATE_HEAD
from firestate.ingest.states import decide_state
from firestate.migration.plan.message_builder import WRITER
from firestate.schema.ids import Identity
from firestate.schema.messages import EventMessage, StateMessage
from firestate.schema.serialization import to_document
from firestate.schema.values import digest
from firestate.stores.protocol import Create, Update, Write

if TYPE_CHECKING:
    from datetime import datetime

    from firestate.migration.plan.message_builder import BuiltMessage
    from firestate.stores.protocol import Stored

MIGRATED_BY = "migrated_by"
"""The field of an event that says which migration has created it; of a state, its writer does."""

HEAD = (*STATE_HEAD, "deleted", "last_updated", "digest", MIGRATED_BY)
"""All that is read of a stored state or event."""

ROW = ("version", "contribution")
"""All that is read of a ledger row."""


class RecordOutcome(StrEnum):
    """What becomes of a record."""

    WRITTEN = "written"
    THERE = "there"
    SUPERSEDED = "superseded"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome, and the writes where there are any; `reason` says why there are none."""

    outcome: RecordOutcome
    writes: tuple[Write, ...] = ()
    reason: str = ""


def decide_record(
    built: BuiltMessage, head: Stored | None, row: Stored | None, now: datetime
) -> Decision:
    """Decide; a record that ingest would refuse is refused with its words."""
    try:
        if isinstance(built.message, EventMessage):
            return _decide_event(built, built.message, head, now)
        return _decide_state(built, built.message, head, row, now)
    except InvalidMessageError as error:
        return Decision(RecordOutcome.REFUSED, reason=str(error))
    except (KeyError, TypeError, AttributeError, ValueError):
        # What functions write has its form: somebody else has written this.
        return Decision(RecordOutcome.REFUSED, reason="the stored document, or its row, is damaged")


def _decide_event(
    built: BuiltMessage, message: EventMessage, head: Stored | None, now: datetime
) -> Decision:
    if head is None:
        creation = event_creation(message, now)
        document = Create(creation.path, {**creation.data, MIGRATED_BY: built.writer})
        return Decision(RecordOutcome.WRITTEN, (document, *_parts(built, document)))
    if head.data.get("digest") == message.content_digest or _same_but_for_time(built, head):
        return Decision(RecordOutcome.THERE)
    problem = FieldProblem("event.event_id", "is stored with other content")
    raise InvalidMessageError("conflict", [problem])


def _same_but_for_time(built: BuiltMessage, head: Stored) -> bool:
    """Whether an event that was found by its id, under another time, tells the same."""
    if head.path == built.path or not isinstance(built.message, EventMessage):
        return False
    expected = to_document(built.message.event)
    return all(expected[name] == head.data.get(name) for name in expected.keys() - built.guessed)


def _decide_state(
    built: BuiltMessage,
    message: StateMessage,
    head: Stored | None,
    row: Stored | None,
    now: datetime,
) -> Decision:
    if head is None:
        if row is not None:
            if has_ended(row):
                return Decision(
                    RecordOutcome.SUPERSEDED, reason="it has ended, and been removed since"
                )
            message = _above(message, row.data["version"][2])
    else:
        if Identity(*(head.data[name] for name in Identity._fields)) != message.identity:
            decide_state(head, message, now, None)  # raises what ingest says of it
        if not _of_migration(head):
            return Decision(RecordOutcome.SUPERSEDED, reason="its agent has written it since")
        if not head.data.get("deleted"):
            if _same(built, message, head):
                return Decision(RecordOutcome.THERE)
            if is_newer_state(head, message):
                return Decision(RecordOutcome.SUPERSEDED, reason="a newer file of it was migrated")
        message = _above(message, head.data["revision"])
    decision = decide_state(head, message, now, None)
    if not isinstance(decision.write, Create | Update):  # pragma: no cover - it is above
        return Decision(RecordOutcome.SUPERSEDED, reason=decision.outcome.value)
    return Decision(RecordOutcome.WRITTEN, (decision.write, *_parts(built, decision.write)))


def _parts(built: BuiltMessage, document: Create | Update) -> list[Write]:
    """Give the parts; they go when the document does, if that is known already."""
    expiry = {k: v for k, v in document.data.items() if k == "expire_at"}
    # Below the document, which may lie at the former path of its identity.
    return [
        Create(document.path + path.removeprefix(built.path), {"data": data, **expiry})
        for path, data in built.parts.items()
    ]


def _of_migration(head: Stored) -> bool:
    written: bool = head.data["epoch"] == 0 and head.data["writer"].startswith(WRITER)
    return written


def _above(message: StateMessage, revision: int) -> StateMessage:
    return message.model_copy(update={"revision": max(message.revision, revision + 1)})


def _same(built: BuiltMessage, message: StateMessage, head: Stored) -> bool:
    """Whether the stored state tells the same, whatever the date of the file was."""
    arrived = {name: digest(value) for name, value in to_document(message.state).items()}
    stored = {k: v for k, v in head.data["digests"].items() if k != "contribution"}
    names = (arrived.keys() | stored.keys()) - built.guessed
    return all(arrived.get(name) == stored.get(name) for name in names)


def has_ended(row: Stored) -> bool:
    """Whether a ledger row, whose document is gone, is of a session that ended by itself.

    That of one that was undone has neither an epoch nor a status.
    """
    _, epoch, _ = row.data["version"]
    return bool(epoch or "status" in row.data["contribution"])


def is_newer_state(head: Stored, message: StateMessage) -> bool:
    """Whether a state that another migration has stored is newer than this one."""
    # Two of one time: which of them is the newer must not depend on which comes first.
    arrived = {name: digest(value) for name, value in to_document(message.state).items()}
    stored = {k: v for k, v in head.data["digests"].items() if k != "contribution"}
    theirs = (head.data["last_updated"], digest(stored))
    return bool(theirs > (message.state.last_updated, digest(arrived)))
