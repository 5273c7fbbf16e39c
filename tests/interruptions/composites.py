"""Kill a process at each line of a call, or let its disk or outbox be full at each step: a program.

    python -m tests.interruptions.composites killed 1 Agent.spawn

The arguments: `killed`, `full` (the outbox has reached its bound) or `disk` (the files can grow no
further); every how many lines or steps; and the names of the calls. What a new process finds of a
call is all of it or nothing.
"""

from __future__ import annotations

import itertools
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firestate.errors import FirestateError, OutboxFullError, UnavailableError
from tests.interruptions import forked, tracing
from tests.interruptions.calls import CASES, Case, spawn_parts
from tests.interruptions.tracing import Point
from tests.interruptions.world import World, settled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.interruptions.forked import Ended, Process, Report

_AT_ONCE = 8
_NUMBER = 1
_LARGE = "x" * 3_000


def _large_spawn(world: World, number: int) -> None:
    world.agent.spawn(
        "Child",
        f"c{number}",
        context={"case": "spawn", "n": number, "log": _LARGE},
        memory_context={"log": 2 * _LARGE},
    )


def _large_handoff(world: World, number: int) -> None:
    context = {"case": "handoff", "n": number, "log": _LARGE}
    with world.agent.handoff(world.other, context=context):
        pass


def _large_former(world: World, number: int) -> None:
    agent = world.manager.start("Former", f"r{number}", session_id="first")
    agent.update(memory_context={"past": number, "log": 2 * _LARGE})


KILLED = (
    "Agent.spawn",
    "Agent.handoff",
    "Agent.task",
    "StateManager.resume",
    "StateManager.resume_from",
)
_LARGE_CASES = {
    "Agent.spawn": Case("Agent.spawn", _large_spawn, spawn_parts),
    "Agent.handoff": Case("Agent.handoff", _large_handoff, CASES["Agent.handoff"].parts),
    "StateManager.resume": replace(CASES["StateManager.resume"], prepare=_large_former),
}
FULL = tuple(_LARGE_CASES)
_FILLER_BYTES = 700
_STEPS = 40  # fillers, before the last that there is room for
_BYTES_OF_A_STEP = 1_024


class _Closed:
    """The way out of a world, closed until it is opened: then nothing leaves the outbox."""

    def __init__(self, world: World) -> None:
        backend: Any = world.manager._runtime.backend
        self._backend = backend
        self._send = backend.send
        backend.send = self._refuse

    def _refuse(self, *_: object) -> None:
        raise UnavailableError("the way is closed")

    def open(self) -> None:
        self._backend.send = self._send


def _find_points(case: Case, folder: Path, report: Report) -> None:
    world = World(folder)
    case.prepare(world, _NUMBER)
    for point in tracing.points_of(lambda: case.call(world, _NUMBER), most=1):
        report.write(point=astuple(point))


def _die(case: Case, folder: Path, point: Point, report: Report) -> None:
    world = World(folder)
    case.prepare(world, _NUMBER)
    report.write(ready=True)
    tracing.at(
        point,
        lambda: os.kill(os.getpid(), signal.SIGKILL),
        lambda: case.call(world, _NUMBER),
    )
    report.write(missed=True)  # the line was not reached this time
    os._exit(0)


def _check(case: Case, folder: Path, report: Report) -> None:
    """Look at what is left, as the next process does."""
    report.step(10 * forked.HANG_SECONDS)
    world = World(folder, as_next_process=True)
    _report_problems(case, world, report, must_be=None)
    world.close()
    report.write(verified=True)


def _report_problems(case: Case, world: World, report: Report, *, must_be: bool | None) -> None:
    assert case.parts is not None
    try:
        if not settled(world.manager):
            report.write(problem="nothing is sent")
        parts = list(case.parts(world, _NUMBER))
        if len(set(parts)) > 1:
            report.write(problem=f"half of it is there: {parts}")
        elif must_be is not None and set(parts) != {must_be}:
            report.write(problem=f"its parts are {parts}, not all {must_be}")
        world.mark(world.agent)
        for problem in world.verify():
            report.write(problem=problem)
    except Exception as error:  # noqa: BLE001 - reported
        report.write(problem=f"{type(error).__name__}: {error}"[:300])


def _kill_all(name: str, every: int, folder: Path) -> None:
    case = CASES[name]
    found = forked.run(partial(_find_points, case, folder / "points"))
    points = [Point(*each["point"]) for each in found.records if "point" in each]
    points = points[sum(name.encode()) % every :: every]
    for group in _groups(points):
        folders = [Path(tempfile.mkdtemp(dir=folder)) for _ in group]
        begun = [
            forked.begin(partial(_die, case, own, point))
            for own, point in zip(folders, group, strict=True)
        ]
        killed = [each.end() for each in begun]
        checks = [forked.begin(partial(_check, case, own)) for own in folders]
        for point, process, check in zip(group, killed, checks, strict=True):
            if not process.last("ready"):
                _tell(name, str(point), process)
            _tell(name, str(point), check.end(), was_killed=process.code == -signal.SIGKILL)


def _tell(name: str, at: str, ended: Ended, *, was_killed: bool = True) -> None:
    forked.tell(case=name, done=was_killed)
    for record in ended.records:
        if "problem" in record:
            forked.tell(case=name, problem=record["problem"], at=at)
    if not ended.last("verified"):
        problem = "hangs" if ended.hung else f"ends with {ended.code}"
        forked.tell(case=name, problem=problem, at=at, stack=ended.stderr[-4_000:])


def _groups(wanted: list[Any]) -> Iterator[list[Any]]:
    yield from (wanted[first : first + _AT_ONCE] for first in range(0, len(wanted), _AT_ONCE))


def _fill(world: World, most: int | None = None) -> int:
    """Put small events until there is no room, or there are so many; return how many."""
    for count in itertools.count():
        if count == most:
            return count
        try:
            world.other.collaborated(world.agent, context={"filler": "x" * _FILLER_BYTES})
        except OutboxFullError:
            return count
    raise AssertionError


def _count_fillers(case: Case, folder: Path, report: Report) -> None:
    world = World(folder, outbox_bytes=0)
    way = _Closed(world)
    case.prepare(world, _NUMBER)
    report.write(fillers=_fill(world))
    way.open()


def _try_full(case: Case, folder: Path, fillers: int, report: Report) -> None:
    """Make a call when there is room for a part of it at most; all of it is done, or nothing."""
    world = World(folder, outbox_bytes=0)
    way = _Closed(world)
    case.prepare(world, _NUMBER)
    _fill(world, fillers)
    _try(case, world, way.open, report)


def _try_disk(case: Case, folder: Path, step: int, report: Report) -> None:
    """Make a call when no file can grow beyond a size: SQLite is told that the disk refuses."""
    world = World(folder)
    way = _Closed(world)
    case.prepare(world, _NUMBER)
    journal = folder / "outbox.db-wal"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = journal.stat().st_size + (step - _STEPS // 4) * _BYTES_OF_A_STEP
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(limit, 1), hard))

    def restore() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        way.open()

    _try(case, world, restore, report)


def _try(case: Case, world: World, restore: Callable[[], None], report: Report) -> None:
    refused = False
    try:
        case.call(world, _NUMBER)
    except FirestateError:
        refused = True
    report.write(refused=refused)
    restore()
    report.step(10 * forked.HANG_SECONDS)
    _report_problems(case, world, report, must_be=not refused)
    world.close()
    report.write(verified=True)


def _try_all(kind: str, name: str, every: int, folder: Path) -> None:
    case = _LARGE_CASES[name]
    if kind == "full":
        most = forked.run(partial(_count_fillers, case, folder / "count")).last("fillers")
        steps = range(max(most - _STEPS, 0), most + 1)
    else:
        steps = range(_STEPS + 1)
    work = _try_full if kind == "full" else _try_disk
    for group in _groups(list(steps[:: min(every, 3)])):
        begun: list[tuple[int, Process]] = [
            (step, forked.begin(partial(work, case, Path(tempfile.mkdtemp(dir=folder)), step)))
            for step in group
        ]
        for step, process in begun:
            ended = process.end()
            _tell(name, f"step {step}", ended, was_killed=bool(ended.last("refused")))


def outcome(kind: str, every: int) -> dict[str, list[dict[str, Any]]]:
    """Run this program, and return what it has told, by the names of the calls."""
    records = forked.program("composites", kind, every)
    assert records[-1] == {"finished": True}
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records[:-1]:
        found.setdefault(record["case"], []).append(record)
    return found


def main(kind: str, every: str, *names: str) -> None:
    logging.disable(logging.CRITICAL)
    folder = Path(tempfile.mkdtemp(prefix="composites-"))
    try:
        for name in names or (KILLED if kind == "killed" else FULL):
            if kind == "killed":
                _kill_all(name, int(every), folder)
            else:
                _try_all(kind, name, int(every), folder)
            shutil.rmtree(folder / "points", ignore_errors=True)
            shutil.rmtree(folder / "count", ignore_errors=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    forked.finish()


if __name__ == "__main__":
    main(*sys.argv[1:])
