"""What becomes of the last states of those that a session was taken from: a pure decision.

A state of a former holder, later than what the holder has taken along of it (schema/take_over):

session                  arrives first              outcome
taken up                 the holder's, then it      kept at late/{epoch}, the holder is told
taken up                 it, then the holder's      moved to late/{epoch}, the holder is told
resumed as another one   in either order            it is the state, ended as the resume says
                         of an earlier holder       kept at late/{epoch}, for who takes it up again
deleted                  in either order            superseded
adopted                  in either order            superseded: the first who adopts it has it

The holder is told by `late_writer`, for which it watches: it reads what is late, merges it into its
own state, and says so there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from firestate.limits import STATE_LIFETIME
from firestate.schema.ids import LATE, Identity
from firestate.schema.messages import Order, StateMessage
from firestate.schema.models import AgentState
from firestate.schema.serialization import from_document, to_document
from firestate.schema.take_over import ADOPTS, RESUMED_AS, TAKEN_ALONG, may_be_late, taken_along
from firestate.schema.upgrades import document_version

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from firestate.schema.messages import TombstoneMessage
    from firestate.stores.protocol import Stored

KEPT = ("taken_along", "late", "late_writer", "goes_on_as")
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
    if epoch not in along and TAKEN_ALONG not in message.state.collaboration_context:
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


def leaves_late(head: Stored, message: StateMessage | TombstoneMessage) -> bool:
    """Whether a later message replaces a state that its writer has not taken along."""
    if not isinstance(message, StateMessage) or message.epoch == head.data["epoch"]:
        return False
    if "deleted" in head.data["digests"]:
        return False  # there is no state to be kept
    along = taken_along(message.state.collaboration_context)
    return may_be_late(head.data["epoch"], head.data["revision"], along)


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
    return _late(identity, Order(data["epoch"], data["revision"]), fields, now)


def _late(identity: Identity, order: Order, fields: dict[str, Any], now: datetime) -> Late:
    document = {**fields, **order._asdict(), "expire_at": now + STATE_LIFETIME}
    return Late(late_path(identity.state_path, order.epoch), order.revision, document)


def ended_late(head: Stored, message: StateMessage) -> StateMessage:
    """Return what a late message makes of a session that was resumed as another one."""
    along = _revisions(head.data.get("taken_along")) | {message.epoch: message.revision}
    return _ended(
        message,
        goes_on_as=head.data["goes_on_as"],
        along=along,
        order=(head.data["epoch"], head.data["revision"] + 1),
        writer=head.data["writer"],
    )


def end_of_stored(stored: Stored, message: StateMessage) -> StateMessage:
    """Return what a resume makes of a state that is later than what it has taken along."""
    data = stored.data
    along = taken_along(message.state.collaboration_context) | {data["epoch"]: data["revision"]}
    state = from_document(AgentState, data)
    return _ended(
        message.model_copy(update={"state": state}),
        goes_on_as=message.state.collaboration_context[RESUMED_AS],
        along=along,
        # Above the message itself: should that come again, it is superseded.
        order=(message.epoch, message.revision + 1),
        writer=message.writer,
    )


def _ended(
    message: StateMessage,
    *,
    goes_on_as: str,
    along: Mapping[int, int],
    order: tuple[int, int],
    writer: str,
) -> StateMessage:
    context = {
        **message.state.collaboration_context,
        RESUMED_AS: goes_on_as,
        TAKEN_ALONG: {str(epoch): {"revision": revision} for epoch, revision in along.items()},
    }
    changes = {"status": "terminated", "collaboration_context": context}
    fields = message.state.model_dump(mode="json") | changes
    ended = AgentState.model_validate(fields)
    epoch, revision = order
    return message.model_copy(
        update={"state": ended, "epoch": epoch, "revision": revision, "writer": writer}
    )


def is_of_ended(head: Stored, message: StateMessage) -> bool:
    """Whether a late message is of the very one whose session was resumed as another one."""
    along = _revisions(head.data.get("taken_along"))
    return head.data.get("goes_on_as") is not None and message.epoch == max(along)


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
    along = taken_along(message.state.collaboration_context)
    waiting = {} if head is None else _revisions(head.data.get("late"))
    if not along and head is not None and head.data["epoch"] == message.epoch:
        along = _revisions(head.data.get("taken_along"))  # a program has set the context anew
    if late is not None and head is not None:
        waiting[head.data["epoch"]] = late.revision
    waiting = {each: n for each, n in waiting.items() if n > along.get(each, -1)}
    if along:
        kept["taken_along"] = {str(epoch): revision for epoch, revision in along.items()}
    if (session_id := goes_on_as(message)) is not None:
        kept["goes_on_as"] = session_id
    if waiting:
        kept["late"] = {str(epoch): revision for epoch, revision in waiting.items()}
        kept["late_writer"] = message.writer
    return kept


def told_of(head: Stored, late: Late, epoch: int) -> dict[str, Any]:
    """Return the fields by which the holder of a stored state is told of what is late."""
    waiting = {**head.data.get("late", {}), str(epoch): late.revision}
    return {"late": waiting, "late_writer": head.data["writer"]}


def _revisions(kept: Mapping[str, int] | None) -> dict[int, int]:
    return {int(epoch): revision for epoch, revision in (kept or {}).items()}
