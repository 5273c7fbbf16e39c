"""What becomes of a state message, given what is stored: a pure decision.

stored        arriving             outcome
nothing       not too old          stored
nothing       older than 30 days   quarantine: its document may have been removed
nothing       earlier than the row quarantine: its document was later, and has been removed
anything      a time that is ahead quarantine: its clock is wrong
1.5           1.6, or 2.0          stored: later replaces earlier
1.5           1.4, or 0.9          superseded, or late: of a former holder (ingest/take_overs)
1.5           1.5, same content    duplicate
1.5           1.5, other content   quarantine: two writers claim one place in the order
other agent   anything             quarantine: its document lies where this one belongs

Beside what the agent says a document holds what ingest keeps about it: the digest of each field,
so that only what has changed is written; the contribution and its version; since when the status
and the task have been as they are (`status_since`, `task_since`), by the agent's own times: of
states that came so late that a later one was there, nothing is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from firestate.counters.contribution import CODE, Version, contribution_of
from firestate.errors import FieldProblem, InvalidMessageError
from firestate.ingest.outcomes import Outcome
from firestate.ingest.take_overs import (
    KEPT,
    comes_too_late_to_adopt,
    end_of_stored,
    ended_late,
    ends_as_stored,
    is_late,
    is_of_ended,
    is_replaced,
    kept_fields,
    late_of_message,
    late_of_stored,
    leaves_late,
    told_of,
)
from firestate.limits import LATEST_ARRIVAL, STATE_LIFETIME
from firestate.schema.ids import Identity
from firestate.schema.messages import Order, StateMessage, TombstoneMessage
from firestate.schema.serialization import to_document
from firestate.schema.times import check_times
from firestate.schema.upgrades import upgrade_document
from firestate.schema.values import digest
from firestate.stores.protocol import Create, Update, Write

if TYPE_CHECKING:
    from datetime import datetime

    from firestate.ingest.take_overs import Late
    from firestate.stores.protocol import Stored

HEAD = (
    *Identity._fields,
    "epoch",
    "revision",
    "writer",
    "digests",
    "counted_version",
    "counted_at",
    "status_since",
    "task_since",
    "since_order",
    *KEPT,
)
"""All of a stored state that the decision needs: the read is masked to it."""


EDITED = ""
"""In place of a field's digest: somebody has edited the field. The next snapshot writes it anew."""

_STATUS = ("status",)
_TASK = ("current_task", "task_status")


@dataclass(frozen=True, slots=True)
class StateDecision:
    """The outcome, and the writes: of the state, and of what is late beside it.

    `needs_content`: it has to be made again with the whole document that is stored.
    `removes_late`: the states of those epochs that are kept beside it go with it.
    """

    outcome: Outcome
    write: Write | None = None
    late: Late | None = None
    removes_late: tuple[int, ...] = ()
    needs_content: bool = False


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
    *,
    of_any_age: bool = False,
    content: Stored | None = None,
) -> StateDecision:
    """Decide; raise InvalidMessageError for a message that belongs into quarantine.

    `row` is the ledger row of a session whose document is absent, where it `may_be_removed`.
    `of_any_age` lets an old message in whose document is absent: it was kept back by us, and its
    row tells whether the session has ended since. `content` is the whole document that is stored,
    where a decision without it has asked for that.
    """
    body = _body(message)
    check_times("state" if isinstance(message, StateMessage) else "deleted", body.fields, now)
    if head is None:
        if not (message.migration or of_any_age) and body.at < now - LATEST_ARRIVAL:
            raise _invalid("too_late", "state", f"is of {body.at:%Y-%m-%d}, older than 30 days")
        return _first(message, body, now, row)
    stored_as = tuple(head.data.get(name) for name in Identity._fields)
    if stored_as != message.identity:
        raise _invalid("identity", "state", f"would replace the document of {stored_as}")
    stored_order = Order(head.data["epoch"], head.data["revision"])
    if message.order < stored_order:
        return _earlier(head, message, now, content)
    if message.order == stored_order:
        if is_replaced(head, message):
            return StateDecision(Outcome.SUPERSEDED)
        if same_content(head, message):
            return StateDecision(Outcome.DUPLICATE)
        reason = f"{message.epoch}.{message.revision} is stored with other content"
        raise _invalid("conflict", "revision", reason)

    return _later(head, message, body, now, content)


def _earlier(
    head: Stored,
    message: StateMessage | TombstoneMessage,
    now: datetime,
    content: Stored | None,
) -> StateDecision:
    """Decide on a message that is earlier than what is stored."""
    if not isinstance(message, StateMessage) or not is_late(head, message):
        return StateDecision(Outcome.SUPERSEDED)
    if is_of_ended(head, message):
        if content is None:
            return StateDecision(Outcome.STORED, needs_content=True)
        ended = ended_late(content, message)
        document = _document(ended, _body(ended), now, head) | kept_fields(head, ended, None)
        return StateDecision(Outcome.STORED, _update(head, document))
    late = late_of_message(message, now)
    write = Update(head.path, head.token, told_of(head, late, message.epoch))
    return StateDecision(Outcome.STORED, write, late)


def _later(
    head: Stored,
    message: StateMessage | TombstoneMessage,
    body: _Body,
    now: datetime,
    content: Stored | None,
) -> StateDecision:
    """Decide on a message that is later than what is stored."""
    if comes_too_late_to_adopt(head, message):
        return StateDecision(Outcome.SUPERSEDED)
    late = None
    if isinstance(message, StateMessage) and leaves_late(head, message):
        if content is None:
            return StateDecision(Outcome.STORED, needs_content=True)
        if ends_as_stored(content, message):
            message = end_of_stored(content, message)
            body = _body(message)
        else:
            late = late_of_stored(content, now)
    document = _document(message, body, now, head) | kept_fields(head, message, late)
    removes = (
        () if isinstance(message, StateMessage) else tuple(map(int, head.data.get("late", ())))
    )
    return StateDecision(Outcome.STORED, _update(head, document), late, removes)


def _first(
    message: StateMessage | TombstoneMessage, body: _Body, now: datetime, row: Stored | None
) -> StateDecision:
    if row is not None and message.order < Order(*row.data["version"][1:]):
        reason = "is earlier than one that was stored, and has been removed since"
        raise _invalid("too_late", "revision", reason)
    document = _document(message, body, now, head=None) | kept_fields(None, message, None)
    return StateDecision(Outcome.STORED, Create(message.identity.state_path, document))


def _update(head: Stored, document: dict[str, Any]) -> Update:
    """Return the write of what differs from the stored state."""
    before, after = head.data["digests"], document["digests"]
    unchanged = {name for name in after if after[name] == before.get(name)}
    removed = [name for name in before if name not in after]
    if "expire_at" not in document:
        removed.append("expire_at")
    for name in ("status_since", "task_since", "since_order", *KEPT):
        if name not in document and name in head.data:
            removed.append(name)
        elif name in document and document[name] == head.data.get(name):
            unchanged.add(name)
    changes = {name: value for name, value in document.items() if name not in unchanged}
    return Update(head.path, head.token, changes, removed)


def next_version(stored: Version | None, order: Order, *, recount: bool = False) -> Version:
    """Give the version for a contribution that changed; it always replaces `stored`.

    Its first number is that of the contribution code, or higher: a recount of the same state by
    other code has nothing else to rise by, also when an older release is put back.
    """
    generation = CODE if stored is None else max(CODE, stored[0] + int(recount))
    return (generation, *order)


class _Body(NamedTuple):
    """What a message says: its fields as they are stored, its time, the version of their form."""

    fields: dict[str, Any]
    at: datetime
    version: int


def _body(message: StateMessage | TombstoneMessage) -> _Body:
    if isinstance(message, StateMessage):
        fields, version = message.stored_fields()
        return _Body(fields, message.state.last_updated, version)
    fields = to_document(message.deleted) | {"deleted": True}
    return _Body(fields, message.deleted.deleted_at, 1)


def _document(
    message: StateMessage | TombstoneMessage, body: _Body, now: datetime, head: Stored | None
) -> dict[str, Any]:
    fields, at = body.fields, body.at
    contribution = contribution_of(upgrade_document(fields | {"schema_version": body.version}))
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
        # What comes late of an ended session takes the place of its state under the same order.
        is_same = stored is not None and stored[1:] == message.order
        version = next_version(stored, message.order, recount=is_same)
        counted = {"counted_version": list(version), "counted_at": at}
    document = {
        **fields,
        **counted,
        **_since(fields, digests, at, message.order, head),
        "schema_version": body.version,
        "epoch": message.epoch,
        "revision": message.revision,
        "writer": message.writer,
        "digests": digests,
        "contribution": contribution,
    }
    if head is not None and head.data["writer"] != message.writer:
        # By this the former writer, which watches for its own name, learns that it is fenced off.
        document |= {"fenced_writer": head.data["writer"], "fenced_at": now}
    if fields.get("deleted") or fields.get("status") == "terminated":
        document["expire_at"] = now + STATE_LIFETIME
    return document


def _since(
    fields: dict[str, Any], digests: dict[str, str], at: datetime, order: Order, head: Stored | None
) -> dict[str, Any]:
    """Return since when the status and the task have been what they are, as far as they are.

    What the stored state has not changed keeps its time. `since_order` names the state that these
    times are of. Where a release that does not keep them has stored a later one, it is not known
    what was in between: then it is the time of this message, later than the truth, never earlier.
    """
    before = {} if head is None else head.data["digests"]
    known: dict[str, Any] = {}
    if head is not None and head.data.get("since_order") == [
        head.data["epoch"],
        head.data["revision"],
    ]:
        known = head.data
    since: dict[str, Any] = {}
    for name, parts in (("status_since", _STATUS), ("task_since", _TASK)):
        if any(part in fields for part in parts):
            same = all(digests.get(part) == before.get(part) for part in parts)
            since[name] = known.get(name, at) if same else at
    return since | {"since_order": list(order)} if since else {}


def same_content(head: Stored, message: StateMessage | TombstoneMessage) -> bool:
    """Whether a stored state (its writer, version and digests) says what a message says.

    The contribution is left out: it depends on the release that computed it.
    """
    fields = _body(message).fields
    stored = {k: v for k, v in head.data["digests"].items() if k != "contribution"}
    arrived = {name: digest(value) for name, value in fields.items()}
    unsure = {name for name, known in stored.items() if known == EDITED}
    same_writer: bool = head.data["writer"] == message.writer
    return same_writer and all(
        stored.get(name) == arrived.get(name) for name in (stored.keys() | arrived.keys()) - unsure
    )


def _invalid(code: str, field: str, reason: str) -> InvalidMessageError:
    return InvalidMessageError(code, [FieldProblem(field, reason)])
