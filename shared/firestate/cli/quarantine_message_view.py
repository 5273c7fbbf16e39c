"""A refused message as people see it: the message itself, with the place at fault pointed out.

JSON is written out with a note at the lines of the faulty fields; text that is none is shown with
a caret under the column; bytes that are no text as a hex dump. Large ones are cut around that.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len

from firestate.cli.json_locations import lines_of, parse, places
from firestate.cli.terminal_text import cut, safe_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from firestate.schema.quarantine_document import Fault

_WHOLE = 200
_AROUND = 3
_HEAD = 40
_MOST_TEXT = 200
_BEFORE_COLUMN, _AFTER_COLUMN = 100, 60
_ROW = 16
_ROWS_AROUND = 4


@dataclass(frozen=True, slots=True)
class Shown:
    """One line of the view, safe to print: what stands left of it, and what is wrong with it."""

    gutter: str
    text: str
    notes: Sequence[str] = ()


def view(data: bytes, faults: Sequence[Fault]) -> Iterator[Shown]:
    """Give the view of a message that was refused for `faults`."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return _hex(data, error.start, error.reason)
    try:
        value = parse(text)
    except json.JSONDecodeError as error:
        return _text(text, error)
    except RecursionError:
        return _text(text, None)
    return _json(value, faults)


def _json(value: Any, faults: Sequence[Fault]) -> Iterator[Shown]:  # noqa: ANN401 - parsed JSON
    notes: dict[int, list[str]] = {}
    for fault, place in zip(faults, places(value, [f.field for f in faults]), strict=True):
        # What is missing is told at the line of what should hold it, by its name.
        named = place.absent and fault.field != "message"
        told = f"{fault.field}: {fault.reason}" if named else fault.reason
        for number in place.numbers:
            notes.setdefault(number, []).append(told)
    lines = []
    total = 0
    for line in lines_of(value):
        if total < _WHOLE:
            lines.append(line.text)
        total += 1
    if total > _WHOLE:
        return _windows((line.text for line in lines_of(value)), notes, total)
    return _windows(lines, notes, total, whole=True)


def _windows(
    lines: Iterable[str], notes: Mapping[int, Sequence[str]], total: int, *, whole: bool = False
) -> Iterator[Shown]:
    width = len(str(total))
    head = _HEAD if not notes.keys() - {0} else _AROUND
    wanted = {near for at in notes for near in range(at - _AROUND, at + _AROUND + 1)}
    left_out = 0
    for number, text in enumerate(lines):
        if not (whole or number < head or number in wanted):
            left_out += 1
            continue
        if left_out:
            yield _left_out(left_out, "lines")
            left_out = 0
        told = [safe_text(note) for note in notes.get(number, ())]
        yield Shown(f"{number + 1:>{width}} ", safe_text(cut(text, _MOST_TEXT)), told)
    if left_out:
        yield _left_out(left_out, "lines")


def _text(text: str, error: json.JSONDecodeError | None) -> Iterator[Shown]:
    lines = text.split("\n")
    if error is None:
        yield from _windows(lines, {}, len(lines))
        return
    at, width = error.lineno - 1, len(str(len(lines)))
    first, last = max(0, at - _AROUND), min(len(lines), at + _AROUND + 1)
    if first:
        yield _left_out(first, "lines")
    for number in range(first, last):
        gutter = f"{number + 1:>{width}} "
        if number != at:
            yield Shown(gutter, safe_text(cut(lines[number], _MOST_TEXT)))
            continue
        before, line, after = _around_column(lines[number], error.colno - 1)
        yield Shown(gutter, f"{before}{line}{after}")
        # Counted in columns of the terminal, of which some characters take two.
        yield Shown(" " * len(gutter), " " * cell_len(before) + "^", [safe_text(error.msg)])
    if last < len(lines):
        yield _left_out(len(lines) - last, "lines")


def _around_column(line: str, column: int) -> tuple[str, str, str]:
    start, end = max(0, column - _BEFORE_COLUMN), column + _AFTER_COLUMN
    before = (f"({start:,} more) …" if start else "") + safe_text(line[start:column])
    after = f"… ({len(line) - end:,} more)" if len(line) > end else ""
    return before, safe_text(line[column:end]), after


def _hex(data: bytes, at: int, reason: str) -> Iterator[Shown]:
    rows = (len(data) + _ROW - 1) // _ROW
    marked = at // _ROW
    first, last = max(0, marked - _ROWS_AROUND), min(rows, marked + _ROWS_AROUND + 1)
    width = len(f"{len(data):x}")
    if first:
        yield _left_out(first * _ROW, "bytes")
    for row in range(first, last):
        piece = data[row * _ROW : (row + 1) * _ROW]
        plain = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in piece)  # noqa: PLR2004 - ASCII that prints
        gutter = f"{row * _ROW:0{width}x}  "
        yield Shown(gutter, f"{piece.hex(' '):<{_ROW * 3}} {plain}")
        if row == marked:
            caret = " " * (at % _ROW * 3) + "^^"
            yield Shown(" " * len(gutter), caret, [f"byte {at:,}: {reason}"])
    if last < rows:
        yield _left_out(len(data) - last * _ROW, "bytes")


def _left_out(number: int, what: str) -> Shown:
    return Shown("", f"… {number:,} {what if number > 1 else what[:-1]} left out …")
