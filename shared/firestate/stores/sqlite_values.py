"""Documents as text in SQLite, with all that Firestore would refuse refused.

JSON, in which a time and bytes are objects with one reserved key. A user's map cannot hold such a
key, since Firestore refuses it too.
"""

from __future__ import annotations

import base64
import json
import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from firestate.errors import RefusedError
from firestate.limits import (
    INT64_MAX,
    INT64_MIN,
    MAX_DEPTH,
    MAX_DOCUMENT_BYTES,
    MAX_KEY_BYTES,
)
from firestate.schema.values import problems_of, stored_size

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_TIME, _BYTES = "__time__", "__bytes__"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MOST_BYTES_A_CHARACTER = 4
"""A character of UTF-8 takes at most so many; a number, of two characters with its comma, eight."""
_DOCUMENT_OVERHEAD = 32
_SHORT_KEY = MAX_KEY_BYTES // 4
_PLAIN = frozenset({str, bool, type(None), datetime})


def microseconds(time: datetime) -> int:
    """Whole microseconds since 1970: how SQLite keeps a time."""
    return (time - _EPOCH) // _MICROSECOND


def time_from_microseconds(microseconds: int) -> datetime:
    """Give the time again."""
    return _EPOCH + timedelta(microseconds=microseconds)


def encode(data: Mapping[str, Any]) -> str:
    """Give a document as text."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=_tagged)


def decode(text: str) -> dict[str, Any]:
    """Read a document back; raise ValueError for what is none."""
    try:
        data = json.loads(text, object_hook=_untagged)
    except (TypeError, OverflowError) as error:
        message = f"holds a time or bytes that are none: {error}"
        raise ValueError(message) from error
    if not isinstance(data, dict):
        message = f"is {type(data).__name__}, not a map"
        raise ValueError(message)  # noqa: TRY004 - to callers it is one and the same damage
    return data


def check(path: str, data: Mapping[str, Any]) -> None:
    """Raise RefusedError for fields that Firestore would refuse; bytes are ours alone."""
    for name, value in data.items():
        if isinstance(value, bytes) or _surely_fine(value):
            continue
        for problem in problems_of(value, name):
            message = f"{path}: Firestore refuses this: {problem}"
            raise RefusedError(message)


def check_document_size(path: str, data: Mapping[str, Any], text: str) -> None:
    """Raise RefusedError for a document of more than 1 MiB, as Firestore counts."""
    try:
        length = len(text.encode())
    except UnicodeEncodeError as error:
        message = f"{path}: holds half of a surrogate pair, which is no valid Unicode"
        raise RefusedError(message) from error
    if length * _MOST_BYTES_A_CHARACTER < MAX_DOCUMENT_BYTES:
        return  # it cannot be so large, and counting takes time
    size = stored_size(dict(data)) + len(path.encode()) + _DOCUMENT_OVERHEAD
    if size > MAX_DOCUMENT_BYTES:
        message = f"{path}: takes {size:,} bytes, Firestore takes {MAX_DOCUMENT_BYTES:,}"
        raise RefusedError(message)


def _surely_fine(value: object) -> bool:
    """Whether Firestore takes a value for certain; if not, it has to be looked at closely.

    Most of the time of a commit would go into looking closely at each value.
    """
    waiting: list[Collection[Any]] = [(value,)]
    for depth in range(MAX_DEPTH + 1):
        deeper: list[Collection[Any]] = []
        for values in waiting:
            for each in values:
                kind = type(each)
                if kind is dict or kind is list:
                    contents = _contents(each)
                    if contents is None or depth == MAX_DEPTH:
                        return False
                    deeper.append(contents)
                elif kind not in _PLAIN and not _is_fine_number(each):
                    return False
        waiting = deeper
    return True


def _contents(container: dict[str, Any] | list[Any]) -> Collection[Any] | None:
    if isinstance(container, list):
        return None if any(type(each) is list for each in container) else container
    for key in container:
        if not key or len(key) > _SHORT_KEY or key.startswith("__"):
            return None
    return container.values()


def _is_fine_number(value: object) -> bool:
    if type(value) is int:
        return INT64_MIN <= value <= INT64_MAX
    return type(value) is float and math.isfinite(value)


def _tagged(value: object) -> dict[str, Any]:
    if isinstance(value, datetime):
        return {_TIME: microseconds(value)}
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    message = f"{type(value).__name__} cannot be stored"
    raise RefusedError(message)


def _untagged(found: dict[str, Any]) -> Any:  # noqa: ANN401 - a map, a time, or bytes
    if len(found) == 1:
        if _TIME in found:
            return time_from_microseconds(found[_TIME])
        if _BYTES in found:
            return base64.b64decode(found[_BYTES])
    return found
