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
from typing import TYPE_CHECKING, Any

from firestate.errors import FieldProblem, InvalidMessageError
from firestate.limits import INT64_MAX, INT64_MIN, MAX_DEPTH, MAX_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

_RESERVED_KEY = re.compile(r"__.*__", re.DOTALL)
_SHOWN_KEY = 60
_LONGEST_NUMBER = 1_000


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
    for key, item in value.items():
        shown = f"{field}.{str(key)[:_SHOWN_KEY]}" if field else str(key)[:_SHOWN_KEY]
        if problem := _key_problem(key):
            yield FieldProblem(shown, problem)
        else:
            yield from problems_of(item, shown, depth + 1)


def _list_problems(value: list[Any], field: str, depth: int) -> Iterator[FieldProblem]:
    for index, item in enumerate(value):
        if isinstance(item, list):
            yield FieldProblem(f"{field}[{index}]", "is an array directly inside an array")
        else:
            yield from problems_of(item, f"{field}[{index}]", depth + 1)


def _scalar_problem(value: object) -> str | None:
    match value:
        case None | bool() | datetime():
            return None
        case str():
            return _text_problem(value)
        case int():
            inside = INT64_MIN <= value <= INT64_MAX
            return None if inside else "is an integer past 64 bits"
        case float():
            return None if math.isfinite(value) else f"is {value}, which JSON does not know"
        case _:
            return f"is a {type(value).__name__}, which JSON does not know"


def half_pairs_in(value: object) -> Iterator[FieldProblem]:
    r"""Yield where in parsed JSON half of a surrogate pair is, in a text or in a key.

    JSON can spell one (`\ud800`), and pydantic breaks on such a key. Not recursive, since JSON
    that is not checked yet may nest deeper than Python calls.
    """
    waiting: list[tuple[str, Any]] = [("message", value)]
    while waiting:
        field, item = waiting.pop()
        if isinstance(item, str) and (problem := _text_problem(item)):
            yield FieldProblem(field, problem)
        elif isinstance(item, list):
            waiting += [(f"{field}[{index}]", each) for index, each in enumerate(item)]
        elif isinstance(item, dict):
            for key, each in item.items():
                shown = key[:_SHOWN_KEY].encode("utf-8", "backslashreplace").decode()
                inner = shown if field == "message" else f"{field}.{shown}"
                if problem := _text_problem(key):
                    yield FieldProblem(inner, problem)
                waiting.append((inner, each))


def stored_size(value: object) -> int:
    """Bytes that Firestore counts for `value` (https://firebase.google.com/docs/firestore/storage-size).

    An empty map or array counts as one byte, where Firestore counts none: so a limit of size is one
    of number as well. Not recursive, since it is asked before anything is known of `value`.
    """
    total = 0
    waiting = [value]
    while waiting:
        item = waiting.pop()
        match item:
            case None | bool():
                total += 1
            case str():
                total += len(item.encode()) + 1
            case bytes():
                total += len(item)
            case dict():
                total += sum(len(str(key).encode()) + 1 for key in item) or 1
                waiting += item.values()
            case list() | tuple():
                total += not item
                waiting += item
            case _:
                total += 8
    return total


def parse_json(data: bytes) -> Any:  # noqa: ANN401 - JSON can be anything, the schema says what
    """Parse UTF-8 JSON, more strictly than `json.loads`.

    Raises InvalidMessageError for what is no JSON, for NaN and Infinity, for an object that has
    a key twice (readers differ in which one wins) and for nesting that exhausts the stack.
    """
    try:
        return json.loads(
            data.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_int=_parse_int,
            object_pairs_hook=_unique_keys,
        )
    except UnicodeDecodeError as error:
        raise _not_json(f"is not UTF-8: {error.reason} at byte {error.start}") from error
    except json.JSONDecodeError as error:
        reason = f"is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        raise _not_json(reason) from error
    except RecursionError as error:
        raise _not_json("nests too deeply to be read") from error


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
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def time_text(value: datetime) -> str:
    """ISO 8601 in UTC with a Z, as every JSON of ours has it."""
    return utc(value).replace(tzinfo=None).isoformat() + "Z"


def _time_text(value: object) -> str:
    if isinstance(value, datetime):
        return time_text(value)
    message = f"{type(value).__name__} has no JSON form"
    raise TypeError(message)


def _text_problem(text: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is no valid Unicode"
    return None


def _key_problem(key: object) -> str | None:
    if not isinstance(key, str):
        return "has a key that is no string"
    if not key:
        return "is an empty key, which Firestore refuses"
    if _RESERVED_KEY.fullmatch(key):
        return "is a key of the form __x__, which Firestore reserves"
    if problem := _text_problem(key):
        return problem
    if len(key.encode()) > MAX_KEY_BYTES:
        return f"is a key of more than {MAX_KEY_BYTES} bytes"
    return None


def _not_json(reason: str) -> InvalidMessageError:
    return InvalidMessageError("json", [FieldProblem("message", reason)])


def _refuse_constant(name: str) -> None:
    raise _not_json(f"holds {name}, which JSON does not know")


def _parse_int(digits: str) -> int:
    # CPython refuses to convert more than 4,300 digits, and takes long over fewer.
    if len(digits) > _LONGEST_NUMBER:
        raise _not_json(f"holds a number of {len(digits)} digits")
    return int(digits)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _not_json(f"has the key {key[:_SHOWN_KEY]!a} twice in one object")
            seen.add(key)
    return found
