"""Where messages go that can never succeed: kept to the byte, with what is wrong with them.

The id is a function of topic and bytes, so the same message again raises a count and makes no
second document. It also makes the paths of the parts: a part that is there holds the right bytes,
whoever wrote it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from firestate.errors import FieldProblem, InvalidMessageError
from firestate.limits import QUARANTINE_PART_BYTES
from firestate.schema.ids import part_path, quarantine_path
from firestate.schema.messages import WRITER
from firestate.stores.protocol import Create, Update

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from firestate.stores.protocol import Stored

DEAD_LETTER = "dead_letter"
ON_REFUSAL = ("deliveries",)
ON_REPLAY = ("deliveries", "replays", "first_seen")

_MOST_ERRORS = 50
_MOST_REASON = 500
_MOST_WRITER = 300  # characters; what an outbox calls itself is shorter
_FORWARDED = "CloudPubSubDeadLetterSource"
_OF_PUBSUB = (_FORWARDED, "goog")


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
    own_id = quarantine_id(topic, data)
    document: dict[str, Any] = {
        "schema_version": 1,
        "id": own_id,  # as a field it can be looked for by its first digits
        "topic": topic,
        **_reasons(error),
        **_writer(attributes),
        "attributes": [{"name": k, "value": v} for k, v in sorted(attributes.items())],
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "parts": sum(1 for _ in parts(topic, data)),
        "deliveries": 1,
        "waiting": True,
        "replays": 0,
        "first_seen": now,
        "last_seen": now,
    }
    return Create(quarantine_path(own_id), document)


def refused_again(
    known: Stored, attributes: Mapping[str, str], error: InvalidMessageError, now: datetime
) -> Update:
    """Give the write for the same message refused once more; of `known` it needs ON_REFUSAL.

    The reason shown is the latest: a release may refuse for another one than that before it. A
    dead letter takes no reason away, since it has none of its own.
    """
    deliveries = known.data.get("deliveries", 0) + 1
    changes: dict[str, Any] = {"deliveries": deliveries, "last_seen": now, "waiting": True}
    changes |= _writer(attributes)
    if error.code != DEAD_LETTER:
        changes |= _reasons(error)
    return Update(known.path, known.token, changes)


def replayed(before: Stored, latest: Stored, now: datetime) -> Update:
    """Give the write that marks a message as replayed; of `latest` it needs ON_REPLAY.

    `before` is the document as it was before the message was published. If the message has been
    refused since, or dropped and refused anew, that may well be the replay's own end: it goes on
    waiting.
    """
    same = all(before.data[name] == latest.data.get(name) for name in ("deliveries", "first_seen"))
    changes: dict[str, Any] = {"replays": latest.data.get("replays", 0) + 1, "replayed_at": now}
    if same:
        changes["waiting"] = False
    return Update(latest.path, latest.token, changes)


def dead_letter(attributes: Mapping[str, str]) -> InvalidMessageError:
    """Say how often a message was tried, from the attributes that Pub/Sub forwarded it with."""
    tries = attributes.get(f"{_FORWARDED}DeliveryCount")
    subscription = attributes.get(f"{_FORWARDED}Subscription")
    reason = "was given up by Pub/Sub: its function failed each time"
    reason += f", {tries} times" if tries else ""
    reason += f" (subscription {subscription})" if subscription else ""
    return InvalidMessageError(DEAD_LETTER, [FieldProblem("message", reason)])


def attributes_of_publisher(attributes: Mapping[str, str]) -> dict[str, str]:
    """Leave out what Pub/Sub has added, which it does not take from a publisher."""
    return {k: v for k, v in attributes.items() if not k.startswith(_OF_PUBSUB)}


def _writer(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return the field by which the folder that sent a message learns that it was refused."""
    writer = attributes.get(WRITER, "")[:_MOST_WRITER]
    return {WRITER: writer} if writer else {}


def _reasons(error: InvalidMessageError) -> dict[str, Any]:
    errors = [
        {"field": problem.field[:_MOST_REASON], "reason": problem.reason[:_MOST_REASON]}
        for problem in error.problems[:_MOST_ERRORS]
    ]
    return {"code": error.code, "errors": errors}
