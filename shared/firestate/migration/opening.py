"""From a file's bytes to its records: what it is found to be by its content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from firestate.migration.decoding import Unreadable, decode
from firestate.migration.readers import reader_of
from firestate.migration.records import Facts, Record, Refusal
from firestate.schema.names import fit_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Opened:
    """A file as read: its digest, its format (a refusal where it has none), its records."""

    sha256: str
    date: datetime
    format: str
    records: Callable[[], Iterator[Record | Refusal]]


def _decoded(text: str) -> Any:  # noqa: ANN401 - any JSON
    """Give the JSON in a JSON text, as Letta has written some."""
    try:
        return decode(text.encode("utf-8", "surrogatepass"))
    except Unreadable as error:
        inner = error.refusal
        reason = f"is a JSON text, which at its own {inner.place} {inner.reason}"
        raise Unreadable("line 1 column 1", reason, inner.advice) from error


def open_json(data: bytes, name: str, date: datetime) -> Opened:
    """Find out what a file holds; raise Unreadable where it is no JSON, or no state."""
    sha256 = hashlib.sha256(data).hexdigest()
    value = decode(data)
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        value = _decoded(value)
    reader = reader_of(value, name)
    if reader is None:
        kind = type(value).__name__
        shown = f"an object with {', '.join(list(value)[:4])}" if isinstance(value, dict) else kind
        raise Unreadable(
            "line 1 column 1",
            f"is JSON ({fit_text(shown[:80])}), but no state, log or configuration that is known",
            "leave it out; or add a reader of its format",
        )
    return Opened(sha256, date, reader.NAME, lambda: reader.read(value, Facts(name, date)))
