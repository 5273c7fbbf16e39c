"""Messages as dear as can be: the largest that are accepted, and bad ones of 1 and 10 MB."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.message_cost_inputs import (
    HOLE,
    ROOM,
    alone,
    compact,
    deep,
    enlarged,
    fitting,
    good,
    good_event,
    in_field,
    in_map,
    most,
    numbered,
    repeated,
    totals,
)
from firestate.schema.messages import EVENT_TOPIC
from tests.chaos.bad_kinds import LARGE, MAYBE_GOOD
from tests.chaos.bad_messages import KINDS
from tests.harness import event_message, state_message

if TYPE_CHECKING:
    from collections.abc import Callable

    Build = Callable[[], tuple[str, bytes]]

GOOD = "good"
SIZES = {"1 MB": 1_000_000, "10 MB": 9_900_000}

MAPS = deep(b'{"a":', b"}")
BOTH = deep(b'{"a":[', b"]}")

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


def most_in_event() -> tuple[str, bytes]:
    """Give an event with as many maps and arrays as the size allows."""
    many = b"[" + numbered(BOTH, fitting(BOTH)) + b"]"
    return EVENT_TOPIC, compact(event_message("e", context={"k": "@@"})).replace(HOLE, many)


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
