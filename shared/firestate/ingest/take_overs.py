"""What becomes of the last states of those that a session was taken from: a pure decision.

A state of a former holder, later than what the holder has taken along of it (schema/take_over):

session                  arrives first              outcome
taken up                 the holder's, then it      kept at late/{epoch}, the holder is told
taken up                 it, then the holder's      moved to late/{epoch}, the holder is told
resumed as another one   in either order            it is the state, ended as the resume says
  with work of its own   in either order            as if taken up
deleted                  in either order            superseded
adopted                  in either order            superseded: the first who adopts it has it

The holder is told by `late_writer`, for which it watches: it reads what is late, merges it into its
own state, and says so there.

Who resumes a session that it has never held ends it as it is: `ended_with` names the former holder
whose state that is. A later state of that one takes its place, under the order of the end, and the
one who has ended it need not be there. Should that one save to it after all, what took its place is
late, like any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from firestate.counters.task_totals import totals_of
from firestate.limits import STATE_LIFETIME
from firestate.schema.ids import LATE, Identity
from firestate.schema.messages import Order, StateMessage
from firestate.schema.models import AgentState
from firestate.schema.serialization import from_document, to_document
from firestate.schema.take_over import (
    ADOPTS,
    ENDED_WITH,
    RESUMED_AS,
    TAKEN_ALONG,
    TAKEN_BY,
    ended_with,
    may_be_late,
    note_of_end,
    taken_along,
)
from firestate.schema.upgrades import document_version

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from firestate.schema.messages import TombstoneMessage
    from firestate.stores.protocol import Stored

KEPT = ("taken_along", "late", "late_writer", "goes_on_as", "ended_with")
"""The fields that ingest keeps beside a state about those that had its session before."""


class Late(NamedTuple):
    """A state that is to be kept at `late/{epoch}`, unless a later one of that epoch is there."""

    path: str
    revision: int
    document: dict[str, Any]


def late_path(state_path: str, epoch: int) -> str:
    """Return where what is late of an epoch is kept."""
    return f"{state_path}/{LATE}/{epoch}"


def is_late(head: Stored, message: StateMessage | TombstoneMessage) -> bool:
    """Whether an earlier message than what is stored holds what its holder does not have."""
    if not isinstance(message, StateMessage):
        return False
    along = _revisions(head.data.get("taken_along"))
    epoch, revision = message.order
    if ADOPTS in message.state.collaboration_context:
        return False  # another one was first: this one has not worked on it
    if epoch not in along and not _along(message):
        return False  # no take-over that the holder has missed
    if head.data.get("late", {}).get(str(epoch), -1) >= revision:
        return False
    return epoch != head.data["epoch"] and may_be_late(epoch, revision, along)


def comes_too_late_to_adopt(head: Stored, message: StateMessage | TombstoneMessage) -> bool:
    """Whether a message takes a session on condition of what is not stored any more."""
    if not isinstance(message, StateMessage) or message.epoch == head.data["epoch"]:
        return False
    wanted = message.state.collaboration_context.get(ADOPTS)
    return wanted is not None and wanted != f"{head.data['epoch']}.{head.data['revision']}"


def content_order(head: Stored) -> Order:
    """Return where the state that is stored comes from: its own place, or a former holder's."""
    own = Order(head.data["epoch"], head.data["revision"])
    kept = head.data.get("ended_with")
    # A release that does not know the field leaves it beside a later state.
    return Order(*kept["state"]) if kept and kept["order"] == [*own] else own


def leaves_late(head: Stored, message: StateMessage | TombstoneMessage) -> bool:
    """Whether a later message replaces a state that its writer has not taken along."""
    order = content_order(head)
    if not isinstance(message, StateMessage) or message.epoch == order.epoch:
        return False
    if "deleted" in head.data["digests"]:
        return False  # there is no state to be kept
    return may_be_late(*order, _along(message))


def is_replaced(head: Stored, message: StateMessage | TombstoneMessage) -> bool:
    """Whether a later state of a former holder has taken the place of what a message holds."""
    is_another = content_order(head).epoch != head.data["epoch"]
    return is_another and message.writer == head.data["writer"] and leaves_late(head, message)


def ends_as_stored(head: Stored, message: StateMessage) -> bool:
    """Whether a message ends the session of the very one whose state is stored."""
    epoch = ended_with(message.state.collaboration_context, message.order)
    return goes_on_as(message) is not None and epoch == content_order(head).epoch


def late_of_message(message: StateMessage, now: datetime) -> Late:
    """Return what is to be kept of a message that comes late."""
    fields, version = message.stored_fields()
    fields |= {"schema_version": version, "writer": message.writer}
    return _late(message.identity, message.order, fields, now)


def late_of_stored(stored: Stored, now: datetime) -> Late:
    """Return what is to be kept of a stored state that is replaced; needs the whole document."""
    data = stored.data
    state = from_document(AgentState, data)
    fields = to_document(state)
    fields |= {"schema_version": document_version(fields), "writer": data["writer"]}
    identity = Identity(state.agent_type, state.agent_id, state.session_id)
    return _late(identity, content_order(stored), fields, now)


def _late(identity: Identity, order: Order, fields: dict[str, Any], now: datetime) -> Late:
    document = {**fields, **order._asdict(), "expire_at": now + STATE_LIFETIME}
    return Late(late_path(identity.state_path, order.epoch), order.revision, document)


def ended_late(stored: Stored, message: StateMessage) -> StateMessage:
    """Return what a late message makes of an ended session; needs the whole document."""
    place = {name: stored.data[name] for name in ("epoch", "revision", "writer")}
    return _ended(
        message.state,
        message.model_copy(update=place),
        known=stored.data["collaboration_context"],
        goes_on_as=stored.data["goes_on_as"],
        former=message.order,
    )


def end_of_stored(stored: Stored, message: StateMessage) -> StateMessage:
    """Return what a resume makes of a state that is later than what it has taken along."""
    return _ended(
        from_document(AgentState, stored.data),
        message,
        known=message.state.collaboration_context,
        goes_on_as=message.state.collaboration_context[RESUMED_AS],
        former=content_order(stored),
    )


def _ended(
    state: AgentState,
    message: StateMessage,
    *,
    known: Mapping[str, Any],
    goes_on_as: str,
    former: Order,
) -> StateMessage:
    """Return a message with the state of a former holder, ended as the resume says.

    `known` is the context of who has ended it, and says what that has taken along of others. Of the
    former holder it is this very state: what comes later is merged by the difference to that.
    """
    fields = state.model_dump(mode="json")
    own = state.collaboration_context
    bases = {
        **{str(epoch): known[TAKEN_ALONG][str(epoch)] for epoch in taken_along(known)},
        **{str(epoch): own[TAKEN_ALONG][str(epoch)] for epoch in taken_along(own)},
        str(former.epoch): {"revision": former.revision, "totals": totals_of(fields)},
    }
    context = {
        **own,
        RESUMED_AS: goes_on_as,
        ENDED_WITH: note_of_end(former.epoch, message.order),
        TAKEN_BY: message.writer,
        TAKEN_ALONG: bases,
    }
    changes = {"status": "terminated", "collaboration_context": context}
    ended = AgentState.model_validate(fields | changes)
    return message.model_copy(update={"state": ended})


def is_of_ended(head: Stored, message: StateMessage) -> bool:
    """Whether a late message is of the very one whose state an ended session is."""
    order = content_order(head)
    return order.epoch == message.epoch != head.data["epoch"] and "goes_on_as" in head.data


def goes_on_as(message: StateMessage | TombstoneMessage) -> str | None:
    """Return the session in which the agent of an ended one goes on."""
    if not isinstance(message, StateMessage) or message.state.status != "terminated":
        return None
    session_id = message.state.collaboration_context.get(RESUMED_AS)
    return session_id if isinstance(session_id, str) else None


def kept_fields(
    head: Stored | None, message: StateMessage | TombstoneMessage, late: Late | None
) -> dict[str, Any]:
    """Return the fields that a message leaves beside the state that it makes.

    Of what is late that is left which the message does not say to have merged.
    """
    if not isinstance(message, StateMessage):
        return {}
    kept: dict[str, Any] = {}
    along = _along(message)
    waiting = {} if head is None else _revisions(head.data.get("late"))
    if not along and head is not None and head.data["epoch"] == message.epoch:
        along = _revisions(head.data.get("taken_along"))  # a program has set the context anew
    if late is not None and head is not None:
        waiting[content_order(head).epoch] = late.revision
    waiting = {each: n for each, n in waiting.items() if n > along.get(each, -1)}
    if along:
        kept["taken_along"] = {str(epoch): revision for epoch, revision in along.items()}
    if (session_id := goes_on_as(message)) is not None:
        kept["goes_on_as"] = session_id
        epoch = ended_with(message.state.collaboration_context, message.order)
        if epoch in along:
            place = [message.epoch, message.revision]
            kept["ended_with"] = {"state": [epoch, along[epoch]], "order": place}
    if waiting:
        kept["late"] = {str(epoch): revision for epoch, revision in waiting.items()}
        kept["late_writer"] = message.writer
    return kept


def told_of(head: Stored, late: Late, epoch: int) -> dict[str, Any]:
    """Return the fields by which the holder of a stored state is told of what is late."""
    waiting = {**head.data.get("late", {}), str(epoch): late.revision}
    return {"late": waiting, "late_writer": head.data["writer"]}


def _along(message: StateMessage) -> dict[int, int]:
    """Return what its writer has taken along; nothing of what it has copied from another one."""
    context = message.state.collaboration_context
    return taken_along(context) if context.get(TAKEN_BY) == message.writer else {}


def _revisions(kept: Mapping[str, int] | None) -> dict[int, int]:
    return {int(epoch): revision for epoch, revision in (kept or {}).items()}
