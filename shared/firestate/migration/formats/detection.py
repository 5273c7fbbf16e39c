"""From a file's bytes to its records: what it is found to be by its content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from firestate.migration.formats.decoding import Unreadable, check_head, decode_file
from firestate.migration.formats.readers import reader_of
from firestate.migration.formats.records import Facts, Record, Refusal
from firestate.schema.sanitize import sanitize_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime


EMPTY = "empty"
"""The format of a file that holds no value at all: a log or a list in which nothing is yet."""

_LISTS = frozenset({"agents", "agent_states", "events"})

LINES = (".jsonl", ".ndjson")
"""What files of JSON Lines are called: there the name decides, one line alone is any JSON."""


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A file as read: its digest, its format (a refusal where it has none), its records."""

    sha256: str
    date: datetime
    format: str
    records: Callable[[], Iterator[Record | Refusal]]


def _decoded(text: str) -> Any:  # noqa: ANN401 - any JSON
    """Give the JSON in a JSON text, as Letta has written some."""
    try:
        return decode_file(text.encode("utf-8", "surrogatepass"))
    except Unreadable as error:
        inner = error.refusal
        reason = f"is a JSON text, which at its own {inner.place} {inner.reason}"
        raise Unreadable("line 1 column 1", reason, inner.advice) from error


def open_json(data: bytes, name: str, date: datetime) -> OpenedFile:
    """Find out what a file holds; raise Unreadable where it is no JSON, or no state."""
    sha256 = hashlib.sha256(data).hexdigest()
    broken: dict[str, Refusal] = {}
    value = _lines(data, broken) if name.lower().endswith(LINES) else decode_file(data)
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        value = _decoded(value)
    if not broken and _is_empty(value):
        return OpenedFile(sha256, date, EMPTY, lambda: iter(()))
    reader = reader_of(value, name)
    if reader is None:
        kind = type(value).__name__
        shown = f"an object with {', '.join(list(value)[:4])}" if isinstance(value, dict) else kind
        raise Unreadable(
            "line 1 column 1",
            f"is JSON ({sanitize_text(shown[:80])}), but no state, log or configuration "
            "that is known",
            "leave it out; or add a reader of its format",
        )

    def records() -> Iterator[Record | Refusal]:
        for found in reader.read(value, Facts(name, date)):
            # A line that is no JSON was handed on as null, which no reader takes.
            yield broken.get(found.place, found) if isinstance(found, Refusal) else found

    return OpenedFile(sha256, date, reader.NAME, records)


def _is_empty(value: Any) -> bool:  # noqa: ANN401 - any JSON
    """Whether a file says that there is nothing yet: no agents, no events."""
    if isinstance(value, dict) and value.keys() <= _LISTS:
        return not any(value.values())
    return value is None or value == []


def _lines(data: bytes, broken: dict[str, Refusal]) -> Any:  # noqa: ANN401 - any JSON
    """Give the values of JSON Lines as a list; what is wrong with a line by its place in that."""
    check_head(data)
    values: list[Any] = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            values.append(decode_file(line))
        except Unreadable as error:
            place = error.refusal.place.replace("line 1 ", f"line {number} ")
            broken[f"[{len(values)}]"] = replace(error.refusal, place=place)
            values.append(None)
    return values[0] if len(values) == 1 and not broken else values
