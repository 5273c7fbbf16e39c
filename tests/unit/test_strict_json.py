"""How bytes become JSON values: what is refused before, in and after parsing, and where it is."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from firestate.errors import InvalidMessageError
from firestate.limits import MAX_NESTING
from firestate.schema.messages import StateMessage, parse_state_message
from firestate.schema.strict_json import bounds_problem, half_pairs_in, parse_json
from firestate.schema.values import problems_of, stored_size
from tests.harness import state_message
from tests.unit.strategies import json_values

HALF = "holds half of a surrogate pair, which is no valid Unicode"


@pytest.mark.parametrize(
    ("data", "field", "reason"),
    [
        (b"", "message", "is not JSON: Expecting value at line 1 column 1"),
        (b"{", "message", "is not JSON: .* at line 1 column 2"),
        (b'{"a":\n "x}', "message", "is not JSON: .* at line 2 column 2"),
        (b"{} {}", "message", "is not JSON: Extra data at line 1 column 4"),
        (b"{}\0", "message", "is not JSON: Extra data at line 1 column 3"),
        (b"\xff{}", "message", "is not UTF-8: .* at byte 0"),
        (b'{"a": "\xed\xa0\x80"}', "message", "is not UTF-8: .* at byte 7"),
        (b"\xef\xbb\xbf{}", "message", "is not JSON: .*BOM.* at line 1 column 1"),
        ("{}".encode("utf-16"), "message", "is not UTF-8: .* at byte 0"),
        (b"NaN", "message", "holds NaN"),
        (b'{"a": NaN}', "a", "holds NaN"),
        (b'{"a": [1, {"b": -Infinity}]}', "a[1].b", "holds -Infinity"),
        (b'{"a": 1, "b": 2, "a": 3}', "a", "twice"),
        (b'{"a": [{"b": {"c": 1, "c": 1}}]}', "a[0].b.c", "twice"),
        (b'{"a": {"b": NaN}, "a": 1}', "a", "twice"),
        (b'{"\\ud800": NaN}', "\\ud800", "holds NaN"),
        (b'{"a": [' + b"9" * 2_000 + b"]}", "a[0]", "holds a number of 2,000 digits"),
        (b'{"a": -' + b"9" * 9_000 + b"}", "a", "holds a number of 9,001 digits"),
    ],
)
def test_json_is_read_strictly(data: bytes, field: str, reason: str) -> None:
    """What readers could understand in two ways is refused, with the place where it is."""
    with pytest.raises(InvalidMessageError, match=reason) as caught:
        parse_json(data)
    assert caught.value.code == "json"
    assert [problem.field for problem in caught.value.problems] == [field]


@pytest.mark.parametrize("bad", [b"NaN", b'{"k":1,"k":1}', b"1" * 1_001])
def test_some_of_many_mistakes_are_named(bad: bytes) -> None:
    """Of thousands at most 20; also where those found first are in a value that is dropped."""
    many = b"[" + b",".join([bad] * 100) + b"]"
    with pytest.raises(InvalidMessageError) as caught:
        parse_json(b'{"a": ' + many + b"}")
    assert len(caught.value.problems) == 20
    with pytest.raises(InvalidMessageError) as caught:
        parse_json(b'{"b": {"a": ' + many + b', "a": 1}, "c": 1}')
    assert [problem.field for problem in caught.value.problems] == ["b.a"]


@given(json_values)
def test_json_is_read_as_written(value: Any) -> None:
    """Any JSON value comes back as it was."""
    assert parse_json(json.dumps(value).encode()) == value


texts = st.text(alphabet='a,:[]{}"\\\n\u00e4\U0001f600', max_size=6)
crowded = st.recursive(
    st.one_of(st.just(""), texts, st.none(), st.integers(0, 9), st.just({}), st.just([])),
    lambda inner: st.one_of(
        st.lists(inner.filter(lambda item: not isinstance(item, list)), max_size=4),
        st.dictionaries(texts.filter(bool), inner, max_size=4),
    ),
    max_leaves=12,
).filter(lambda value: not list(problems_of(value, "")))
"""JSON with as many marks for its size in Firestore as there can be."""


@given(value=crowded, spaced=st.booleans())
@example(value=["", "", ""], spaced=False)
@example(value=[{}, {}, {}], spaced=False)
@example(value=[{"[": {}}, {"[": []}], spaced=False)
@example(value={"a": [{}]}, spaced=False)
@example(value=['"' * 9, ",,,", "[[["], spaced=False)
def test_what_could_be_accepted_is_never_refused_unread(value: Any, *, spaced: bool) -> None:
    """The marks in the bytes never say that a value is larger than it is."""
    size = stored_size(value)
    text = json.dumps(value, ensure_ascii=spaced, separators=None if spaced else (",", ":"))
    assert bounds_problem(text.encode(), size) is None


@pytest.mark.parametrize("part", [b"null,", b'"":', b"{", b"[", b"{[", b'"', b'\\"'])
def test_more_than_fits_is_refused_unread(part: bytes) -> None:
    """Whatever a message repeats without end, its number alone is too much."""
    assert bounds_problem(part * 500, 100) is not None


def nested(levels: int, core: bytes = b"1") -> bytes:
    """Give maps and arrays by turns, so many deep; and text that looks like more of them."""
    opening = [b'{"[{\\"[":', b"["]
    shut = [b"}", b"]"]
    inside = b"".join(opening[level % 2] for level in range(levels)) + core
    return inside + b"".join(shut[level % 2] for level in reversed(range(levels)))


@pytest.mark.parametrize(
    ("core", "levels"),
    [
        (b"1", 0),
        (b'"\\\\"', 0),
        (b'"[[[\\"{{{\\\\\\"]"', 0),
        (b'["]", "[", []]', 2),
        (b'["\\\\", [], "[["]', 2),
    ],
)
def test_nesting_is_bounded_before_parsing(core: bytes, levels: int) -> None:
    """To the level, and whatever brackets and quotes texts hold."""
    most = MAX_NESTING - levels
    assert bounds_problem(nested(most, core), 10_000) is None
    parse_json(nested(most, core))
    assert "nests deeper" in str(bounds_problem(nested(most + 1, core), 10_000))


@given(st.text(alphabet='[]{}"\\a', max_size=300))
@example("[" * 150 + "]" * 150)
@example('"' * 101 + "[" * 120)
@example("\\" * 3 + '"' + "[" * 120)
def test_nothing_nests_deep_once_it_is_parsed(text: str) -> None:
    """Also of what is no JSON, no more than the bound is read before the parser stops."""
    data = text.encode()
    if bounds_problem(data, 10_000) is None:
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(_stack_depth() + MAX_NESTING + 40)
        try:
            json.loads(data)
        except ValueError:
            pass
        finally:
            sys.setrecursionlimit(limit)


def _stack_depth() -> int:
    frame, depth = sys._getframe(), 0
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


def test_bombs_are_refused_for_what_they_are() -> None:
    """Nesting, wherever the calling stack is, makes no RecursionError."""
    for bomb in (b"[" * 200_000, b'{"a":' * 200_000, b'{"state":' * 150 + b"1" + b"}" * 150):
        with pytest.raises(InvalidMessageError, match="nests deeper than 100 levels"):
            parse_state_message(bomb)


def test_half_a_surrogate_pair_however_deep() -> None:
    """It is found before anything that would break on it, also where nesting is too deep."""
    deep = b'{"state": ' * 90 + b'["\\ud800", {"\\udfff": 1}]' + b"}" * 90
    with pytest.raises(InvalidMessageError) as caught:
        parse_state_message(deep)
    path = ".".join(["state"] * 90)
    assert [(problem.field, problem.reason) for problem in caught.value.problems] == [
        (f"{path}[0]", HALF),
        (f"{path}[1].\\udfff", HALF),
    ]
    whole = json.dumps(state_message(1, memory_context={"fine": "\U0001f600"})).encode()
    assert isinstance(parse_state_message(whole), StateMessage)
    assert list(half_pairs_in({"\U0001f600": ["\U0001f600", 1]})) == []
