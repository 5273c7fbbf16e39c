"""From a file's bytes to JSON, or to one line that says what is wrong, where, and what to do.

Firestate reads the JSON of others here, written by programs that have crashed, by editors, by hand.
What is not JSON is refused with its line and column; nothing is ever unpickled.
"""

from __future__ import annotations

import ast
import codecs
import json
import re
import warnings
from typing import Any

from firestate.errors import InvalidMessageError, ValueLikeError
from firestate.limits import MAX_FILE_BYTES, MAX_NESTING
from firestate.migration.formats.records import Refusal
from firestate.schema.strict_json import depth_of, parse_json

_PICKLE = re.compile(rb"\x80[\x00-\x05]|\([dl]|[}\])]q\x00|c[\w.]+\n\w+\n")
_PICKLED_IN_JSON = re.compile(rb'"py/(object|reduce|type|function|repr)"\s*:')
_WIDE = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_UNKNOWN = ("NaN", "Infinity", "-Infinity")
_LONGEST_NUMBER = 1_000
_LONGEST_PYTHON = 1_000_000  # a longer text is judged by its first words: to parse it takes memory
_PRINTED = re.compile(r"\s*[\[{]+\s*'")
_OF_PYTHON = ("'", "True", "False", "None", "(")
_FRAGMENT = re.compile(r"[\w.+-]{1,40}")
_PLACE = re.compile(r" at line (\d+) column (\d+)$")
_BYTE = re.compile(r" at byte (\d+)$")
_CUT_OFF = ("it seems to be cut off", "bring back a whole copy of it")


class Unreadable(ValueLikeError):  # noqa: N818 - it carries a refusal, which is no fault of the program
    """A file that cannot be read; `refusal` says why."""

    def __init__(self, place: str, reason: str, advice: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.refusal = Refusal(place, reason, advice)


def decode_file(data: bytes) -> Any:  # noqa: ANN401 - any JSON
    """Give the JSON in a file; raise Unreadable."""
    check_head(data)
    opening = data.count(b"[") + data.count(b"{")
    if opening > MAX_NESTING and depth_of(data) > MAX_NESTING:
        raise Unreadable(
            _place_of_oddity(data),
            f"nests deeper than {MAX_NESTING} levels",
            "write the inner part as a JSON text, or leave it out",
        )
    try:
        return parse_json(data)
    except InvalidMessageError as error:
        raise _explained(data, error) from error


def check_head(data: bytes) -> None:
    """Raise Unreadable where the first bytes tell that this is no JSON in UTF-8."""
    if len(data) > MAX_FILE_BYTES:
        raise too_large(len(data))
    if _PICKLE.match(data):
        raise Unreadable(
            "line 1 column 1",
            "is a pickle, which runs code of its maker when it is read: it is not read",
            "write it as JSON with the program that made it",
        )
    if pickled := _PICKLED_IN_JSON.search(data):
        raise Unreadable(
            place_of(data, pickled.start()),
            "holds pickled Python objects (jsonpickle), which are not read",
            "write them as plain JSON with the program that made it",
        )
    if data.startswith(codecs.BOM_UTF8):
        raise Unreadable(
            "line 1 column 1",
            "begins with a byte order mark, which JSON does not have",
            "save it as UTF-8 without BOM",
        )
    for mark, name in _WIDE.items():
        if data.startswith(mark):
            raise _not_utf8(name)
    if b"\0" in data[:4]:
        raise _not_utf8("UTF-16, or binary")
    if not data.strip():
        raise Unreadable("line 1 column 1", "is empty", "leave it out, or bring back a copy")


def too_large(size: int) -> Unreadable:
    """Give the refusal of a file of `size` bytes, which is not even read."""
    return Unreadable(
        "line 1 column 1",
        f"takes {size / 1e6:,.0f} MB, and files are read whole up to {MAX_FILE_BYTES / 1e6:,.0f}",
        "split its list into several files",
    )


def place_of(data: bytes, offset: int) -> str:
    """Give line and column of a byte, counted in characters from 1."""
    before = data[:offset]
    line = before.count(b"\n") + 1
    column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
    return f"line {line} column {column}"


def _not_utf8(name: str) -> Unreadable:
    return Unreadable(
        "line 1 column 1",
        f"is {name}, not UTF-8",
        f"convert it: iconv -f {name.partition(',')[0]} -t UTF-8",
    )


def _explained(data: bytes, error: InvalidMessageError) -> Unreadable:
    first = error.problems[0]
    if (byte := _BYTE.search(first.reason)) is not None:
        place, reason = place_of(data, int(byte[1])), _BYTE.sub("", first.reason)
        if reason.endswith("unexpected end of data"):
            return Unreadable(place, f"{reason}: {_CUT_OFF[0]}", _CUT_OFF[1])
        return Unreadable(place, reason, "save it as UTF-8")
    found = _PLACE.search(first.reason)
    if found is None:  # it is JSON, but for NaN, a key that is there twice, an endless number
        reason = f"{first.field} {first.reason}"
        return Unreadable(_place_of_oddity(data), reason, "put that right in the file")
    place, reason = f"line {found[1]} column {found[2]}", _PLACE.sub("", first.reason)
    return Unreadable(place, *_likely_cause(data, reason))


def _place_of_oddity(data: bytes) -> str:
    """Where the first thing stands that is refused though it can be parsed.

    A key that is there twice, a word that JSON does not know, a number without end, a bracket that
    nests too deep: found by the tokens alone, since the parser tells no places.
    """
    text = data.decode("utf-8", "replace")
    around: list[set[str] | None] = []  # of each object the keys so far, of an array None
    at_key = False
    for token in _TOKEN.finditer(text):
        word = token[0]
        odd = word in _UNKNOWN or (len(word) > _LONGEST_NUMBER and word.lstrip("-").isdecimal())
        if word in "[{":
            around.append(set() if word == "{" else None)
            odd = len(around) > MAX_NESTING
        elif word in "]}":
            del around[-1:]  # what nests too deep need not be JSON
        elif at_key and word[0] == '"' and (keys := around[-1]) is not None:
            key = _key(word)
            odd = key in keys
            keys.add(key)
        if odd:
            return place_of(data, len(text[: token.start()].encode("utf-8", "replace")))
        at_key = word in "{," and bool(around) and around[-1] is not None
    return "line 1 column 1"  # pragma: no cover - the parser has found something


def _key(word: str) -> str:
    try:
        return str(json.loads(word, strict=False))
    except ValueError:
        return word


def _likely_cause(data: bytes, reason: str) -> tuple[str, str]:
    text = data.decode("utf-8", "replace")
    if "Extra data" in reason:
        return (
            "holds more than one JSON document",
            "put them into one list, or one file each",
        )
    rest = _rest(text)
    if text.lstrip()[:1] in ("{", "[") and _is_python(text, rest):
        return (
            "was printed by Python, and is no JSON",
            "write it with json.dump, not with print or str",
        )
    unterminated = "Unterminated string" in reason and "\n" not in rest
    if not rest or unterminated or (_FRAGMENT.fullmatch(rest) and len(rest) < len(text.strip())):
        return f"{reason}: {_CUT_OFF[0]}", _CUT_OFF[1]
    return reason, "put that right in the file, or leave it out"


def _rest(text: str) -> str:
    """Give what follows from where `text` stops to be JSON."""
    try:
        json.loads(text, parse_int=len)  # a number can have more digits than are converted
    except json.JSONDecodeError as error:
        return text[error.pos :].strip()
    return ""  # pragma: no cover - only what is no JSON is looked into


def _is_python(text: str, rest: str) -> bool:
    if _PRINTED.match(text):
        return True
    if len(text) > _LONGEST_PYTHON or not rest.startswith(_OF_PYTHON):
        return False
    try:
        with warnings.catch_warnings(action="ignore"):  # it warns of escapes
            return isinstance(ast.literal_eval(text.strip()), dict | list)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
