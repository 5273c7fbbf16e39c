"""Do something at one line of the code that a call runs: raise there, or call something else.

A point is a line event of the calling thread, in a frame whose code lies in the wanted files. By
default those are the files of the package, and contextlib, which runs our context managers.

The exit of a `with` block is left out. Its line event comes before the call of `__exit__`, where no
signal arrives: the interpreter looks for signals when a function begins, after a call and when a
loop jumps back, but not between the end of a block and that call. An exception there would skip the
`__exit__`, which no real one can. The lines of an `__exit__` written in Python count.
"""

from __future__ import annotations

import contextlib
import dis
import gc
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import firestate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType, FrameType

_PACKAGE = str(Path(firestate.__file__).parent)
OURS = (_PACKAGE, contextlib.__file__)
STANDARD_LIBRARY = (*OURS, str(Path(contextlib.__file__).parent))
_MOST_OF_ONE_LINE = 3  # of a loop, the first turns


class Interrupted(BaseException):
    """What is raised at a point, as by the handler of a signal."""


@dataclass(frozen=True)
class Point:
    """The `nth` time that a line is reached."""

    file: str
    function: str
    line: int
    nth: int

    def __str__(self) -> str:
        name = self.file.removeprefix(str(Path(_PACKAGE).parent) + "/")
        return f"{name}:{self.line} {self.function} #{self.nth}"


def points_of(
    call: Callable[[], Any], files: tuple[str, ...] = OURS, most: int = _MOST_OF_ONE_LINE
) -> list[Point]:
    """Run a call, and return the points that it has reached, each line at most `most` times."""
    found: list[Point] = []
    seen: Counter[tuple[CodeType, int]] = Counter()

    def line(frame: FrameType) -> None:
        code, number = frame.f_code, frame.f_lineno
        seen[code, number] += 1
        nth = seen[code, number]
        if nth <= most:
            found.append(Point(code.co_filename, code.co_qualname, number, nth))

    with _traced(line, lambda code: code.co_filename.startswith(files)):
        call()
    return found


@dataclass(frozen=True)
class Outcome:
    """Whether a point was reached, and what the call has raised then, if anything."""

    fired: bool
    raised: type[BaseException] | None = None
    text: str = ""


def at(point: Point, action: Callable[[], None], call: Callable[[], Any]) -> Outcome:
    """Run a call, and the action when it reaches the point.

    What the action raises is raised at that line, in the code of the call.
    """
    fired = False
    count = 0

    def line(frame: FrameType) -> None:
        nonlocal count, fired
        if frame.f_lineno != point.line or fired:
            return
        count += 1
        if count == point.nth:
            fired = True
            action()

    def is_there(code: CodeType) -> bool:
        return code.co_filename == point.file and code.co_qualname == point.function

    try:
        with _traced(line, is_there):
            call()
    except BaseException as error:  # noqa: BLE001 - whatever it is: it is looked at
        # Not the error itself: it holds the frames, and with them what ends when they are gone.
        return Outcome(fired, type(error), str(error))
    return Outcome(fired)


class _traced:  # noqa: N801 - used like a function
    """Call `line` at each line event of the frames that are wanted; the collector rests."""

    def __init__(
        self, line: Callable[[FrameType], None], wanted: Callable[[CodeType], bool]
    ) -> None:
        self._line = line
        self._wanted = wanted

    def __enter__(self) -> None:
        # What the collector runs at some line would be counted as of that line.
        gc.disable()
        sys.settrace(self._call)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        gc.enable()

    def _call(self, frame: FrameType, _: str, __: object) -> Any:
        return self._event if self._wanted(frame.f_code) else None

    def _event(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "line" and frame.f_lasti not in _exits_of(frame.f_code):
            self._line(frame)
        return self._event


_EXITS: dict[CodeType, frozenset[int]] = {}
_PASSED = {"SWAP", "NOP", "COPY", "POP_BLOCK"}
"""Instructions that put a returned value out of the way before the exit is called."""


def _exits_of(code: CodeType) -> frozenset[int]:
    """Return the offsets of the instructions at which the exit of a `with` begins."""
    if code not in _EXITS:
        instructions = list(dis.get_instructions(code))
        _EXITS[code] = frozenset(
            each.offset
            for number, each in enumerate(instructions)
            if _is_exit(instructions[number : number + 8])
        )
    return _EXITS[code]


def _is_exit(following: Sequence[dis.Instruction]) -> bool:
    """Whether instructions call an `__exit__`, or an `__aexit__`.

    A block that ends calls it with three times None, the callable being on the stack already: an
    ordinary call would load that just before. A block that raises calls it by an instruction of its
    own.
    """
    if [each.opname for each in following[:2]] == ["PUSH_EXC_INFO", "WITH_EXCEPT_START"]:
        return True
    rest = list(following)
    while rest and rest[0].opname in _PASSED:
        rest.pop(0)
    nones = [each.opname.startswith("LOAD_C") and each.argval is None for each in rest[:3]]
    called = [each.opname for each in rest[3:5]]
    return nones == [True] * 3 and bool(called) and (called[0] == "CALL" or called[-1] == "CALL")
