"""The messages that agents publish, and how their bytes are read.

`agent-state` carries a StateMessage (the whole state) or a TombstoneMessage (the state is
deleted); `agent-coordination` carries an EventMessage. Each is one JSON object.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import Field, PrivateAttr, Strict, ValidationError

from firestate.errors import FieldProblem, InvalidMessageError
from firestate.limits import (
    INT64_MAX,
    MAX_ENVELOPE_BYTES,
    MAX_EVENT_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_STATE_BYTES,
    MAX_VALUES,
)
from firestate.schema.field_types import AgentType, Flag, Id, MapProblemsError, UtcTime
from firestate.schema.ids import Identity, event_path
from firestate.schema.models import AgentState, CoordinationEvent, Model
from firestate.schema.serialization import to_document
from firestate.schema.strict_json import bounds_problem, half_pairs_in, parse_json
from firestate.schema.upgrades import (
    MESSAGE_VERSION,
    document_version,
    totals_of_version_1,
    upgrade_message,
)
from firestate.schema.values import digest, extent, stored_size

STATE_TOPIC = "agent-state"
EVENT_TOPIC = "agent-coordination"
STATE_DEAD_LETTER_TOPIC = f"{STATE_TOPIC}-dead-letter"
EVENT_DEAD_LETTER_TOPIC = f"{EVENT_TOPIC}-dead-letter"

WRITER = "writer"
"""The attribute of a Pub/Sub message, and the field of a refused one: who has sent it."""

OrderNumber = Annotated[int, Strict(), Field(ge=0, le=INT64_MAX)]

M = TypeVar("M", bound=Model)

_MOST_BYTES = MAX_ENVELOPE_BYTES + max(MAX_STATE_BYTES, MAX_EVENT_BYTES)
_ESCAPED_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


class Order(NamedTuple):
    """Where a state message stands among those of its session: later replaces earlier."""

    epoch: int
    revision: int


class _Ordered(Model):
    schema_version: Literal[2] = MESSAGE_VERSION
    epoch: OrderNumber = Field(
        description="Grows each time a session is taken up: max(start in microseconds, stored + 1)"
    )
    revision: OrderNumber = Field(description="Counts the states of one epoch")
    writer: Id = Field(description="Names the process that writes")
    migration: Flag = Field(default=False, description="Brought from old files: may be of any age")

    @property
    def order(self) -> Order:
        """The pair that decides which of two states is the later one."""
        return Order(self.epoch, self.revision)


class StateMessage(_Ordered):
    """An agent's whole state."""

    state: AgentState

    _given_totals: dict[str, Any] | None = PrivateAttr(default=None)

    def stored_fields(self) -> tuple[dict[str, Any], int]:
        """Return the fields of the state as they are stored, and the version that reads them."""
        fields = to_document(self.state)
        if self._given_totals is None:
            return fields, document_version(fields)
        return fields | {
            "task_totals": totals_of_version_1(fields["task_totals"], self._given_totals)
        }, 1

    @property
    def identity(self) -> Identity:
        """Which agent, in which session."""
        return Identity(self.state.agent_type, self.state.agent_id, self.state.session_id)


class Tombstone(Model):
    """Which state is deleted, and when."""

    agent_id: Id
    agent_type: AgentType
    session_id: Id
    deleted_at: UtcTime


class TombstoneMessage(_Ordered):
    """A state is deleted; what it contributed is taken back, but that it was spawned."""

    deleted: Tombstone

    @property
    def identity(self) -> Identity:
        """Which agent, in which session."""
        return Identity(self.deleted.agent_type, self.deleted.agent_id, self.deleted.session_id)


class EventMessage(Model):
    """One coordination event."""

    schema_version: Literal[2] = MESSAGE_VERSION
    event: CoordinationEvent
    migration: Flag = Field(default=False, description="Brought from old files: may be of any age")

    @property
    def path(self) -> str:
        """The document this event becomes."""
        return event_path(self.event.timestamp, self.event.event_id)

    @property
    def content_digest(self) -> str:
        """Equal for equal events, whoever sent them, by which release."""
        fields = dict(self.event)
        if not fields["cancelled"]:  # what version 1 did not know, and therefore did not digest
            del fields["cancelled"]
        return digest(fields)


def parse_state_message(data: bytes) -> StateMessage | TombstoneMessage:
    """Read a message of `agent-state`; raise InvalidMessageError with a problem for each field."""
    raw = _parse_object(data)
    message = state_message(upgrade_message(raw))
    if isinstance(message, StateMessage) and raw.get("schema_version", 1) == 1:
        totals = raw["state"].get("task_totals")
        if totals is not None and not totals.get("errors"):  # which version 1 does not have
            message._given_totals = totals  # noqa: SLF001 - its own module's
    return message


def parse_event_message(data: bytes) -> EventMessage:
    """Read a message of `agent-coordination`; raise InvalidMessageError like the above."""
    return event_message(upgrade_message(_parse_object(data)))


def state_message(raw: dict[str, Any]) -> StateMessage | TombstoneMessage:
    """Check a message of `agent-state`, its JSON parsed; raise InvalidMessageError likewise."""
    if "deleted" in raw:
        check_size("deleted", raw["deleted"], MAX_STATE_BYTES)
        return _validated(TombstoneMessage, raw)
    check_size("state", raw.get("state"), MAX_STATE_BYTES)
    return _validated(StateMessage, raw)


def event_message(raw: dict[str, Any]) -> EventMessage:
    """Check a message of `agent-coordination`, its JSON parsed; raise InvalidMessageError."""
    check_size("event", raw.get("event"), MAX_EVENT_BYTES)
    return _validated(EventMessage, raw)


def _parse_object(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_MESSAGE_BYTES:
        raise _invalid("size", f"takes {len(data):,} bytes, Pub/Sub takes {MAX_MESSAGE_BYTES:,}")
    if problem := bounds_problem(data, _MOST_BYTES):
        raise _invalid("size", problem)
    raw = parse_json(data)
    if not isinstance(raw, dict):
        raise _invalid("schema", f"must be a JSON object, not {type(raw).__name__}")
    if _ESCAPED_HALF_PAIR.search(data) and (found := list(islice(half_pairs_in(raw), 20))):
        raise InvalidMessageError("schema", found)
    return raw


def _validated(model: type[M], raw: dict[str, Any]) -> M:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise InvalidMessageError("schema", problems_in(error)) from error


def problems_in(error: ValidationError) -> list[FieldProblem]:
    """One FieldProblem for each mistake that pydantic found, inside maps as well."""
    problems = []
    for item in error.errors(include_url=False, include_input=False):
        field = _path(item["loc"]) or "message"
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, MapProblemsError):
            problems += [
                FieldProblem(_joined(field, inner.field), inner.reason) for inner in cause.problems
            ]
        else:
            reason = str(cause) if cause is not None else item["msg"]
            problems.append(FieldProblem(_printable(field), reason))
    return problems


def _path(steps: tuple[str | int, ...]) -> str:
    shown = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return "".join(shown).removeprefix(".")


def _joined(field: str, inner: str) -> str:
    separator = "" if not inner or inner.startswith("[") else "."
    return _printable(f"{field}{separator}{inner}")


def _printable(field: str) -> str:
    # A key can hold half of a surrogate pair, which no log and no store could take.
    return field.encode("utf-8", "backslashreplace").decode()


def check_size(field: str, value: object, most: int) -> None:
    """Raise InvalidMessageError for a value that takes more than `most` bytes, or has too many."""
    # Before anything else: each mistake that pydantic finds takes a thousand bytes of memory.
    size, values = extent(value)
    if size > most:
        problem = FieldProblem(field, f"takes {size:,} bytes in Firestore, at most {most:,}")
        raise InvalidMessageError("size", [problem, *_largest(field, value)])
    if values > MAX_VALUES:
        reason = f"holds {values:,} values, at most {MAX_VALUES:,} are allowed"
        raise InvalidMessageError("size", [FieldProblem(field, reason)])


def _largest(field: str, value: object) -> list[FieldProblem]:
    if not isinstance(value, dict) or not value:
        return []
    size, name = max((stored_size(item), name) for name, item in value.items())
    return [FieldProblem(f"{field}.{name}", f"is the largest field with {size:,} bytes")]


def _invalid(code: str, reason: str) -> InvalidMessageError:
    return InvalidMessageError(code, [FieldProblem("message", reason)])
