"""What becomes of the last states of those that a session was taken from: a pure decision.

A state of a former holder, later than what the holder has taken along of it (schema/take_over):

session                  arrives first              outcome
taken up                 the holder's, then it      kept at late/{epoch}, the holder is told
taken up                 it, then the holder's      moved to late/{epoch}, the holder is told
resumed as another one   in either order            it is the state, ended as the resume says
  by who had held it     in either order            as if taken up
deleted                  in either order            superseded
adopted                  in either order            superseded: the first who adopts it has it

The holder is told by `late_writer`, for which it watches: it reads what is late, merges it into its
own state, and says so there.

Who resumes a session that it has never held ends it as it is: `ends` names the former holder whose
state that is. A later state of that one takes its place, under the order of the end, and the one
who has ended it need not be there. Should that one save to it after all, what took its place is
late, like any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from firestate.limits import STATE_LIFETIME
from firestate.schema.ids import LATE, Identity
from firestate.schema.messages import Order, StateMessage
from firestate.schema.models import AgentState
from firestate.schema.serialization import from_document, to_document
from firestate.schema.take_over import (
    ADOPTS,
    ENDS,
    RESUMED_AS,
    TAKEN_ALONG,
    TAKEN_BY,
    ended_epoch,
    may_be_late,
    taken_along,
)
from firestate.schema.upgrades import document_version

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from firestate.schema.messages import TombstoneMessage
    from firestate.stores.protocol import Stored

KEPT = ("taken_along", "late", "late_writer", "goes_on_as", "ends")
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


def stands_for(head: Stored) -> Order:
    """Return whose state is stored: the writer's, or a former holder's whose session has ended."""
    epoch = head.data.get("ends")
    if epoch is None:
        return Order(head.data["epoch"], head.data["revision"])
    return Order(epoch, head.data["taken_along"][str(epoch)])


def leaves_late(head: Stored, message: StateMessage | TombstoneMessage) -> bool:
    """Whether a later message replaces a state that its writer has not taken along."""
    order = stands_for(head)
    if not isinstance(message, StateMessage) or message.epoch == order.epoch:
        return False
    if "deleted" in head.data["digests"]:
        return False  # there is no state to be kept
    return may_be_late(*order, _along(message))


def is_replaced(head: Stored, message: StateMessage | TombstoneMessage) -> bool:
    """Whether a later state of a former holder has taken the place of this very message."""
    return "ends" in head.data and leaves_late(head, message)


def ends_as_stored(head: Stored, message: StateMessage) -> bool:
    """Whether a message ends the session of the very one whose state is stored."""
    epoch = ended_epoch(message.state.collaboration_context)
    return goes_on_as(message) is not None and epoch == stands_for(head).epoch


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
    return _late(identity, stands_for(stored), fields, now)


def _late(identity: Identity, order: Order, fields: dict[str, Any], now: datetime) -> Late:
    document = {**fields, **order._asdict(), "expire_at": now + STATE_LIFETIME}
    return Late(late_path(identity.state_path, order.epoch), order.revision, document)


def ended_late(head: Stored, message: StateMessage) -> StateMessage:
    """Return what a late message makes of a session that was resumed as another one."""
    place = {name: head.data[name] for name in ("epoch", "revision", "writer")}
    return _ended(
        message.state,
        message.model_copy(update=place),
        along=_revisions(head.data["taken_along"]),
        goes_on_as=head.data["goes_on_as"],
        former=message.order,
    )


def end_of_stored(stored: Stored, message: StateMessage) -> StateMessage:
    """Return what a resume makes of a state that is later than what it has taken along."""
    return _ended(
        from_document(AgentState, stored.data),
        message,
        along=_along(message),
        goes_on_as=message.state.collaboration_context[RESUMED_AS],
        former=stands_for(stored),
    )


def _ended(
    state: AgentState,
    message: StateMessage,
    *,
    along: Mapping[int, int],
    goes_on_as: str,
    former: Order,
) -> StateMessage:
    """Return a message with the state of a former holder, ended as the resume says."""
    noted = {**along, former.epoch: former.revision}
    known = state.collaboration_context.get(TAKEN_ALONG)
    bases = known if isinstance(known, dict) else {}
    context = {
        **state.collaboration_context,
        RESUMED_AS: goes_on_as,
        ENDS: str(former.epoch),
        TAKEN_BY: message.writer,
        TAKEN_ALONG: {
            str(epoch): {**(bases.get(str(epoch)) or {}), "revision": revision}
            for epoch, revision in noted.items()
        },
    }
    changes = {"status": "terminated", "collaboration_context": context}
    ended = AgentState.model_validate(state.model_dump(mode="json") | changes)
    return message.model_copy(update={"state": ended})


def is_of_ended(head: Stored, message: StateMessage) -> bool:
    """Whether a late message is of the very one whose state an ended session is."""
    return head.data.get("ends") == message.epoch and "goes_on_as" in head.data


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
        waiting[stands_for(head).epoch] = late.revision
    waiting = {each: n for each, n in waiting.items() if n > along.get(each, -1)}
    if along:
        kept["taken_along"] = {str(epoch): revision for epoch, revision in along.items()}
    if (session_id := goes_on_as(message)) is not None:
        kept["goes_on_as"] = session_id
        epoch = ended_epoch(message.state.collaboration_context)
        if epoch in along:
            kept["ends"] = epoch
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
