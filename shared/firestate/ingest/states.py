"""What becomes of a state message, given what is stored: a pure decision.

stored        arriving             outcome
nothing       not too old          stored
nothing       older than 30 days   quarantine: its document may have been removed
nothing       earlier than the row quarantine: its document was later, and has been removed
anything      of the day after     quarantine: its clock is wrong
1.5           1.6, or 2.0          stored: later replaces earlier
1.5           1.4, or 0.9          superseded
1.5           1.5, same content    duplicate
1.5           1.5, other content   quarantine: two writers claim one place in the order
other agent   anything             quarantine: both ids join to the same document id
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from firestate.counters.contribution import CODE, Version, contribution_of
from firestate.errors import FieldProblem, InvalidMessageError
from firestate.ingest.outcomes import Outcome
from firestate.limits import EARLIEST_ARRIVAL, LATEST_ARRIVAL, STATE_LIFETIME
from firestate.schema.ids import Identity
from firestate.schema.messages import Order, StateMessage, TombstoneMessage
from firestate.schema.serialization import to_document
from firestate.schema.values import digest
from firestate.stores.protocol import Create, Update, Write

if TYPE_CHECKING:
    from datetime import datetime

    from firestate.stores.protocol import Stored

HEAD = (
    *Identity._fields,
    "epoch",
    "revision",
    "writer",
    "digests",
    "counted_version",
    "counted_at",
)
"""All of a stored state that the decision needs: the read is masked to it."""


@dataclass(frozen=True, slots=True)
class StateDecision:
    """The outcome, and the write where there is one."""

    outcome: Outcome
    write: Write | None = None


def may_be_removed(message: StateMessage | TombstoneMessage, now: datetime) -> bool:
    """Whether a document that is absent may have been there: its session is old enough for that.

    Only then the ledger row, which is never removed, is looked up as well. A writer that has
    been fenced off, and goes on for so long, would bring back what has ended.
    """
    if isinstance(message, TombstoneMessage):
        return True
    return message.state.created_at < now - LATEST_ARRIVAL


def decide_state(
    head: Stored | None,
    message: StateMessage | TombstoneMessage,
    now: datetime,
    row: Stored | None = None,
) -> StateDecision:
    """Decide; raise InvalidMessageError for a message that belongs into quarantine.

    `row` is the ledger row of a session whose document is absent, where it `may_be_removed`.
    """
    fields, at = _fields(message)
    if at > now + EARLIEST_ARRIVAL:
        raise _invalid("too_early", "state", f"is of {at:%Y-%m-%d}, which is yet to come")
    if head is None:
        if not message.migration and at < now - LATEST_ARRIVAL:
            raise _invalid("too_late", "state", f"is of {at:%Y-%m-%d}, older than 30 days")
        if row is not None and message.order < Order(*row.data["version"][1:]):
            reason = "is earlier than one that was stored, and has been removed since"
            raise _invalid("too_late", "revision", reason)
        write: Write = Create(
            message.identity.state_path, _document(message, fields, at, now, head=None)
        )
        return StateDecision(Outcome.STORED, write)

    if (stored_as := Identity(*(head.data[name] for name in Identity._fields))) != message.identity:
        raise _invalid("identity", "state", f"would replace the document of {stored_as}")
    stored_order = Order(head.data["epoch"], head.data["revision"])
    if message.order < stored_order:
        return StateDecision(Outcome.SUPERSEDED)
    if message.order == stored_order:
        if _same_content(head, message, fields):
            return StateDecision(Outcome.DUPLICATE)
        reason = f"{message.epoch}.{message.revision} is stored with other content"
        raise _invalid("conflict", "revision", reason)

    document = _document(message, fields, at, now, head)
    before, after = head.data["digests"], document["digests"]
    unchanged = {name for name in after if after[name] == before.get(name)}
    removed = [name for name in before if name not in after]
    if "expire_at" not in document:
        removed.append("expire_at")
    changes = {name: value for name, value in document.items() if name not in unchanged}
    return StateDecision(Outcome.STORED, Update(head.path, head.token, changes, removed))


def next_version(stored: Version | None, order: Order, *, recount: bool = False) -> Version:
    """Give the version for a contribution that changed; it always replaces `stored`.

    Its first number is that of the contribution code, or higher: a recount of the same state by
    other code has nothing else to rise by, also when an older release is put back.
    """
    generation = CODE if stored is None else max(CODE, stored[0] + int(recount))
    return (generation, *order)


def _fields(message: StateMessage | TombstoneMessage) -> tuple[dict[str, Any], datetime]:
    if isinstance(message, StateMessage):
        return to_document(message.state), message.state.last_updated
    return to_document(message.deleted) | {"deleted": True}, message.deleted.deleted_at


def _document(
    message: StateMessage | TombstoneMessage,
    fields: dict[str, Any],
    at: datetime,
    now: datetime,
    head: Stored | None,
) -> dict[str, Any]:
    contribution = contribution_of(fields)
    digests = {name: digest(value) for name, value in fields.items()}
    digests["contribution"] = digest(contribution)
    if (
        head is not None
        and head.data["epoch"] == message.epoch
        and head.data["digests"]["contribution"] == digests["contribution"]
    ):
        # The version stays: the trigger of this write then costs one read, and still heals a
        # lost one before it, because it brings the version and the contribution that was lost.
        # Not across epochs: the row is to know the latest of them, and keep out former writers
        # also once this document has expired.
        counted = {name: head.data[name] for name in ("counted_version", "counted_at")}
    else:
        stored = tuple(head.data["counted_version"]) if head is not None else None
        version = next_version(stored, message.order)
        counted = {"counted_version": list(version), "counted_at": at}
    document = {
        **fields,
        **counted,
        "schema_version": 1,
        "epoch": message.epoch,
        "revision": message.revision,
        "writer": message.writer,
        "digests": digests,
        "contribution": contribution,
    }
    if head is not None and head.data["writer"] != message.writer:
        # By this the former writer, which watches for its own name, learns that it is fenced off.
        document["fenced_writer"] = head.data["writer"]
    if fields.get("deleted") or fields.get("status") == "terminated":
        document["expire_at"] = now + STATE_LIFETIME
    return document


def _same_content(
    head: Stored, message: StateMessage | TombstoneMessage, fields: dict[str, Any]
) -> bool:
    # The contribution is left out: it depends on the release that computed it.
    stored = {k: v for k, v in head.data["digests"].items() if k != "contribution"}
    arrived = {name: digest(value) for name, value in fields.items()}
    same_writer: bool = head.data["writer"] == message.writer
    return same_writer and stored == arrived


def _invalid(code: str, field: str, reason: str) -> InvalidMessageError:
    return InvalidMessageError(code, [FieldProblem(field, reason)])
