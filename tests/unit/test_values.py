"""What a user's map may hold, and how JSON is read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given

from firestate.limits import INT64_MAX, INT64_MIN, MAX_DEPTH, MAX_KEY_BYTES
from firestate.schema.values import (
    canonical_json,
    digest,
    problems_of,
    stored_size,
    time_text,
    utc,
)
from tests.unit.strategies import any_times, json_values


def nested(levels: int) -> Any:
    """Give a map in a map, so many deep."""
    value: Any = 1
    for _ in range(levels):
        value = {"k": value}
    return value


@pytest.mark.parametrize(
    ("value", "field", "reason"),
    [
        ({"a": [[1]]}, "m.a[0]", "array directly inside an array"),
        ({"a": [1, {"b": [[2]]}]}, "m.a[1].b[0]", "array directly inside an array"),
        ({"": 1}, "m.", "empty key"),
        ({"__x__": 1}, "m.__x__", "reserves"),
        ({"__type__": "__vector__", "value": [1.0]}, "m.__type__", "reserves"),
        ({"a": {3: 1}}, "m.a.3", "no string"),
        ({"k" * (MAX_KEY_BYTES + 1): 1}, "m." + "k" * 60, "more than 1500 bytes"),
        ({"a": INT64_MAX + 1}, "m.a", "past 64 bits"),
        ({"a": INT64_MIN - 1}, "m.a", "past 64 bits"),
        ({"a": float("nan")}, "m.a", "nan"),
        ({"a": float("-inf")}, "m.a", "-inf"),
        ({"a": "\ud800"}, "m.a", "surrogate"),
        ({"\udfff": 1}, "m.\udfff", "surrogate"),
        ({"a": b"x"}, "m.a", "bytes"),
        ({"a": {1, 2}}, "m.a", "set"),
        (nested(MAX_DEPTH + 1), "m" + ".k" * MAX_DEPTH, "nests deeper than 20 levels"),
    ],
)
def test_what_firestore_would_refuse_or_bend(value: Any, field: str, reason: str) -> None:
    """Each such value is refused, with the place where it is."""
    (problem,) = problems_of(value, "m")
    assert problem.field == field
    assert reason in problem.reason


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": [{"b": [1]}]},
        {"a.b": 1, "`": 2, "__x": 3, "x__": 4, "k" * MAX_KEY_BYTES: 5},
        {"a": [INT64_MAX, INT64_MIN, 0.1, -0.0, True, None, "", "\x00"]},
        {"when": datetime(2026, 1, 1, tzinfo=UTC)},
        nested(MAX_DEPTH),
    ],
)
def test_what_firestore_keeps(value: Any) -> None:
    """Whatever Firestore keeps as it is passes."""
    assert list(problems_of(value, "m")) == []


@given(json_values)
def test_digest_goes_by_content(value: Any) -> None:
    """The order of keys does not matter, any change of a value does."""
    reordered = json.loads(json.dumps(value), object_pairs_hook=lambda ps: dict(reversed(ps)))
    assert digest(value) == digest(reordered)
    assert digest([value, 1]) != digest([value, 2])


def test_digest_knows_true_from_one() -> None:
    """Values that Python takes for equal are not the same content."""
    assert len({digest(value) for value in (1, 1.0, True, "1", None, [1], {"1": 1})}) == 7


def test_canonical_json_has_times() -> None:
    """A time has one text, whatever zone it came in."""
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    elsewhere = noon.astimezone(timezone(timedelta(hours=5)))
    assert canonical_json({"t": noon}) == canonical_json({"t": elsewhere})
    assert canonical_json({"t": noon}) == b'{"t":"2026-01-01T12:00:00Z"}'
    with pytest.raises(TypeError, match="bytes has no JSON form"):
        canonical_json({"t": b""})


@given(any_times)
def test_times_survive_their_text(time: datetime) -> None:
    """ISO 8601 keeps a time to the microsecond."""
    assert datetime.fromisoformat(time_text(time)) == time
    assert utc(time.replace(tzinfo=None)) == time


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (None, 1),
        (True, 1),
        (7, 8),
        (1.5, 8),
        (datetime(2026, 1, 1, tzinfo=UTC), 8),
        ("", 1),
        ("ä", 3),
        (b"abc", 3),
        ([1, "a"], 10),
        ({"type": "Personal", "done": False}, 5 + 9 + 5 + 1),
    ],
)
def test_stored_size(value: Any, size: int) -> None:
    """Sizes are counted as Firestore's documentation says."""
    assert stored_size(value) == size
