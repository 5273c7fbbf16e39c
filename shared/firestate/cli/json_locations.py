"""JSON written out for people, one value a line, and which line a problem's field is on.

Problems name fields by dotted paths, written in two ways (`tools_enabled.3`, `task_history[0].x`),
with long keys cut. A path need not name one value only, since keys may hold dots: then it is each
of the lines that could be meant. Nothing here calls itself, as JSON may nest deeper than Python
calls, and nothing is kept of the lines, as there may be millions.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_INDEX = re.compile(r"\[([0-9]+)\]")
_SHOWN_KEY = 60
_INDENT = "  "

_Member = tuple[str, Any, frozenset[str], str]
"""Label, value, watched paths, comma."""


class Members(list[tuple[str, Any]]):
    """A JSON object with all its members, also those whose key comes again."""


class Literal(str):
    """A number or constant as it was written."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class JsonLine:
    """One line, and the watched paths that mean its value."""

    text: str
    paths: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Place:
    """The numbers of a field's lines; those of what would hold it where it is `absent`."""

    numbers: Sequence[int]
    absent: bool = False


def parse(text: str) -> Any:  # noqa: ANN401 - JSON can be anything
    """Read JSON, keeping what `json.loads` alone would lose.

    Raises json.JSONDecodeError for what is none, RecursionError for what nests too deeply.
    """
    return json.loads(
        text,
        object_pairs_hook=Members,
        parse_int=Literal,
        parse_float=Literal,
        parse_constant=Literal,
    )


def lines_of(value: Any, watched: frozenset[str] = frozenset()) -> Iterator[JsonLine]:  # noqa: ANN401 - what `parse` gave
    """Give the lines of a parsed value; `watched` are canonical paths, with all their ancestors."""
    # The path of the first entry of a list that is the whole message is written `[0]`.
    whole = {""} if isinstance(value, Members) else {"", "."}
    root = iter([("", value, watched & whole, "")])
    around: list[tuple[Iterator[_Member], str | None]] = [(root, None)]
    while around:
        members, closing = around[-1]
        member = next(members, None)
        if member is None:
            around.pop()
            if closing is not None:
                yield JsonLine(_INDENT * (len(around) - 1) + closing)
            continue
        label, inner, paths, comma = member
        start = _INDENT * (len(around) - 1) + label
        if isinstance(inner, list) and inner:
            opening, end = "{}" if isinstance(inner, Members) else "[]"
            yield JsonLine(start + opening, paths)
            around.append((_members(inner, paths, watched), end + comma))
        else:
            yield JsonLine(f"{start}{_scalar(inner)}{comma}", paths)


def places(value: Any, fields: Sequence[str]) -> list[Place]:  # noqa: ANN401 - what `parse` gave
    """Give for each field where it is in `lines_of(value)`, counted from 0."""
    chains = [list(_upwards(_canonical(field))) for field in fields]
    watched = frozenset(path for chain in chains for path in chain)
    found: dict[str, list[int]] = {}
    for number, line in enumerate(lines_of(value, watched)):
        for path in line.paths:
            found.setdefault(path, []).append(number)
    located = []
    for chain in chains:
        nearest = next(path for path in chain if path in found)
        located.append(Place(found[nearest], absent=nearest != chain[0]))
    return located


def _members(
    container: list[Any], paths: frozenset[str], watched: frozenset[str]
) -> Iterator[_Member]:
    last = len(container) - 1
    if not isinstance(container, Members):
        for index, inner in enumerate(container):
            own = watched.intersection(f"{path}.{index}" for path in paths) if paths else paths
            yield "", inner, own, "," if index < last else ""
        return
    for index, (key, inner) in enumerate(container):
        spellings = (_canonical(key), _canonical(key[:_SHOWN_KEY])) if paths else ()
        own = watched.intersection(f"{path}{each}" for path in paths for each in spellings)
        label = f"{json.dumps(key, ensure_ascii=False)}: "
        yield label, inner, own, "," if index < last else ""


def _canonical(field: str) -> str:
    """Give a path with a dot before each part, indices among them."""
    return "." + _INDEX.sub(r".\1", field.encode("utf-8", "backslashreplace").decode())


def _upwards(path: str) -> Iterator[str]:
    """Give a path and all that it is below of, up to the whole, which is empty."""
    yield path
    while path:
        path = path.rpartition(".")[0]
        yield path


def _scalar(value: object) -> str:
    match value:
        case Literal():
            return str(value)
        case Members():
            return "{}"
        case _:
            return json.dumps(value, ensure_ascii=False)
