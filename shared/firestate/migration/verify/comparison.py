"""Whether a stored document is what its source says, value by value: pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from firestate.migration.apply.record_decision import MIGRATED_BY, has_ended, is_newer_state
from firestate.migration.plan.message_builder import WRITER
from firestate.schema.messages import EventMessage
from firestate.schema.serialization import to_document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from firestate.migration.plan.message_builder import BuiltMessage
    from firestate.stores.protocol import Stored


class Result(StrEnum):
    """What a comparison found."""

    EQUAL = "equal"
    SUPERSEDED = "superseded"
    MISSING = "missing"
    DIFFERS = "differs"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result; `ours` where this migration made the document, and it is as it was made."""

    result: Result
    reason: str = ""
    ours: bool = False


def compare_record(
    built: BuiltMessage, stored: Stored | None, beside: Mapping[str, Stored]
) -> Comparison:
    """Compare what was built from the source with what is stored.

    `beside` has the parts, and the ledger row where there is no document.
    """
    if stored is None:
        row = beside.get(built.row_path)
        if row is not None and has_ended(row):
            return Comparison(Result.SUPERSEDED, "it has ended, and been removed since")
        return Comparison(Result.MISSING, "there is no such document")
    try:
        return _compare(built, stored, beside)
    except (KeyError, TypeError, AttributeError):
        return Comparison(Result.DIFFERS, "the stored document is damaged")


def _compare(built: BuiltMessage, stored: Stored, beside: Mapping[str, Stored]) -> Comparison:
    message = built.message
    model: type[BaseModel]
    if isinstance(message, EventMessage):
        ours = stored.data.get(MIGRATED_BY) == built.writer
        model, expected = type(message.event), to_document(message.event)
    else:
        writer = stored.data["writer"]
        if stored.data["epoch"] or not writer.startswith(WRITER):
            return Comparison(Result.SUPERSEDED, "its agent has written it since")
        if stored.data.get("deleted"):
            return Comparison(Result.MISSING, "it was undone")
        ours = writer == built.writer
        model, expected = type(message.state), to_document(message.state)
        if not ours and is_newer_state(stored, message):
            return Comparison(Result.SUPERSEDED, "a newer file of it was migrated")
    # All that the schema knows, so that what was added is found too. The date of the file may have
    # been another when the document was made.
    names = model.model_fields.keys() - built.guessed
    wrong = sorted(name for name in names if not same(expected.get(name), stored.data.get(name)))
    wrong += [path for path, data in built.parts.items() if _bytes(beside.get(path)) != data]
    if wrong:
        return Comparison(Result.DIFFERS, f"{', '.join(wrong)} not as in the source")
    return Comparison(Result.EQUAL, ours=ours)


def same(one: object, other: object) -> bool:
    """Whether two values are equal and of one type, all the way down: 1 is neither true nor 1.0."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(v, other[k]) for k, v in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return type(one) is type(other) and one == other
    return one == other


def _bytes(stored: Stored | None) -> bytes | None:
    return stored.data.get("data") if stored else None
