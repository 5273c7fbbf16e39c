"""Whether a stored document is what its source says, value by value: pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from firestate.migration.deciding import MIGRATED_BY, WRITER
from firestate.schema.documents import to_document
from firestate.schema.messages import EventMessage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firestate.migration.building import Built
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
    """The result; `ours` where this migration has made the document and nobody has changed it."""

    result: Result
    reason: str = ""
    ours: bool = False


def compare(built: Built, stored: Stored | None, parts: Mapping[str, Stored]) -> Comparison:
    """Compare what was built from the source with what is stored."""
    if stored is None:
        return Comparison(Result.MISSING, "there is no such document")
    if isinstance(built.message, EventMessage):
        ours = stored.data.get(MIGRATED_BY) == built.writer
        expected = to_document(built.message.event)
    else:
        writer = stored.data.get("writer", "")
        if stored.data.get("epoch") or not writer.startswith(WRITER):
            return Comparison(Result.SUPERSEDED, "its agent has written it since")
        ours = writer == built.writer and not stored.data.get("deleted")
        if stored.data.get("deleted"):
            return Comparison(Result.MISSING, "it was undone")
        expected = to_document(built.message.state)
        if not ours and stored.data["last_updated"] > expected["last_updated"]:
            return Comparison(Result.SUPERSEDED, "a newer file of it was migrated")
    # The date of the file may have been another when the document was made.
    names = expected.keys() - built.guessed
    wrong = sorted(name for name in names if not same(expected[name], stored.data.get(name)))
    wrong += [path for path, data in built.parts.items() if _bytes(parts.get(path)) != data]
    if wrong:
        return Comparison(Result.DIFFERS, f"{', '.join(wrong)} not as in the source", ours)
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
