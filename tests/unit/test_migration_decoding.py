"""What is said of a file that is no JSON: where, why, and what its owner can do."""

from __future__ import annotations

import json
import pickle
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from firestate.limits import MAX_FILE_BYTES, MAX_NESTING
from firestate.migration.formats.decoding import (
    Unreadable,
    check_head,
    decode_file,
    place_of,
    too_large,
)
from firestate.migration.formats.detection import open_json
from tests.unit.strategies import json_values

if TYPE_CHECKING:
    from firestate.migration.formats.records import Refusal

DATE = datetime(2025, 1, 4, tzinfo=UTC)
_AT_A_COMMA = f"line 1 column {9 if sys.version_info < (3, 13) else 8}"
"""Where a comma is too many: what Python's own parser says of `{"a": 1,}`."""


def refusal_of(data: bytes) -> Refusal:
    """Give what is said of bytes that cannot be read."""
    with pytest.raises(Unreadable) as caught:
        open_json(data, "x.json", DATE)
    return caught.value.refusal


@pytest.mark.parametrize(
    ("data", "place", "reason", "advice"),
    [
        (b"", "line 1 column 1", "is empty", "bring back a copy"),
        (b" \n\t ", "line 1 column 1", "is empty", "bring back a copy"),
        (b'{"a":\n [1, 2', "line 2 column 7", "cut off", "whole copy"),
        (b'{"a": "x', "line 1 column 7", "cut off", "whole copy"),
        (b'{"a": "x\\', "line 1 column 7", "cut off", "whole copy"),
        (b'{"a": "x\\u12', "line 1 column 10", "cut off", "whole copy"),
        (b'{"a": tru', "line 1 column 7", "cut off", "whole copy"),
        (b'{"a": [-', "line 1 column 8", "cut off", "whole copy"),
        (b'{"a": "\xc3', "line 1 column 8", "cut off", "whole copy"),
        (b'{"a": ' + b"9" * 5_000 + b", ", "line 1 column 5009", "cut off", "whole copy"),
        (b'{"a":\n "x\ny"}', "line 2 column 4", "Invalid control character", "put that right"),
        (b'{"a": 1,}', _AT_A_COMMA, "is not JSON", "put that right"),
        (b'{"a": 1 # one\n}', "line 1 column 9", "Expecting ',' delimiter", "put that right"),
        (b"hello", "line 1 column 1", "Expecting value", "put that right"),
        (b"{{}: 1}", "line 1 column 2", "is not JSON", "put that right"),
        (b"{'a': 1}", "line 1 column 2", "printed by Python", "json.dump"),
        (b'[{"a": True}]', "line 1 column 8", "printed by Python", "json.dump"),
        (b'{"a": "\\d", "b": (1,)}', "line 1 column 8", "Invalid \\escape", "put that right"),
        (b'{"a": (1, 2)}', "line 1 column 7", "printed by Python", "json.dump"),
        (b"{'at': datetime.datetime(2025, 1, 4)}", "line 1 column 2", "by Python", "json.dump"),
        (b'{"a": 1}\n{"a": 2}\n', "line 2 column 1", "more than one JSON document", "one list"),
        (b"\xef\xbb\xbf{}", "line 1 column 1", "byte order mark", "without BOM"),
        ("{}".encode("utf-16"), "line 1 column 1", "is UTF-16", "iconv -f UTF-16 "),
        ("{}".encode("utf-32"), "line 1 column 1", "is UTF-32", "iconv -f UTF-32 "),
        ("{}".encode("utf-16-le"), "line 1 column 1", "UTF-16, or binary", "iconv -f UTF-16 "),
        (b'{"\xc3\xa4":\n "\xff"}', "line 2 column 3", "is not UTF-8", "save it as UTF-8"),
        (b'{"a":\n [1, NaN]}', "line 2 column 6", "a[1] holds NaN", "put that right"),
        (
            b'{"a": "NaN", "b": -Infinity}',
            "line 1 column 19",
            "b holds -Infinity",
            "put that right",
        ),
        (b'{"a": {"b": 1,\n "c": 2, "b": 3}}', "line 2 column 10", "a.b is there twice", "right"),
        (b'{"a": 1.' + b"0" * 2_000 + b', "b": NaN}', "line 1 column 2016", "b holds NaN", "right"),
        (b"[" + b"9" * 2_000 + b"]", "line 1 column 2", "number of 2,000 digits", "put that right"),
        (b'{"a":\n' + b"[" * 120 + b"]" * 120 + b"}", "line 2 column 100", "nests deeper", "text"),
        (b"]" * 3 + b"[" * 200, "line 1 column 104", "nests deeper", "leave it out"),
        (b'{"\\x":' * 101, "line 1 column 601", "nests deeper", "leave it out"),
        (b'"{\\"a\\": }"', "line 1 column 1", "its own line 1 column 7 is not JSON", "right"),
        (b'{"name": "x"}', "line 1 column 1", "an object with name), but no state", "reader"),
        (b"[1, 2]", "line 1 column 1", "is JSON (list), but no state", "reader"),
        (b'{"\\ud800": 1}', "line 1 column 1", "an object with \\ud800), but", "reader"),
        (
            b'[{\n"py/object": "x.Y"}]',
            "line 2 column 1",
            "pickled Python objects (jsonpickle)",
            "plain JSON",
        ),
    ],
)
def test_what_is_said(data: bytes, place: str, reason: str, advice: str) -> None:
    """Each kind of damage is told by its name, with its place and a way out."""
    refusal = refusal_of(data)
    assert refusal.place == place
    assert reason in refusal.reason
    assert advice in refusal.advice


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", [{"a": 1}, [1, "x"], DATE])
def test_a_pickle_is_never_read(protocol: int, value: object) -> None:
    """It is known by its first bytes, of whatever protocol it is."""
    assert "is a pickle" in refusal_of(pickle.dumps(value, protocol)).reason


def test_a_file_that_is_too_large_is_not_read() -> None:
    """Its size alone decides, and it is said in megabytes."""
    with pytest.raises(Unreadable, match="takes 50 MB"):
        check_head(bytes(MAX_FILE_BYTES + 1))
    assert "split its list" in too_large(MAX_FILE_BYTES + 1).refusal.advice


def test_half_a_pair_and_a_text_that_holds_json_can_be_read() -> None:
    """JSON can spell what Unicode does not know; a JSON text may hold the file."""
    assert decode_file(b'{"a": "\\ud800"}') == {"a": "\ud800"}
    state = {"agent_id": "a", "agent_type": "QA"}
    assert open_json(json.dumps(json.dumps(state)).encode(), "x", DATE).format == "agent-states"


def test_nesting_is_taken_to_the_limit() -> None:
    """A hundred levels are read, however many brackets lie beside one another."""
    data = b"[" * MAX_NESTING + b"]" * MAX_NESTING
    assert decode_file(data)
    wide = json.dumps([[[]]] * 200).encode()
    assert decode_file(wide) == [[[]]] * 200


@given(json_values)
def test_json_is_read_as_it_is(value: object) -> None:
    """Whatever is JSON comes back as it was written."""
    assert decode_file(json.dumps(value).encode()) == value


@given(st.binary(max_size=60))
@example(b"{'a': " + b"(" * 50)
@example(b'["\\d", b"x", True]')
@example(b'{"a": 1, {[]}: True}')
def test_nothing_breaks_it(data: bytes) -> None:
    """Any bytes are read, or refused with a line and a column."""
    refusal = None
    try:
        decode_file(data)
    except Unreadable as error:
        refusal = error.refusal
    if refusal is not None:
        assert refusal.place.startswith("line ")
        assert refusal.reason
        assert refusal.advice


@given(
    st.dictionaries(st.text(max_size=4), json_values, max_size=3),
    st.integers(0, 10_000),
    st.sampled_from("]}\",:x'T-\\"),
)
def test_the_place_of_a_mistake_is_that_of_the_parser(
    value: dict[str, object], at: int, mark: str
) -> None:
    """Line and column are those that Python's own parser gives, in characters."""
    text = json.dumps(value, ensure_ascii=False, indent=1)
    broken = text[: at % (len(text) + 1)] + mark + text[at % (len(text) + 1) :]
    place = None
    try:
        json.loads(broken)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
    if place is not None:
        assert refusal_of(broken.encode()).place == place


def test_places_are_counted_in_characters() -> None:
    """A column is what an editor shows, not a number of bytes."""
    data = 'ä"ö\nü€x'.encode()
    assert place_of(data, 0) == "line 1 column 1"
    assert place_of(data, len(data) - 1) == "line 2 column 3"
