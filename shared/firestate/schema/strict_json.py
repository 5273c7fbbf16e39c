"""From the bytes of a message to JSON values: strictly, and at a cost that is bounded before.

`json.loads` builds whatever it is sent: millions of objects of a few bytes each, nests as deep as
the stack. So what no accepted message can hold is counted in the bytes first. And it takes more
than JSON allows: that is refused, with the place where it is.
"""

from __future__ import annotations

import json
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from firestate.errors import FieldProblem, InvalidMessageError
from firestate.limits import MAX_NESTING
from firestate.schema.values import SHOWN_KEY, text_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST_NUMBER = 1_000
_MOST_PROBLEMS = 20

_OPEN, _SHUT = b"[{", b"]}"
_PLAIN = bytes(set(range(256)) - set(_OPEN + _SHUT + b'"'))
_STEPS = bytes.maketrans(_OPEN + _SHUT, b"\x01\x01\xff\xff")  # as signed bytes: 1 and -1


def bounds_problem(data: bytes, most: int) -> str | None:
    """Why `data` cannot be JSON that takes at most `most` bytes in Firestore, or None.

    A comma, colon, bracket or quote inside a text is a byte that counts. Elsewhere a comma or a
    colon parts values or a key and its value, each of which counts at least one byte: by
    induction, a value of n bytes has at most n - 1 of them; at most 2n with the opening brackets,
    since no array lies directly inside an array; and at most 2n quotes.
    """
    parting = data.count(b",") + data.count(b":")
    opening = data.count(b"[") + data.count(b"{")
    quotes = data.count(b'"')
    if parting >= most or parting + opening > 2 * most or quotes > 2 * most:
        return f"holds more values than fit into {most:,} bytes, however short each is"
    if opening > MAX_NESTING and depth_of(data) > MAX_NESTING:
        return f"nests deeper than {MAX_NESTING} levels"
    return None


def depth_of(data: bytes) -> int:
    """Give how deep maps and arrays nest in the bytes of JSON."""
    # Without escapes, a text is what lies between two quotes. What is not JSON is understood up to
    # where it stops to be that, and the parser comes no further.
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = data.translate(None, _PLAIN)
    outside = marks.replace(b'""', b"")  # most texts hold no bracket
    if b'"' in outside:
        # One does: before the first of those, an odd number of quotes stands between two brackets.
        outside = b"".join(marks.split(b'"')[::2])
    return max(accumulate(memoryview(outside.translate(_STEPS)).cast("b")), default=0)


def parse_json(data: bytes) -> Any:  # noqa: ANN401 - JSON can be anything, the schema says what
    """Parse UTF-8 JSON, more strictly than `json.loads`.

    Raises InvalidMessageError for what is no JSON, with the place in the bytes; for NaN, Infinity,
    numbers of more than 1,000 digits and objects that have a key twice (readers differ in which
    one wins), with the path to each. How deep it nests is to be checked before.
    """
    strict = _Strict()
    try:
        value = json.loads(
            data.decode("utf-8"),
            parse_constant=strict.constant,
            parse_int=strict.integer,
            object_pairs_hook=strict.unique,
        )
    except UnicodeDecodeError as error:
        raise _not_json(f"is not UTF-8: {error.reason} at byte {error.start}") from error
    except json.JSONDecodeError as error:
        reason = f"is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        raise _not_json(reason) from error
    if strict.found:
        raise InvalidMessageError("json", list(strict.problems_in(value)))
    return value


class _Strict:
    """What `json.loads` calls for each number and object; keeps what is to be refused.

    It is not known here where in the whole it is: so it is let pass, and looked for afterwards.
    """

    def __init__(self) -> None:
        self.found: list[tuple[object, str, str]] = []

    def constant(self, name: str) -> object:
        return self._keep(object(), "", f"holds {name}, which JSON does not know")

    def integer(self, digits: str) -> object:
        # CPython refuses to convert more than 4,300 digits, and takes long over fewer.
        if len(digits) <= _LONGEST_NUMBER:
            return int(digits)
        return self._keep(object(), "", f"holds a number of {len(digits):,} digits")

    def unique(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    self._keep(result, key, "is there twice in one object")
                    break
                seen.add(key)
        return result

    def _keep(self, value: object, key: str, reason: str) -> object:
        # The newest is always kept: others may lie in a value whose key came a second time, but
        # such an object ends, and is kept, after all that lies in it.
        del self.found[_MOST_PROBLEMS - 1 :]
        self.found.append((value, key, reason))
        return value

    def problems_in(self, value: object) -> Iterator[FieldProblem]:
        """Yield each of the found that is in the parsed `value`, with its path."""
        wanted = {id(each): (key, reason) for each, key, reason in self.found}
        for place in _places(value):
            if id(place.value) in wanted:
                key, reason = wanted[id(place.value)]
                yield FieldProblem((_Place(None, key, place) if key else place).path, reason)


class _Place(NamedTuple):
    """A value, and how it is reached.

    The path is put together when it is shown: written out for each value of a wide map that lies
    deep, paths would take many times the memory of the values.
    """

    value: Any
    step: str | int = ""
    around: _Place | None = None

    @property
    def path(self) -> str:
        steps: list[str] = []
        place: _Place | None = self
        while place is not None and place.around is not None:
            step = place.step
            steps.append(f"[{step}]" if isinstance(step, int) else f".{step[:SHOWN_KEY]}")
            place = place.around
        text = "".join(reversed(steps)).removeprefix(".") or "message"
        return text.encode("utf-8", "backslashreplace").decode()

    def inside(self) -> Iterator[_Place]:
        if isinstance(self.value, list):
            yield from (_Place(each, index, self) for index, each in enumerate(self.value))
        elif isinstance(self.value, dict):
            yield from (_Place(each, key, self) for key, each in self.value.items())


def _places(value: object) -> Iterator[_Place]:
    waiting = [iter([_Place(value)])]
    while waiting:
        place = next(waiting[-1], None)
        if place is None:
            waiting.pop()
            continue
        yield place
        waiting.append(place.inside())


def half_pairs_in(value: object) -> Iterator[FieldProblem]:
    r"""Yield where in parsed JSON half of a surrogate pair is, in a text or in a key.

    JSON can spell one (`\ud800`), and pydantic breaks on such a key.
    """
    for place in _places(value):
        for text in (place.step, place.value):
            if isinstance(text, str) and (problem := text_problem(text)):
                yield FieldProblem(place.path, problem)


def _not_json(reason: str) -> InvalidMessageError:
    return InvalidMessageError("json", [FieldProblem("message", reason)])
