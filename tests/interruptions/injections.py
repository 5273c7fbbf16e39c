"""Interrupt each public call at each line that it reaches: a program that tells what went wrong.

    python -m tests.interruptions.injections memory raise 1 Agent.remember Agent.spawn

The arguments: memory or disk; `raise`, or `call` for a nested call in place of an exception; every
how many lines; and the cases, all of them where none is named. With `stdlib` in front of a name in
place of a case, the lines of the standard library count as well.
"""

from __future__ import annotations

import itertools
import logging
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from firestate.errors import OutboxError
from tests.interruptions import forked, tracing
from tests.interruptions.calls import CASES, Case
from tests.interruptions.tracing import Interrupted, Outcome, Point
from tests.interruptions.world import MOST, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interruptions.forked import Report

KINDS: tuple[type[BaseException], ...] = (Interrupted, KeyboardInterrupt)
_MOST_HANGS, _MOST_HANGS_IN_ALL = 2, 10  # of one call: each takes as long as the watchdog waits
_FLUSH_EVERY = 10


@dataclass
class _Run:
    """What is interrupted, by what, and where it keeps its files."""

    where: str
    mode: str
    every: int
    files: tuple[str, ...]
    cases: list[Case]
    folder: Path
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def world(self) -> World:
        own = None if self.where == "memory" else Path(tempfile.mkdtemp(dir=self.folder))
        return World(own)


@dataclass
class _Injection:
    case: Case
    number: int
    point: Point | None
    returned: bool
    whole: bool


class _Worlds:
    """The world in use; it is verified when it has had its interruptions, or something is wrong."""

    def __init__(self, run: _Run, report: Report) -> None:
        self._run = run
        self._report = report
        self._world: World | None = None
        self._done: list[_Injection] = []

    def get(self) -> World:
        if self._world is None or len(self._done) >= MOST:
            self.verify()
            self._world = self._run.world()
        return self._world

    def note(self, done: _Injection) -> None:
        self._done.append(done)

    def drop(self) -> None:
        """Have another world: this one is broken, and that was reported."""
        if self._world is not None:
            self._report.step(10 * forked.HANG_SECONDS)
            self._world.close()
        self._world, self._done = None, []

    def verify(self) -> None:
        """Compare what is stored with what was acknowledged, and end this world."""
        if self._world is None:
            return
        self._report.step(10 * forked.HANG_SECONDS)
        names = ", ".join(sorted({each.case.name for each in self._done}))
        try:
            for problem in self._world.verify():
                self._report.write(case="in the end", problem=problem, at=names)
            for each in self._done:
                self._verify_effect(self._world, each)
        except Exception as error:  # noqa: BLE001 - reported
            problem = f"{type(error).__name__}: {error}"[:300]
            self._report.write(case="in the end", problem=problem, at=names)
        self.drop()

    def _verify_effect(self, world: World, done: _Injection) -> None:
        if not done.case.lasting or done.case.parts is None:
            return
        parts = list(done.case.parts(world, done.number))
        if set(parts) != {done.whole}:
            text = f"in the end its parts are {parts}, before they were all {done.whole}"
            self._report.write(case=done.case.name, problem=text, at=str(done.point))


def _work(run: _Run, begin: tuple[int, int], report: Report) -> None:
    """Interrupt all cases from a place on: a case, and the number of its point."""
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = _Unraisable.note
    worlds = _Worlds(run, report)
    first_case, first_point = begin
    for index in range(first_case, len(run.cases)):
        case = run.cases[index]
        start = first_point if index == first_case else 0
        report.step(10 * forked.HANG_SECONDS)
        points = _points(run, worlds, case)
        for place in range(start, len(points)):
            report.write(begin=[index, place, str(points[place])])
            report.step()
            _inject(run, worlds, case, points[place], report)
    worlds.verify()
    report.write(finished=True)


def _points(run: _Run, worlds: _Worlds, case: Case) -> list[Point]:
    world, number = worlds.get(), next(run.numbers)
    case.prepare(world, number)
    points = tracing.points_of(lambda: case.call(world, number), run.files)
    if case.fresh:
        worlds.drop()
    else:
        whole = case.parts is not None
        worlds.note(_Injection(case, number, None, returned=True, whole=whole))
    every = run.every * (4 if case.fresh else 1)  # a world for each costs more
    return points[index_of(case, every) :: every]


def index_of(case: Case, every: int) -> int:
    """Return which line is the first to be taken, so that not all calls have the same ones."""
    return sum(case.name.encode()) % every


def _inject(run: _Run, worlds: _Worlds, case: Case, point: Point, report: Report) -> None:
    world, number = worlds.get(), next(run.numbers)
    case.prepare(world, number)
    kind = KINDS[number % len(KINDS)]
    problems: list[str] = []
    nested = _Nested(case, world, number)

    def interrupt() -> None:
        if run.mode == "call":
            nested.call()
        else:
            raise kind

    outcome = tracing.at(point, interrupt, lambda: case.call(world, number))
    whole = False
    try:
        problems += _raised(run.mode, outcome, kind)
        problems += _Unraisable.others(kind)
        problems += nested.problems
        whole = _checked(case, world, number, returned=outcome.raised is None)
        nested.check()
    except BaseException as unwanted:  # noqa: BLE001 - all that goes wrong is reported
        problems.append(f"afterwards {type(unwanted).__name__}: {unwanted}"[:300])
    report.write(case=case.name, fired=outcome.fired)
    for problem in problems:
        report.write(case=case.name, problem=problem, at=str(point))
    if problems or case.fresh:
        worlds.drop()
    else:
        worlds.note(_Injection(case, number, point, returned=outcome.raised is None, whole=whole))


def _raised(mode: str, outcome: Outcome, kind: type[BaseException]) -> list[str]:
    if outcome.raised is not None and (mode == "call" or outcome.raised is not kind):
        return [f"the call raises {outcome.raised.__name__}: {outcome.text}"[:300]]
    if mode == "raise" and outcome.fired and outcome.raised is None and not _Unraisable.seen(kind):
        return ["the call swallows what is raised"]
    return []


def _checked(case: Case, world: World, number: int, *, returned: bool) -> bool:
    """Have the agent go on, and return whether the effect of the call is there."""
    if case.fresh:
        world.reopen()
        if world.folder is None:
            return True
    parts = [] if case.parts is None else list(case.parts(world, number))
    assert len(set(parts)) <= 1, f"half of it is there: {parts}"
    world.mark(case.subject(world, number))
    later = [] if case.parts is None else list(case.parts(world, number))
    assert len(set(later)) <= 1, f"half of it is there: {later}"
    assert parts == later, f"the next save makes {later} of {parts}"
    assert not returned or all(later), f"it has returned, and is not there: {later}"
    return bool(later) and all(later)


class _Unraisable:
    """What was raised in a `__del__` or a weak reference's callback: it has nowhere to go."""

    _kinds: ClassVar[list[object]] = []

    @classmethod
    def note(cls, raised: Any) -> None:
        cls._kinds.append(raised.exc_type)

    @classmethod
    def seen(cls, kind: type[BaseException]) -> bool:
        return kind in cls._kinds

    @classmethod
    def others(cls, kind: type[BaseException]) -> list[str]:
        """Return what else was raised there since the last time."""
        found = [f"in a `__del__` {each}" for each in cls._kinds if each is not kind]
        cls._kinds.clear()
        return found


class _Nested:
    """What a signal handler does: it calls the agent that is in the middle of a call."""

    def __init__(self, case: Case, world: World, number: int) -> None:
        self._case = case
        self._world = world
        self._number = number
        self._called = False
        self.problems: list[str] = []

    def call(self) -> None:
        world, number = self._world, self._number
        agent = world.agent
        try:
            agent.remember(f"nested{number}", number)
            agent.handed_off(world.other, context={"case": "nested", "n": number})
            with agent.task(f"nested{number}", "code"):
                pass
            flushed = number % _FLUSH_EVERY or world.manager.flush(forked.HANG_SECONDS / 2)
            # While the manager is closed by this very call, nobody sends any more.
            if not flushed and not (self._case.fresh and world.manager._runtime.sender._closing):
                self.problems.append("a nested flush does not come to an end")
        except OutboxError as error:
            # What is in memory is gone once the manager is closed; all else can go on.
            if not (self._case.fresh and world.folder is None):
                self.problems.append(f"the nested call finds no outbox: {error}"[:300])
            return
        except BaseException as error:  # noqa: BLE001 - reported
            self.problems.append(f"the nested call raises {type(error).__name__}: {error}"[:300])
        self._called = True

    def check(self) -> None:
        world, number = self._world, self._number
        if not self._called or self.problems or (self._case.fresh and world.folder is None):
            return
        assert world.has_event("nested", number), "the event of the nested call is lost"
        if self._case.nested:
            state = world.state
            note = state.memory_context.get(f"nested{number}")
            assert note == number, "the note of the nested call is lost"
            tasks = {each["task_id"]: each["status"] for each in state.task_history}
            status = tasks.get(f"nested{number}")
            assert status == "completed", f"the task of the nested call is {status}"


def run_all(run: _Run) -> None:
    """Interrupt all cases, and go on behind what hangs."""
    begin = (0, 0)
    hangs: dict[int, int] = {}
    while begin[0] < len(run.cases):
        ended = forked.run(partial(_work, run, begin))
        for record in ended.records:
            if "begin" not in record and "finished" not in record:
                forked.tell(**record)
        if ended.last("finished"):
            break
        index, place, point = ended.last("begin") or (begin[0], begin[1], "the first run")
        stack = "\n".join(ended.stderr.splitlines()[-40:])
        problem = "hangs" if ended.hung else f"ends its process with {ended.code}"
        forked.tell(case=run.cases[index].name, problem=problem, at=point, stack=stack)
        hangs[index] = hangs.get(index, 0) + 1
        begin = (index, place + 1) if hangs[index] < _MOST_HANGS else (index + 1, 0)
        if sum(hangs.values()) >= _MOST_HANGS_IN_ALL:
            forked.tell(case="in the end", problem="given up after so many hangs", at=point)
            break


def main(arguments: list[str]) -> None:
    where, mode, every, *names = arguments
    files: tuple[str, ...] = tracing.OURS
    if names[:1] == ["stdlib"]:
        files, names = tracing.STANDARD_LIBRARY, names[1:]
    cases = [CASES[name] for name in names or CASES]
    folder = Path(tempfile.mkdtemp(prefix="interruptions-"))
    try:
        run_all(_Run(where, mode, int(every), files, cases, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    forked.finish()


def outcome(where: str, mode: str, every: int, *names: str) -> dict[str, Any]:
    """Run this program, and return of each case how many points were reached, and the problems."""
    records = forked.program("injections", where, mode, every, *names)
    assert records[-1] == {"finished": True}
    found: dict[str, Any] = {
        name: {"injected": 0, "problems": []} for name in (*(names or CASES), "in the end")
    }
    for record in records[:-1]:
        if "problem" in record:
            found[record["case"]]["problems"].append(f"{record['at']}: {record['problem']}")
        else:
            found[record["case"]]["injected"] += record["fired"]
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
