"""Where messages go that can never succeed: kept to the byte, with what is wrong with them.

The id is a function of topic and bytes, so the same message again raises a count and makes no
second document. The parts are written before the document that names them: a crash in between
leaves parts that the redelivery writes again, never a document without its bytes.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from firestate.limits import QUARANTINE_PART_BYTES
from firestate.schema.ids import part_path, quarantine_path
from firestate.stores.protocol import Create

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from firestate.errors import InvalidMessageError

_MOST_ERRORS = 50
_MOST_REASON = 500


def quarantine_id(topic: str, data: bytes) -> str:
    """Give the id for a message: 40 hex digits of topic and bytes."""
    return hashlib.blake2b(topic.encode() + b"\0" + data, digest_size=20).hexdigest()


def parts(topic: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Give path and bytes of each part, at least one."""
    own_id = quarantine_id(topic, data)
    for number, start in enumerate(range(0, max(len(data), 1), QUARANTINE_PART_BYTES)):
        yield part_path(own_id, number), data[start : start + QUARANTINE_PART_BYTES]


def quarantine_creation(
    topic: str,
    data: bytes,
    attributes: Mapping[str, str],
    error: InvalidMessageError,
    now: datetime,
) -> Create:
    """Give the write of the document itself, for a message that comes the first time."""
    document: dict[str, Any] = {
        "schema_version": 1,
        "topic": topic,
        "code": error.code,
        "errors": [
            {"field": problem.field[:_MOST_REASON], "reason": problem.reason[:_MOST_REASON]}
            for problem in error.problems[:_MOST_ERRORS]
        ],
        "attributes": [{"name": k, "value": v} for k, v in sorted(attributes.items())],
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "parts": sum(1 for _ in parts(topic, data)),
        "deliveries": 1,
        "first_seen": now,
        "last_seen": now,
    }
    return Create(quarantine_path(quarantine_id(topic, data)), document)
