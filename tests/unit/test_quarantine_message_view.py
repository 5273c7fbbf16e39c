"""A refused message as people see it: the place at fault, and little around it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from firestate.cli.quarantine_message_view import view
from firestate.cli.terminal_text import safe_json, safe_text
from firestate.errors import InvalidMessageError
from firestate.schema.quarantine_document import Fault
from firestate.schema.strict_json import parse_json
from tests.unit.strategies import json_values

if TYPE_CHECKING:
    from typing import Any


def seen(data: bytes, *faults: tuple[str, str]) -> list[str]:
    """Give the view as lines of plain text."""
    found = view(data, [Fault(field=field, reason=reason) for field, reason in faults])
    return [
        f"{line.gutter}{line.text}{' <-- ' + '; '.join(line.notes) if line.notes else ''}"
        for line in found
    ]


def test_faulty_fields() -> None:
    """Each is told at its line, and what is missing at the line of what should hold it."""
    data = b'{"epoch": -1, "state": {"status": "x"}}'
    faults = [("epoch", "is too small"), ("state.status", "no such"), ("state.agent_id", "missing")]
    assert seen(data, *faults) == [
        "1 {",
        '2   "epoch": -1, <-- is too small',
        '3   "state": { <-- state.agent_id: missing',
        '4     "status": "x" <-- no such',
        "5   }",
        "6 }",
    ]


def test_the_message_as_a_whole() -> None:
    """A fault of the whole stands at its first line."""
    assert seen(b"[1]", ("message", "must be an object"))[0] == "1 [ <-- must be an object"


def test_what_only_the_bytes_show() -> None:
    """A key that comes twice is marked both times; numbers are as they were written."""
    data = b'{"a": NaN, "b": [1e5], "a": 2}'
    with pytest.raises(InvalidMessageError) as raised:
        parse_json(data)
    assert seen(data, *((each.field, each.reason) for each in raised.value.problems)) == [
        "1 {",
        '2   "a": NaN, <-- is there twice in one object',
        '3   "b": [',
        "4     1e5",
        "5   ],",
        '6   "a": 2 <-- is there twice in one object',
        "7 }",
    ]


def test_a_large_message_is_cut_around_the_faults() -> None:
    """What is left out is counted; long texts are cut."""
    state = {f"k{number}": number for number in range(100_000)} | {"text": "x" * 5_000_000}
    data = json.dumps({"state": state}).encode()
    lines = seen(data, ("state.k5000", "this"), ("state.text", "and this"))
    assert lines[0] == "     1 {"
    assert lines[3] == "… 4,996 lines left out …"
    assert lines[7].endswith('"k5000": 5000, <-- this')
    assert lines[11] == "… 94,993 lines left out …"
    assert lines[15].endswith("… (4,999,814 more) <-- and this")
    assert len(lines) == 18
    assert max(map(len, lines)) < 300


def test_a_large_message_without_a_place() -> None:
    """Its beginning is shown."""
    lines = seen(json.dumps(list(range(1_000))).encode(), ("message", "must be an object"))
    assert len(lines) == 41
    assert lines[-1] == "… 962 lines left out …"


def test_text_that_is_no_json() -> None:
    """A caret stands under the column."""
    lines = seen(b'{\n "a": 1,\n "b": tru,\n "c": 2\n}\n\n\nend')
    assert lines == [
        "1 {",
        '2  "a": 1,',
        '3  "b": tru,',
        "        ^ <-- Expecting value",
        '4  "c": 2',
        "5 }",
        "6 ",
        "… 2 lines left out …",
    ]


@pytest.mark.parametrize(
    "before", ["", "[1, ", '["日本\u202e\u0301", ', '["' + "x" * 5_000 + '", ', "\t[\r", '["ä",\t']
)
def test_the_caret_stands_under_the_column(before: str) -> None:
    """Also where characters take two columns of the terminal, are escaped, or are left out."""
    shown, caret, *_ = view(f"{before}@{'y' * 500}".encode(), [])
    assert caret.text.strip() == "^"
    assert cell_len(shown.text[: shown.text.index("@")]) == cell_len(caret.text) - 1
    assert len(shown.text) < 300


def test_bytes_that_are_no_text() -> None:
    """A hex dump around the byte, with a caret under it."""
    lines = seen(b"a" * 1_000 + b"\xff" + b"b" * 1_000)
    assert lines[0] == "… 928 bytes left out …"
    assert lines[5] == "3e0  " + "61 " * 8 + "ff " + "62 " * 7 + " aaaaaaaa.bbbbbbb"
    assert lines[6] == " " * 29 + "^^ <-- byte 1,000: invalid start byte"
    assert lines[-1] == "… 929 bytes left out …"
    assert len(lines) == 12


@pytest.mark.parametrize("data", [b"", b" ", b"\xff", b"\xef\xbb\xbf{}", b"[" * 100_000, b"7"])
def test_whatever_came(data: bytes) -> None:
    """There is something to see, and not too much."""
    lines = seen(data, ("message", "is none"), ("state.a.b", "also"))
    assert lines
    assert sum(map(len, lines)) < 1_000


messages = st.one_of(
    st.binary(),
    st.text().map(lambda text: text.encode("utf-8", "surrogatepass")),
    json_values.map(lambda value: json.dumps(value, ensure_ascii=False).encode()),
)


@given(messages)
@example(b'{"\xc2\x9b31m": "\xe2\x80\xae"}')
def test_nothing_reaches_the_terminal_that_does_not_print(data: bytes) -> None:
    """Neither of the message nor of the reasons."""
    for line in seen(data, ("a\x1b[31m", "\x9b31m\u202e")):
        assert line.isprintable(), line


@given(json_values)
def test_safe_json_means_the_same(value: Any) -> None:
    """Escaped as JSON is, it is read back as it was."""
    text = safe_json(value)
    assert json.loads(text) == value
    assert all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [red]", "plain [red]"),
        ("\x1b]0;title\x07", "\\u001b]0;title\\u0007"),
        ("\x9b2J\x7f", "\\u009b2J\\u007f"),
        ("a\u202eb\nc", "a\\u202eb\\nc"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\udb40\\udc01"),
    ],
)
def test_what_does_not_print(text: str, shown: str) -> None:
    """It is seen as JSON would write it, and obeyed by no terminal."""
    assert safe_text(text) == shown
