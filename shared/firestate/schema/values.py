"""What a user's map may hold: everything that Firestore keeps as it is, and nothing else.

Firestore refuses some values (an array inside an array, integers past 64 bits) and bends others
(a map that looks like its own vector type). Python's `json` accepts more than JSON allows. All
of that is found here, before anything is sent, with the place where it is.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from firestate.errors import FieldProblem
from firestate.limits import INT64_MAX, INT64_MIN, MAX_DEPTH, MAX_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

_RESERVED_KEY = re.compile(r"__.*__", re.DOTALL)
SHOWN_KEY = 60
"""Characters of a key that a path shows."""


def problems_of(value: object, field: str, depth: int = 0) -> Iterator[FieldProblem]:
    """Yield what in `value` Firestore would refuse or bend; `field` is the path shown to people.

    `depth` is how many maps and arrays already lie around `value`.
    """
    if isinstance(value, dict | list):
        if depth >= MAX_DEPTH:
            yield FieldProblem(field, f"nests deeper than {MAX_DEPTH} levels")
        elif isinstance(value, dict):
            yield from _map_problems(value, field, depth)
        else:
            yield from _list_problems(value, field, depth)
    elif problem := _scalar_problem(value):
        yield FieldProblem(field, problem)


def _map_problems(value: dict[Any, Any], field: str, depth: int) -> Iterator[FieldProblem]:
    # A path is put together only where it is needed: most values are scalars, and good.
    for key, item in value.items():
        if problem := _key_problem(key):
            yield FieldProblem(_below(field, key), problem)
        elif isinstance(item, dict | list):
            yield from problems_of(item, _below(field, key), depth + 1)
        elif problem := _scalar_problem(item):
            yield FieldProblem(_below(field, key), problem)


def _list_problems(value: list[Any], field: str, depth: int) -> Iterator[FieldProblem]:
    for index, item in enumerate(value):
        if isinstance(item, list):
            yield FieldProblem(f"{field}[{index}]", "is an array directly inside an array")
        elif isinstance(item, dict):
            yield from problems_of(item, f"{field}[{index}]", depth + 1)
        elif problem := _scalar_problem(item):
            yield FieldProblem(f"{field}[{index}]", problem)


def _below(field: str, key: object) -> str:
    shown = str(key)[:SHOWN_KEY]
    return f"{field}.{shown}" if field else shown


def _scalar_problem(value: object) -> str | None:
    match value:
        case None | bool() | datetime():
            return None
        case str():
            return text_problem(value)
        case int():
            inside = INT64_MIN <= value <= INT64_MAX
            return None if inside else "is an integer past 64 bits"
        case float():
            return None if math.isfinite(value) else f"is {value}, which JSON does not know"
        case _:
            return f"is a {type(value).__name__}, which JSON does not know"


class Extent(NamedTuple):
    """How large a value is: in bytes as Firestore counts them, and in values within it."""

    size: int
    values: int


def stored_size(value: object) -> int:
    """Bytes that Firestore counts for `value` (https://firebase.google.com/docs/firestore/storage-size).

    An empty map or array counts as one byte, where Firestore counts none: so a limit of size is one
    of number as well.
    """
    return extent(value).size


def extent(value: object) -> Extent:
    """Give both; not recursive, since it is asked before anything is known of `value`."""
    total = values = 0
    waiting = [value]
    while waiting:
        item = waiting.pop()
        values += 1
        match item:
            case None | bool():
                total += 1
            case str():
                total += utf8_bytes(item) + 1
            case bytes():
                total += len(item)
            case dict():
                total += sum(map(utf8_bytes, map(str, item))) + len(item) or 1
                waiting += item.values()
            case list() | tuple():
                total += not item
                waiting += item
            case _:
                total += 8
    return Extent(total, values)


def canonical_json(value: object) -> bytes:
    """Give the one JSON text of `value` whatever the order of its keys; times in ISO 8601."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_time_text
    )
    return text.encode("utf-8", "surrogatepass")


def digest(value: object) -> str:
    """32 hex digits that are the same for equal values and practically never otherwise."""
    return hashlib.blake2b(canonical_json(value), digest_size=16).hexdigest()


def utc(value: datetime) -> datetime:
    """Take a time without a zone as UTC; bring any other to UTC."""
    if value.tzinfo is UTC:
        return value
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def time_text(value: datetime) -> str:
    """ISO 8601 in UTC with a Z, as every JSON of ours has it."""
    return utc(value).isoformat().removesuffix("+00:00") + "Z"


def _time_text(value: object) -> str:
    if isinstance(value, datetime):
        return time_text(value)
    message = f"{type(value).__name__} has no JSON form"
    raise TypeError(message)


def utf8_bytes(text: str) -> int:
    """Bytes of `text` in UTF-8; raises UnicodeEncodeError for half of a surrogate pair."""
    return len(text) if text.isascii() else len(text.encode())


def text_problem(text: str) -> str | None:
    """Why `text` is no Unicode, or None if it is."""
    try:
        utf8_bytes(text)
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is no valid Unicode"
    return None


def _key_problem(key: object) -> str | None:
    if not isinstance(key, str):
        return "has a key that is no string"
    if not key:
        return "is an empty key, which Firestore refuses"
    if key.startswith("__") and _RESERVED_KEY.fullmatch(key):
        return "is a key of the form __x__, which Firestore reserves"
    if problem := text_problem(key):
        return problem
    if utf8_bytes(key) > MAX_KEY_BYTES:
        return f"is a key of more than {MAX_KEY_BYTES} bytes"
    return None
