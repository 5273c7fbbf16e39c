"""Messages as dear as can be: the largest that are accepted, and bad ones of 1 and 10 MB."""

from __future__ import annotations

import json
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from firestate.limits import MAX_DEPTH, MAX_STATE_BYTES, MAX_VALUES
from firestate.schema.messages import EVENT_TOPIC, STATE_TOPIC
from firestate.schema.values import extent
from tests.chaos.bad_kinds import LARGE, MAYBE_GOOD
from tests.chaos.bad_messages import KINDS, bad_message
from tests.emulator.harness import event_message, state_message, task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Build = Callable[[], tuple[str, bytes]]

GOOD = "good"
SIZES = {"1 MB": 1_000_000, "10 MB": 9_900_000}
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


def deep(*around_each: tuple[bytes, bytes]) -> bytes:
    """Give maps (and arrays) nested as deep as is accepted inside of a list of a map."""
    inside = b"{}"
    while True:
        before, after = around_each[0]
        wider = before + inside + after
        if wider.count(b"{") + wider.count(b"[") > MAX_DEPTH - 2:
            return inside
        inside = wider


MAPS = deep((b'{"a":', b"}"))
BOTH = deep((b'{"a":[', b"]}"))

ACCEPTED = {
    "nulls": b"null",
    "numbers": b"1",
    "fractions": b"1.5",
    "empty texts": b'""',
    "escapes": b'"\\n"',
    "emoji": '"😀"'.encode(),
    "empty maps": b"{}",
    "maps of a map": b'{"a":{}}',
    "maps of an array": b'{"a":[]}',
    "maps of an array of a map": b'{"a":[{}]}',
    "maps of a null": b'{"a":null}',
    "deep maps": MAPS,
    "deep maps and arrays": BOTH,
    "empty texts after a pair": b'""',
}
"""Repeated in a list of `memory_context` as often as the size allows."""

TASKS = {
    "empty tasks": b"{}",
    "failed tasks": b'{"status":"failed"}',
    "tasks with kinds": b'{"status":"failed","kind":"a%d"}',
    "tasks with times": b'{"status":"failed","started_at":"20260101","ended_at":"20260102"}',
    "tasks with no times": b'{"status":"failed","ended_at":"x","started_at":"y"}',
    "tasks with tools": b'{"status":"failed","tools":["a","b","c","d","e","f","g","h"]}',
    "tasks with ids": b'{"status":"failed","task_id":%d}',
    "tasks with deep maps": b'{"status":"failed","x":' + b'{"a":' * 17 + b"1" + b"}" * 17 + b"}",
}

MEMORIES = {
    "memories of types": b'"%d":{"type":"t%d"}',
    "memories of importance": b'"%d":{"importance":0.5}',
    "memories of words": b'"%d":{"importance":"w%d"}',
    "many keys": b'"%d":null',
    "many keys of emoji": '"😀%d":""'.encode(),
}

REPEATED = {
    "NaN": b"NaN",
    "number past doubles": b"1e400",
    "integer past 64 bits": b"9" * 20,
    "integers of 1,000 digits": b"9" * 1_000,
    "integers of 1,001 digits": b"9" * 1_001,
    "floats of 1,000 digits": b"0." + b"3" * 1_000,
    "array in an array": b"[]",
    "empty key": b'{"":1}',
    "empty key beside good ones": b'{"a":1,"":1}',
    "reserved key": b'{"__a__":1}',
    "key twice": b'{"a":1,"a":1}',
    "half pair": b'"\\ud800"',
    "half pair in a key": b'{"\\ud800":1}',
    "nulls": b"null",
    "texts of 10 bytes": b'"abcdefghij"',
    "keys of 10 bytes": b'{"abcdefghij":0}',
    "arrays of arrays": b"[" * 40 + b"]" * 40,
    "maps of maps": b'{"a":' * 40 + b"1" + b"}" * 40,
}
"""Repeated to 1 and to 10 MB."""

ALONE: dict[str, Callable[[int], bytes]] = {
    "opening brackets": lambda size: b"[" * size,
    "brackets up to the bound": lambda size: b"[" * min(size, 1_790_000),
    "opening brackets of maps": lambda size: b'{"a":' * (size // 5),
    "quotes": lambda size: b"[" * 101 + b'"' * size,
    "escaped quotes": lambda size: b"[" * 101 + b'"' + b'\\"' * (size // 2),
    "backslashes": lambda size: b"[" * 101 + b'"' + b"\\" * size,
    "spaces": lambda size: b" " * size + b"x",
    "line ends": lambda size: b"\n" * size + b"x",
    "no UTF-8 in the end": lambda size: b'{"a":"' + b"a" * size + b"\xff",
    "an open text": lambda size: b'{"a":"' + b"a" * size,
    "a text": lambda size: in_map(b'"' + b"a" * size + b'"'),
    "a wide text": lambda size: in_map(b'"' + b"a" * size + '😀"'.encode()),
    "an escaped text": lambda size: in_map(b'"' + b"\\u00e9" * (size // 6) + b'"'),
    "pairs": lambda size: in_map(b'"' + b"\\ud83d\\ude00" * (size // 12) + b'"'),
    "half pairs": lambda size: in_map(b'"' + b"\\ud83d" * (size // 6) + b'"'),
    "a key": lambda size: in_map(b'{"' + b"a" * size + b'":1}'),
    "a reserved key": lambda size: in_map(b'{"' + b"_" * min(size, ROOM - 99) + b'":1}'),
    "digits": lambda size: in_map(b"9" * size),
    "a float": lambda size: in_map(b"0." + b"3" * size),
    "a float past doubles": lambda size: in_map(b"9" * size + b".0"),
    "an exponent": lambda size: in_map(b"1e" + b"9" * size),
    "an id": lambda size: in_field("agent_id", b"_" * min(size, ROOM)),
    "a type": lambda size: in_field("agent_type", "ä".encode() * (min(size, ROOM) // 2)),
    "a status": lambda size: in_field("status", b"x" * min(size, ROOM)),
    "a time": lambda size: in_field("created_at", b"2" * min(size, ROOM)),
    "a time of fractions": lambda size: in_field(
        "created_at", b"2026-01-01T00:00:00." + b"2" * min(size, ROOM)
    ),
    "unknown fields": lambda size: (
        b"{" + b",".join(b'"%d%s":1' % (n, b"x" * (size // 40)) for n in range(39)) + b"}"
    ),
    "a thousand totals of unknown fields": lambda _: totals(
        compact({str(n): 0 for n in range(40)})
    ),
    "a thousand empty totals": lambda _: totals(b"{}"),
    "a thousand of everything": lambda _: compact(
        state_message(
            1,
            tools_enabled=[1] * 1_000,
            child_agent_ids=["/"] * 1_000,
            performance_metrics={f"{n}": "" for n in range(1_000)},
        )
    ),
    "half a pair deep inside": lambda size: (
        b'{"%s":' % (b"k" * 60) * 90
        + b'["\\ud800"'
        + b',""' * min(size // 3, 880_000)
        + b"]"
        + b"}" * 90
    ),
}


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


def most_in_event() -> tuple[str, bytes]:
    """Give an event with as many maps and arrays as the size allows."""
    many = b"[" + numbered(BOTH, fitting(BOTH)) + b"]"
    return EVENT_TOPIC, compact(event_message("e", context={"k": "@@"})).replace(HOLE, many)


def repeated(item: bytes, size: int) -> tuple[str, bytes]:
    """Give a state message of `size` with copies of `item` in its memory."""
    copies = (size - 1_000) // (len(item) + 1)
    return STATE_TOPIC, in_map(b"[" + numbered(item, copies) + b"]")


def alone(build: Callable[[int], bytes], size: int) -> tuple[str, bytes]:
    """Give the message that `build` makes, with room for what is around it."""
    return STATE_TOPIC, build(size - 2_000)


def cases() -> dict[str, Build]:
    """Give what makes topic and bytes of each message, by name."""
    found: dict[str, Build] = {GOOD: good, "good event": good_event}
    for name, item in ACCEPTED.items():
        start = b'{"p":"\\ud83d\\ude00","k":[' if name.endswith("pair") else b'{"k":['
        found[f"most {name}"] = partial(most, "memory_context", start, item, b"]}")
    for name, item in TASKS.items():
        found[f"most {name}"] = partial(most, "task_history", b"[", item, b"]")
    for name, item in MEMORIES.items():
        found[f"most {name}"] = partial(most, "memory_context", b"{", item, b"}")
    found["most deep maps and arrays in an event"] = most_in_event
    for label, size in SIZES.items():
        for name, item in REPEATED.items():
            found[f"{name} again and again, {label}"] = partial(repeated, item, size)
        for name, build in ALONE.items():
            found[f"{name}, {label}"] = partial(alone, build, size)
        for kind in KINDS:
            if kind not in LARGE and kind not in MAYBE_GOOD:
                found[f"{kind} among notes, {label}"] = partial(enlarged, kind, size * 85 // 100)
    return found
