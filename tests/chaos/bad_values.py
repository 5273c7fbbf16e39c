"""What can be wrong with one value of a message: by class, where, and what stands there instead.

AT and RAW give the places (one is drawn) and what to draw: a value, or a text that stands in the
JSON in place of one; and what follows the place in the path that must be named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.limits import MAX_ID_BYTES, MAX_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    Draw = Callable[[Random], tuple[Any, str]]
    DrawText = Callable[[Random], tuple[bytes, str]]

IDS = (
    "state.agent_id",
    "state.session_id",
    "writer",
    "deleted.agent_id",
    "deleted.session_id",
    "event.event_id",
    "event.source_agent_id",
)
OTHER_IDS = (
    "state.parent_agent_id",
    "state.child_agent_ids[0]",
    "event.session_id",
    "event.target_agent_id",
)
TYPES = ("state.agent_type", "deleted.agent_type", "event.source_agent_type")
NAMES = (*IDS, *OTHER_IDS, *TYPES, "event.target_agent_type")
TIMES = (
    "state.created_at",
    "state.last_updated",
    "state.last_active",
    "state.task_totals.kinds.code.last_seen",
    "deleted.deleted_at",
    "event.timestamp",
)
MAPS = (
    "state.memory_context",
    "state.agent_config",
    "state.collaboration_context",
    "event.context",
    "event.task_context",
)
MEMBERS = (*(f"{path}.x" for path in MAPS), "state.task_history[0].x")
VALUES = (*MEMBERS, "state.memory_context.note.x", "event.context.note.deep[0]")
TEXTS = ("state.current_task", "event.error_message")
COUNTS = tuple(f"state.task_totals.kinds.code.{name}" for name in ("tries", "timed", "cancelled"))
ORDER = ("epoch", "revision")
DURATION = ("event.duration_seconds",)
METRIC = ("state.performance_metrics.x",)


def _any_of(values: Sequence[Any], below: str = "") -> Draw:
    return lambda random: (random.choice(values), below)


def _text(*texts: bytes, below: str = "") -> DrawText:
    return lambda random: (random.choice(texts), below)


def _deep(random: Random) -> tuple[Any, str]:
    value: Any = 1
    for _ in range(random.randrange(21, 60)):
        value = {"k": value}
    return value, ".k" * 20


def _long_key(random: Random) -> tuple[Any, str]:
    key = random.choice("kä") * MAX_KEY_BYTES + "k"
    return {key: 1}, f".{key[:60]}"


def _many(value: Any, number: int = 1_001) -> dict[str, Any]:
    return {f"m{n}": value for n in range(number)}


AT: dict[str, tuple[tuple[str, ...], Draw]] = {
    "integer past 64 bits": (VALUES + METRIC, _any_of([2**63, -(2**63) - 1, 10**29])),
    "half pair in a text": (VALUES + TEXTS + IDS, _any_of(["\ud800", "a\udfff", "\udc00\ud83d"])),
    "half pair in a key": (VALUES, _any_of([{"\ud83d": 1}], below=".\\ud83d")),
    "empty key": (VALUES, _any_of([{"": 1}, {"": {}}], below=".")),
    "reserved key": (VALUES, _any_of([{"__x__": 1}, {"__x__": None}], below=".__x__")),
    "vector": (VALUES, _any_of([{"__type__": "__vector__", "value": [1.5]}], below=".__type__")),
    "key too long": (VALUES, _long_key),
    "array in an array": (MEMBERS, _any_of([[[1]], [[]]], below="[0]")),
    "too deep": (MAPS, _deep),
    "id with a slash": (NAMES, _any_of(["a/b", "/", "a/"])),
    "id of dots": (NAMES, _any_of([".", ".."])),
    "id reserved": ((*IDS, *OTHER_IDS), _any_of(["__x__", "____", "__\n__"])),
    "id too long": (NAMES, _any_of(["x" * (MAX_ID_BYTES + 1), "ä" * MAX_ID_BYTES])),
    "id empty": (NAMES, _any_of([""])),
    "id that is no text": (IDS + TYPES, _any_of([7, None, True, ["a"], {"a": 1}])),
    "type with an underscore": (TYPES, _any_of(["God_Father", "_", "a_"])),
    "unknown word": (
        ("state.status", "state.task_status", "event.event_type"),
        _any_of(["sleeping", "", "IDLE", 7, True, [], "idle "]),
    ),
    "no time": (
        TIMES,
        _any_of(["yesterday", "", "2026", "2026-13-01T00:00:00Z", "2026-01-01T25:00", "NaN"]),
    ),
    "time that is no text": (TIMES, _any_of([1700000000, 1.5, True, [], {}])),
    "year out of range": (TIMES, _any_of(["0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z"])),
    "zone out of range": (TIMES, _any_of(["2026-01-01T00:00:00+24:00", "2026-01-01T00:00-99:00"])),
    "time past the calendar in UTC": (
        TIMES,
        _any_of(["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"]),
    ),
    "time with a NUL": (TIMES, _any_of(["2026-01-01T00:00:00\0", "2026-01-01\0T00:00"])),
    "no map": (MAPS, _any_of([[], [1], "x", 7, True, None])),
    "no list": (("state.task_history", "state.tools_enabled"), _any_of([{}, "x", 7, None, True])),
    "task that is no map": (("state.task_history[0]",), _any_of([1, "x", [], None])),
    "metric that is no number": (METRIC, _any_of(["1", True, None, [], {}])),
    "too many metrics": (("state.performance_metrics",), lambda _: (_many(1.5), "")),
    "too many names": (("state.tools_enabled", "state.child_agent_ids"), _any_of([["x"] * 1_001])),
    "name that is no text": (("state.tools_enabled[0]",), _any_of([1, None, True, {}, ["x"]])),
    "text that is no text": (TEXTS, _any_of([1, True, [], {}])),
    "no truth value": (("event.success", "migration"), _any_of([1, 0, "true", "yes", None, []])),
    "impossible duration": (DURATION, _any_of([-1, -0.5, 1e10, 2**70, "1", True, []])),
    "impossible count": (COUNTS, _any_of([-1, 1.5, "1", True, 10**12 + 1, 2**63, []])),
    "more successes than tries": (
        ("state.task_totals.kinds.code",),
        _any_of([{"tries": 1, "successes": 2}, {"tries": 3, "successes": 1, "timed": 4}]),
    ),
    "reserved kind": (
        ("state.task_totals.tools",),
        _any_of([{"__k__": {"tries": 1, "successes": 0}}], below=".__k__"),
    ),
    "too many kinds": (
        ("state.task_totals.kinds", "state.task_totals.tools"),
        lambda _: (_many({"tries": 1, "successes": 0}), ""),
    ),
    "no totals": (("state.task_totals.kinds.code", "state.task_totals"), _any_of([[], "x", 7])),
    "impossible order": (ORDER, _any_of([-1, 1.0, "1", True, None, 2**63, 10**30, [], 1.5])),
    "version of the future": (("schema_version",), _any_of([3, 99, 2**70])),
    "version that is none": (("schema_version",), _any_of(["1", True, 0, -1, 1.0, None, [1]])),
    "unknown field": (
        (
            "x",
            "state.mood",
            "state.__proto__",
            "state.__x__",
            "state.task_totals.x",
            "state.task_totals.kinds.code.x",
            "deleted.why",
            "event.mood",
        ),
        _any_of([1, None, {}, "x", [[[1]]], {"": {"": 1}}]),
    ),
    "hundreds of unknown fields": (("state", "deleted", "event"), lambda _: (_many(1, 300), "")),
}


RAW: dict[str, tuple[tuple[str, ...], DrawText]] = {
    "NaN": (VALUES + METRIC + DURATION + ORDER + IDS, _text(b"NaN", b"Infinity", b"-Infinity")),
    "number past doubles": (
        VALUES + METRIC + DURATION + ORDER,
        _text(b"1e400", b"-1e999", b"1" * 5_000 + b".0", b"1e" + b"9" * 99),
    ),
    "thousands of digits": (VALUES + METRIC + ORDER, _text(b"9" * 5_000, b"-" + b"1" * 1_001)),
    "key twice": (VALUES, _text(b'{"k":1,"k":1}', b'{"k":{"a":1},"b":2,"k":[]}', below=".k")),
    "key twice in other letters": (VALUES, _text(b'{"k":1,"\\u006b":1}', below=".k")),
    "half pair in a raw text": (VALUES, _text(b'"\\uD83D\\\\uDE00"', b'"\\uDe00\\ud83d"')),
}
