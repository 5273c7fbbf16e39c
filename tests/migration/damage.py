"""A folder of old files, many of them damaged: what a disk looks like after years, from a seed."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import pickle
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from firestate.limits import MAX_FILE_BYTES, MAX_NESTING
from tests.migration.migration_run import old_event, old_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

START = "line 1 column 1"
PARSER = "as the parser says"
"""Stands for the place that `json.loads` gives, which a test asks for itself."""


@dataclass
class Damaged:
    """What is known of a folder: where each file is broken, and what the good ones hold."""

    folder: Path
    places: dict[str, list[str]] = field(default_factory=dict)
    good: dict[str, list[str]] = field(default_factory=dict)
    cuts: dict[str, bytes] = field(default_factory=dict)

    def write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def _good(number: int) -> tuple[Any, list[str]]:
    """Give an old file, and the ids of the agents or events that it holds."""
    ids = [f"good_{number}_{each}" for each in range(3)]
    states = [old_state(each, mood=f"ä {each}", grid=[[1], [number]]) for each in ids]
    events = [old_event(event_id=each, note="ü" * (number % 40), number=number) for each in ids]
    shapes: list[tuple[Any, list[str]]] = [
        (states[0], ids[:1]),
        (states, ids),
        ({"agents": dict(zip(ids, states, strict=True)), "saved": "today"}, ids),
        (events, ids),
        ({"events": events, "source": "monitor"}, ids),
        (events[0], ids[:1]),
    ]
    return shapes[number % len(shapes)]


def _cut(data: bytes, dice: random.Random) -> tuple[bytes, str]:
    # Before the last bracket: what is left can be no whole document.
    return data[: dice.randrange(1, len(data))], PARSER


def _printed(data: bytes, _: random.Random) -> tuple[bytes, str]:
    return str(json.loads(data)).encode(), PARSER


def _two(data: bytes, _: random.Random) -> tuple[bytes, str]:
    return data + b"\n" + data, PARSER


def _bom(data: bytes, _: random.Random) -> tuple[bytes, str]:
    return codecs.BOM_UTF8 + data, START


def _utf16(data: bytes, dice: random.Random) -> tuple[bytes, str]:
    return data.decode().encode(dice.choice(["utf-16", "utf-16-le", "utf-16-be"])), START


def _below(inner: str, data: bytes) -> tuple[bytes, str]:
    """Put a line before a file's last bracket; the mistake begins in its column 7."""
    end = data.rstrip()
    last, inside = end[-1:], end[:-1].rstrip()
    if last == b"]":
        broken = inside + b',\n{"zz":' + inner.encode() + b"}\n]"
    else:
        broken = inside + b',\n "zz":' + inner.encode() + b"\n}"
    lines = inside.count(b"\n") + 2
    return broken, f"line {lines} column 7"


def _constant(data: bytes, dice: random.Random) -> tuple[bytes, str]:
    return _below(dice.choice(["NaN", "Infinity", "-Infinity"]), data)


def _digits(data: bytes, _: random.Random) -> tuple[bytes, str]:
    return _below("9" * 5_000, data)


def _twice(data: bytes, _: random.Random) -> tuple[bytes, str]:
    broken, place = _below('{"k": 1, "k": 2}', data)
    line = place.split(" column ")[0]
    return broken, f"{line} column 16"


def _deep(data: bytes, dice: random.Random) -> tuple[bytes, str]:
    around = 2 if data.rstrip().endswith(b"]") else 1
    levels = MAX_NESTING + dice.randrange(1, 50)
    broken, place = _below("[" * levels + "]" * levels, data)
    line = place.split(" column ")[0]
    return broken, f"{line} column {7 + MAX_NESTING - around}"


def _empty(_: bytes, dice: random.Random) -> tuple[bytes, str]:
    return dice.choice([b"", b" ", b"\n\n"]), START


def _binary(data: bytes, dice: random.Random) -> tuple[bytes, str]:
    return dice.choice([b"\0" * 64, gzip.compress(data), dice.randbytes(200) + b"\xff"]), ""


def _pickled(data: bytes, dice: random.Random) -> tuple[bytes, str]:
    return pickle.dumps(json.loads(data), dice.randrange(pickle.HIGHEST_PROTOCOL + 1)), START


def _jsonpickled(data: bytes, _: random.Random) -> tuple[bytes, str]:
    return b'{\n "py/object": "agents.State",\n "state": ' + data + b"}", "line 2 column 2"


def _other(_: bytes, dice: random.Random) -> tuple[bytes, str]:
    package = {"name": "x", "version": "1.0.0", "dependencies": {"left-pad": "1"}}
    return _json(dice.choice([package, [1, 2, 3], "words", 5, {"events": [], "x": 1}])), START


def _byte(data: bytes, dice: random.Random) -> tuple[bytes, str]:
    at = data.index(b'"') + 1
    before = data[:at]
    line = before.count(b"\n") + 1
    column = len(before[before.rfind(b"\n") + 1 :].decode()) + 1
    return before + dice.choice([b"\xff", b"\xc3("]) + data[at:], f"line {line} column {column}"


def _entry(data: bytes, dice: random.Random) -> tuple[bytes, str]:
    broken: Any = dice.choice([5, None, "x", [], {"name": "x"}])
    value = json.loads(data)
    shape = dice.randrange(3)
    salt = dice.getrandbits(64)  # a file of the same bytes would be a copy
    if shape == 0:
        return _json([old_state("e1", salt=salt), broken, old_state("e2")]), "[1]"
    if shape == 1:
        events = [old_event(event_id="v1"), old_event(event_id="v2"), broken]
        return _json({"events": events, "salt": salt}), "events[2]"
    broken = dice.choice([5, None, "x", []])
    return _json(
        {"agents": {"e3": old_state("e3"), "bad": broken}, "file": value, "salt": salt}
    ), "agents.bad"


KINDS: list[Callable[[bytes, random.Random], tuple[bytes, str]]] = [
    _cut,
    _printed,
    _two,
    _bom,
    _utf16,
    _constant,
    _digits,
    _twice,
    _deep,
    _empty,
    _binary,
    _pickled,
    _jsonpickled,
    _other,
    _byte,
    _entry,
]
LINKS = ("gone.json", "circle", "itself.json", "huge.json", "pipe.json")


def make(folder: Path, seed: int, *, damaged: int = 300, good: int = 60) -> Damaged:
    """Write a folder of so many files, the same ones for the same seed."""
    dice = random.Random(seed)
    made = Damaged(folder)
    for number in range(good):
        value, ids = _good(number)
        name = f"{dice.choice(['', 'a/', 'a/b/', 'x.json/'])}good-{number:03d}.json"
        made.write(name, _json(value))
        made.good[name] = ids
    for number in range(damaged - len(LINKS)):
        data = _json(_good(1_000 + number)[0])
        name = f"{dice.choice(['', 'a/', 'a/b/', 'x.json/'])}bad-{number:03d}"
        if number % (len(KINDS) + 1) == len(KINDS):
            _flip(made, f"{name}.json", data, dice)
            continue
        kind = KINDS[number % (len(KINDS) + 1)]
        broken, place = kind(data, dice)
        name += f"{kind.__name__}.json" if kind is not _pickled else ".pkl"
        made.write(name, broken)
        made.places[name] = [_parsers(broken) if place == PARSER else place]
    _link(made)
    return made


def _flip(made: Damaged, name: str, data: bytes, dice: random.Random) -> None:
    """Change a byte, or take some out: the file may stay valid, and counts as what it then is."""
    at = dice.randrange(len(data))
    if dice.random() < 0.5:
        data = data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :]
    else:
        data = data[:at] + data[at + dice.randrange(1, 5) :]
    made.write(name, data)
    made.cuts[name] = data


def _parsers(data: bytes) -> str:
    """Give where Python's own parser stops, or where the bytes stop to be UTF-8."""
    try:
        json.loads(data.decode())
    except json.JSONDecodeError as error:
        return f"line {error.lineno} column {error.colno}"
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        lines = before.split("\n")
        return f"line {len(lines)} column {len(lines[-1]) + 1}"
    raise AssertionError(data)


def _link(made: Damaged) -> None:
    """Add what cannot be read whatever is in it, and what is too large to be."""
    (made.folder / "gone.json").symlink_to("nowhere")
    (made.folder / "itself.json").symlink_to("itself.json")
    (made.folder / "circle").symlink_to(made.folder, target_is_directory=True)
    os.mkfifo(made.folder / "pipe.json")
    with (made.folder / "huge.json").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # takes no room: there is nothing in it
    for name in LINKS:
        made.places[name] = [START]
