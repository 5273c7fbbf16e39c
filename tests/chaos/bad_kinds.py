"""What can be wrong with a message as a whole, or with its bytes: by class.

WHOLE gives topic, message and the field to be named; BYTES spoils the bytes of a good message so
that only `message` can be named; LARGE makes megabytes; MAYBE_GOOD may leave a message good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from firestate.limits import MAX_MESSAGE_BYTES, MAX_NESTING, MAX_STATE_BYTES, MAX_VALUES
from firestate.schema.messages import EVENT_TOPIC, STATE_TOPIC

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    Message = dict[str, Any]
    Change = Callable[[Random, "Good"], tuple[str, Message, str]]


class Good(NamedTuple):
    """A good message of each sort."""

    state: Message
    deleted: Message
    event: Message


def _without(message: Message, name: str) -> Message:
    return {key: value for key, value in message.items() if key != name}


def _missing(random: Random, good: Good) -> tuple[str, Message, str]:
    part = random.choice(["state", "event", "deleted"])
    message = getattr(good, part)
    needed = {
        "state": ["agent_id", "status", "created_at", "memory_context", "task_history"],
        "event": ["event_id", "event_type", "timestamp", "context", "success"],
        "deleted": ["agent_type", "session_id", "deleted_at"],
    }[part]
    name = random.choice(needed)
    topic = EVENT_TOPIC if part == "event" else STATE_TOPIC
    return topic, message | {part: _without(message[part], name)}, f"{part}.{name}"


def _disordered(random: Random, good: Good) -> tuple[str, Message, str]:
    name = random.choice(["epoch", "revision", "writer"])
    return STATE_TOPIC, _without(random.choice([good.state, good.deleted]), name), name


WHOLE: dict[str, Change] = {
    "missing field": _missing,
    "missing order": _disordered,
    "nothing in it": lambda _, good: (STATE_TOPIC, _without(good.state, "state"), "state"),
    "state that is no map": lambda random, good: (
        STATE_TOPIC,
        good.state | {"state": random.choice([None, [], "x", 7, [good.state["state"]]])},
        "state",
    ),
    "state and deleted": lambda _, good: (STATE_TOPIC, good.state | good.deleted, "state"),
    "state and event": lambda _, good: (STATE_TOPIC, good.state | good.event, "event"),
    "event and state": lambda _, good: (EVENT_TOPIC, good.state | good.event, "state"),
    "state among events": lambda _, good: (EVENT_TOPIC, good.state, "event"),
    "event among states": lambda _, good: (STATE_TOPIC, good.event, "state"),
    "event with an order": lambda _, good: (EVENT_TOPIC, good.event | {"epoch": 1}, "epoch"),
    "two mistakes": lambda _, good: (STATE_TOPIC, good.state | {"epoch": -1, "state": 1}, "epoch"),
}

BYTES: dict[str, Callable[[Random, bytes], bytes]] = {
    "empty": lambda random, _: random.choice([b"", b" ", b"\n\t"]),
    "cut short": lambda random, data: data[: random.randrange(1, len(data))],
    "garbage behind": lambda random, data: data + random.choice([b"}", b"{}", b"x", data, b",1"]),
    "NUL": lambda random, data: random.choice([data + b"\0", b"\0" + data, b"\0"]),
    "byte order mark": lambda _, data: b"\xef\xbb\xbf" + data,
    "UTF-16 or 32": lambda r, data: data.decode().encode(
        r.choice(["utf-16", "utf-16-be", "utf-32"])
    ),
    "no UTF-8": lambda r, data: data.replace(b'"', r.choice([b'"\xff', b'"\xed\xa0\x80']), 1),
    "control character": lambda r, data: data.replace(b'"', r.choice([b'"\n', b'"\x01']), 1),
    "no object": lambda r, data: r.choice([b"[]", b"[" + data + b"]", b'"x"', b"7", b"null"]),
    "almost JSON": lambda r, data: r.choice(
        [data[:-1] + b",}", data.replace(b'"', b"'"), b"/**/" + data, data.replace(b":", b"=", 1)]
    ),
    "noise": lambda random, _: b"\x08\x01" + random.randbytes(random.randrange(1, 300)),
    "deeper than is parsed": lambda random, _: (
        random.choice([b"[", b'{"state":']) * random.randrange(MAX_NESTING + 1, 9_999)
    ),
}


def _state_with(field: str, text: bytes) -> bytes:
    return b'{"epoch":1,"%s":{"memory_context":%s}}' % (field.encode(), text)


LARGE: dict[str, Callable[[Random, bytes], tuple[bytes, str]]] = {
    "state too large": lambda r, _: (
        _state_with("state", b'{"k":"%s"}' % (r.choice([b"x", "ä".encode()]) * MAX_STATE_BYTES)),
        "state",
    ),
    "tombstone too large": lambda *_: (
        _state_with("deleted", b'{"k":"%s"}' % (b"x" * MAX_STATE_BYTES)),
        "deleted",
    ),
    "too many values": lambda r, _: (
        _state_with(
            "state", b"[%s0]" % (r.choice([b"0,", b"{},", b'"",']) * (MAX_STATE_BYTES + 1_000))
        ),
        "message",
    ),
    "more values than allowed": lambda r, _: (
        _state_with(
            "state", b'{"k":[%s0]}' % (r.choice([b"0,", b"{},", b'"",']) * (MAX_VALUES + 1))
        ),
        "state",
    ),
    "past 10 MB": lambda _, data: (data + b" " * (MAX_MESSAGE_BYTES - len(data) + 1), "message"),
    "bomb": lambda r, _: (r.choice([b"[", b'{"a":']) * 800_000, "message"),
}


def _flipped(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random.randrange(1, 4)):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _piece(random: Random, data: bytes) -> tuple[int, int]:
    start = random.randrange(len(data))
    return start, start + random.randrange(1, 20)


def _cut_out(random: Random, data: bytes) -> bytes:
    start, end = _piece(random, data)
    return data[:start] + data[end:]


def _doubled(random: Random, data: bytes) -> bytes:
    start, end = _piece(random, data)
    return data[:end] + data[start:]


MAYBE_GOOD: dict[str, Callable[[Random, bytes], bytes]] = {
    "bits flipped": _flipped,
    "piece cut out": _cut_out,
    "piece doubled": _doubled,
}
