"""What the dear messages are built of: notes as agents keep them, and one thing many times."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING, Any

from firestate.limits import MAX_DEPTH, MAX_STATE_BYTES, MAX_VALUES
from firestate.schema.messages import EVENT_TOPIC, STATE_TOPIC
from firestate.schema.values import extent
from tests.chaos.bad_messages import bad_message
from tests.harness import event_message, state_message, task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOM = MAX_STATE_BYTES - 1_000
HOLE = b'"@@"'


def around(field: str = "memory_context") -> tuple[bytes, bytes]:
    """Give a state message up to the value of `field`, and from there on."""
    changes: dict[str, Any] = {field: "@@"}
    before, _, after = compact(state_message(1, **changes)).partition(HOLE)
    return before, after


def compact(value: object) -> bytes:
    """Give JSON without spaces, text as it is."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def notes(number: int) -> Iterator[tuple[str, Any]]:
    """Give what agents remember: some texts, numbers and lists each."""
    for n in range(number):
        yield (
            f"note-{n}",
            {
                "type": "fact",
                "importance": 0.7,
                "text": f"The build of service number {n} failed for want of a header, see the log",
                "tags": ["build", "log"],
                "at": "2026-11-23T12:00:00Z",
            },
        )


def typical(number: int) -> dict[str, Any]:
    """Give a state message of so many notes."""
    return state_message(
        1,
        memory_context=dict(notes(number)),
        task_history=[task(n) for n in range(200)],
        performance_metrics={"tokens": 5120.0, "latency_ms": 17.25},
        tools_enabled=["editor", "shell"],
    )


def deep(before: bytes, after: bytes) -> bytes:
    """Give maps (and arrays) nested as deep as is accepted inside of a list of a map."""
    inside = b"{}"
    while True:
        wider = before + inside + after
        if wider.count(b"{") + wider.count(b"[") > MAX_DEPTH - 2:
            return inside
        inside = wider


def in_map(value: bytes) -> bytes:
    """Give a state message with `value` in its memory."""
    before, after = around()
    return before + b'{"k":' + value + b"}" + after


def in_field(field: str, text: bytes) -> bytes:
    """Give a state message with `text` in a field."""
    before, after = around(field)
    return before + b'"' + text + b'"' + after


def totals(each: bytes) -> bytes:
    """Give a state message with a thousand totals of kinds, and of tools."""
    before, after = around("task_totals")
    group = b"{" + b",".join(b'"%d":%s' % (n, each) for n in range(1_000)) + b"}"
    return before + b'{"kinds":' + group + b',"tools":' + group + b"}" + after


def numbered(item: bytes, number: int) -> bytes:
    """Join copies of `item`, its `%d` counted up."""
    if b"%d" not in item:
        return b",".join([item] * number)
    return b",".join(item.replace(b"%d", b"%d" % n) for n in range(number))


def fitting(item: bytes, *, named: bool = False) -> int:
    """Give how many of `item` a state takes."""
    sample = item.replace(b"%d", b"123456")
    one = extent(json.loads(b"{" + sample + b"}" if named else sample))
    return min(ROOM // one.size, (MAX_VALUES - 100) // one.values)


def enlarged(kind: str, size: int) -> tuple[str, bytes]:
    """Give a bad message of `kind`, with so many bytes of notes in a map of it."""
    filler = compact(dict(notes(size // 190)))[1:-1] + b","
    for seed in range(100):
        message = bad_message(Random(seed), kind)
        for field in (b'"memory_context": {', b'"context": {'):
            if field in message.data:
                return message.topic, message.data.replace(field, field + filler, 1)
    return message.topic, message.data.ljust(size)


def good() -> tuple[str, bytes]:
    """Give a good state message of the largest size."""
    return STATE_TOPIC, compact(typical(4_700))


def good_event() -> tuple[str, bytes]:
    """Give a good event of the largest size."""
    return EVENT_TOPIC, compact(event_message("e", context=dict(notes(4_700))))


def most(field: str, start: bytes, item: bytes, end: bytes) -> tuple[str, bytes]:
    """Give a state message with `item` in `field` as often as the size allows."""
    before, after = around(field)
    number = fitting(item, named=end == b"}")
    return STATE_TOPIC, before + start + numbered(item, number) + end + after


def repeated(item: bytes, size: int) -> tuple[str, bytes]:
    """Give a state message of `size` with copies of `item` in its memory."""
    copies = (size - 1_000) // (len(item) + 1)
    return STATE_TOPIC, in_map(b"[" + numbered(item, copies) + b"]")


def alone(build: Callable[[int], bytes], size: int) -> tuple[str, bytes]:
    """Give the message that `build` makes, with room for what is around it."""
    return STATE_TOPIC, build(size - 2_000)
