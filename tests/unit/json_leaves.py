"""What is in an old object, and what of it is found again in what was built of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from firestate.limits import INT64_MAX
from firestate.migration.plan.message_builder import BuiltMessage, build_message
from firestate.schema.ids import LEGACY
from firestate.schema.messages import EventMessage
from firestate.schema.serialization import to_document
from tests.unit.strategies import json_values, texts, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from firestate.migration.formats.records import Record

WRITER = "migration-test"

_deep: Any = "core"
for _ in range(30):
    _deep = {"in": _deep}

unfit = st.sampled_from(
    [[[1, 2], ["x"]], 2**64, -(2**70), 2**53 + 1, {"__x__": "y"}, {"": 1}, "\ud800", _deep]
)
"""Each of what Firestore cannot hold, as JSON can."""
old_values = st.one_of(
    json_values,
    unfit,
    st.dictionaries(texts, unfit, max_size=2),
    st.lists(st.one_of(unfit, texts, st.dictionaries(words, unfit)), max_size=3),
)


def built_of(record: Record, event_id: str | None = None) -> BuiltMessage:
    """Build a record as a migration does, an event with its own id or this one."""
    return build_message(record, "reader", WRITER, event_id)


def document_of(built: BuiltMessage) -> dict[str, Any]:
    """Give the document that a message becomes."""
    message = built.message
    return to_document(message.event if isinstance(message, EventMessage) else message.state)


def legacy_of(built: BuiltMessage) -> dict[str, Any]:
    """Give what is kept beside, wherever it lies: what could not be stored is parsed."""
    document = document_of(built)
    entry = document["memory_context" if "memory_context" in document else "context"].get(LEGACY)
    if entry is None:
        return {}
    found: dict[str, Any] = dict(entry.get("fields", {})) | json.loads(entry.get("unfit", "{}"))
    if built.parts:
        found |= json.loads(b"".join(built.parts[path] for path in sorted(built.parts)))
    return found


def lost(old: Any, built: Iterable[BuiltMessage]) -> set[str]:
    """Name the scalars of an old object that are nowhere in what was built of it."""
    found: set[str] = set()
    for each in built:
        found |= set(_leaves(document_of(each))) | set(_leaves(legacy_of(each)))
    return set(_leaves(old)) - found


def _leaves(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for item in value.values():
                yield from _leaves(item)
        case list():
            for item in value:
                yield from _leaves(item)
        case None:
            pass  # says nothing
        case bool() | str():
            yield repr(value)
        case datetime():
            yield repr(value.astimezone(UTC).replace(tzinfo=None).isoformat())
        case float() if value.is_integer() and abs(value) <= INT64_MAX:
            yield repr(int(value))  # a metric is stored as a float
        case _:
            yield repr(value)
