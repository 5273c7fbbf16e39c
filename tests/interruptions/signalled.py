"""Send real signals to processes of agents: a program that tells what went wrong.

    python -m tests.interruptions.signalled SIGINT tight 100

The arguments: SIGINT, SIGALRM (their handlers raise, and the process goes on) or SIGTERM (its
handler ends the agent and the process); the pace: `tight` loops of mixed calls, `tasks` of a
millisecond each, or `asyncio`; and how many signals.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from firestate import StateManager
from firestate.audit.full import FullAudit
from tests.interruptions import forked
from tests.interruptions.mixed_calls import Ledger, MixedCalls, key_of, problems
from tests.interruptions.tracing import Interrupted
from tests.interruptions.world import settled

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate import Agent
    from tests.interruptions.forked import Ended, Process, Report

_AT_ONCE = 8
_OF_ONE_PROCESS = 50
_MOST_SECONDS = 0.03
_RAISED = {"SIGINT": KeyboardInterrupt, "SIGALRM": Interrupted}
_IDENTITY = ("Worker", "w", "s")


def _open(folder: Path) -> StateManager:
    return StateManager(
        project="", folder=folder, snapshot_interval_seconds=0.02, patience_seconds=30
    )


class _Pace:
    """The loop that is interrupted; it reports what it tries, and what has returned."""

    def __init__(self, name: str, manager: StateManager, agent: Agent, report: Report) -> None:
        self.mixed = MixedCalls(
            manager, agent, lambda kind, number: report.write(done=[kind, number])
        )
        self._agent = agent
        self._report = report
        self.run: Callable[[], None] = getattr(self, f"_{name}")

    def _number(self) -> int:
        number = self.mixed.number + 1
        self._report.write(tried=number)
        return number

    def _tight(self) -> None:
        while True:
            self._number()
            self.mixed.next()

    def _tasks(self) -> None:
        while True:
            number = self.mixed.number = self._number()
            with self._agent.task(f"t{number}", "code"):
                end = time.perf_counter() + 0.001
                while time.perf_counter() < end:
                    pass
            self._report.write(done=["task", number])

    def _asyncio(self) -> None:
        asyncio.run(self._tasks_of_asyncio())

    async def _tasks_of_asyncio(self) -> None:
        while True:
            number = self.mixed.number = self._number()
            with self._agent.task(f"t{number}", "code"):
                await asyncio.sleep(0.001)
                await self.mixed.manager.load.aio(*self._agent.identity)
            self._report.write(done=["task", number])


def _begin(pace: str, folder: Path, report: Report) -> tuple[StateManager, Agent, _Pace]:
    logging.disable(logging.CRITICAL)
    manager = _open(folder)
    agent = manager.start(*_IDENTITY)
    loop = _Pace(pace, manager, agent, report)
    # What is loaded and compiled by the first calls is not what is shown here.
    agent.collaborated(("Helper", "h"), context={"n": 0})
    return manager, agent, loop


def _go_on(name: str, pace: str, signals: int, folder: Path, report: Report) -> None:
    """Work, and go on after each signal; end after the last one."""
    kind = _RAISED[name]
    # Before the handler raises: a signal that comes later than expected is no fault.
    signal.signal(signal.SIGALRM, _interrupt)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    manager, agent, loop = _begin(pace, folder, report)
    for caught in range(signals):
        try:
            report.step()
            report.write(ready=caught)
            loop.run()
        except kind:
            pass
        except BaseException as error:  # noqa: BLE001 - reported
            report.write(problem=f"raises {type(error).__name__}: {error}"[:300])
            os._exit(0)
        try:
            agent.save()
            agent.remember("marker", caught)
        except BaseException as error:  # noqa: BLE001 - reported
            report.write(problem=f"afterwards {type(error).__name__}: {error}"[:300])
            os._exit(0)
    report.step()
    manager.close()
    report.write(ended=True)


def _interrupt(*_: object) -> NoReturn:
    raise Interrupted


def _end(pace: str, folder: Path, report: Report) -> None:
    """Work until SIGTERM; its handler ends the agent, and this process."""
    manager, agent, loop = _begin(pace, folder, report)

    def stop(*_: object) -> NoReturn:
        try:
            agent.terminate()
            manager.close()
            report.write(ended=True)
        except BaseException as error:  # noqa: BLE001 - reported
            report.write(problem=f"in the handler {type(error).__name__}: {error}"[:300])
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    report.write(ready=0)
    try:
        loop.run()
    except BaseException as error:  # noqa: BLE001 - reported
        report.write(problem=f"raises {type(error).__name__}: {error}"[:300])


def _ledger(ended: Ended) -> Ledger:
    """Return what a process has reported: what it tried, and what was acknowledged."""
    ledger = Ledger()
    done: dict[str, set[int]] = {"note": set(), "event": {0}, "task": set(), "child": set()}
    tried: set[int] = set()
    for record in ended.records:
        if "tried" in record:
            tried.add(record["tried"])
        elif "done" in record:
            done[record["done"][0]].add(record["done"][1])
    for number in sorted(done["note"]):
        ledger.notes[key_of(number)] = number
    for key, number in ledger.notes.items():
        ledger.unsure_notes[key] = {n for n in tried if n > number and key_of(n) == key}
    ledger.events, ledger.tasks, ledger.children = done["event"], done["task"], done["child"]
    ledger.unsure_events = ledger.unsure_children = tried
    return ledger


def _verify(folder: Path, ended: Ended, *, status: str | None, report: Report) -> None:
    """Open the folder as the next process does, and compare it with what was acknowledged."""
    logging.disable(logging.CRITICAL)
    report.step(10 * forked.HANG_SECONDS)
    with _open(folder) as manager:
        found = [] if settled(manager) else ["nothing is sent"]
        found += problems(manager, _IDENTITY, _ledger(ended))
        state = manager.load(*_IDENTITY).value
        if status is not None and state is not None and state.status != status:
            found.append(f"it is {state.status}, not {status}")
        drift = FullAudit(manager._runtime.backend.store(), timedelta(0)).run().findings
        found += [f"drift: {each.as_json()}" for each in drift[:5]]
        for problem in found:
            report.write(problem=problem)
    report.write(verified=True)


def _tell(ended: Ended, what: str) -> None:
    for record in ended.records:
        if "problem" in record:
            forked.tell(problem=record["problem"])
    complete = ended.last("ended" if what == "process" else "verified")
    if ended.hung:
        forked.tell(problem=f"the {what} hangs", stack=ended.stderr[-40_000:])
    elif not complete and ended.last("problem") is None:
        forked.tell(problem=f"the {what} ends with {ended.code}", stack=ended.stderr[-40_000:])


def _check(folders: list[Path], all_ended: list[Ended], status: str | None) -> None:
    checks = []
    for folder, ended in zip(folders, all_ended, strict=True):
        _tell(ended, "process")
        if ended.last("ended") or ended.last("problem"):
            wanted = status if ended.last("ended") else None
            work = partial(_verify, folder, ended, status=wanted)
            checks.append(forked.begin(lambda report, work=work: work(report=report)))  # type: ignore[misc]
    for check in checks:
        _tell(check.end(), "check")
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _send(process: Process, number: signal.Signals, draw: random.Random) -> bool:
    """Send a signal at a random moment; return whether the process was there to get it."""
    time.sleep(draw.uniform(0, _MOST_SECONDS))
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def _raise_in(name: str, pace: str, signals: int, draw: random.Random) -> int:
    """Send signals to one process that goes on; return how many it has got."""
    folder = Path(tempfile.mkdtemp(prefix="signalled-"))
    process = forked.begin(partial(_go_on, name, pace, signals, folder))
    sent = 0
    while sent < signals and process.wait_for("ready", sent):
        if not _send(process, signal.Signals[name], draw):
            break
        sent += 1
    _check([folder], [process.end()], None)
    return sent


def _terminate(pace: str, signals: int, draw: random.Random) -> int:
    """Send SIGTERM to processes of their own, some of them beside each other."""
    folders = [Path(tempfile.mkdtemp(prefix="signalled-")) for _ in range(signals)]
    begun = [forked.begin(partial(_end, pace, folder)) for folder in folders]
    for process in begun:
        process.wait_for("ready", 0)
        _send(process, signal.SIGTERM, draw)
    _check(folders, [each.end() for each in begun], "terminated")
    return len(begun)


def main(name: str, pace: str, signals: str) -> None:
    # A parent of the tests may ignore SIGINT, and a child would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    draw = random.Random(0)
    size = _AT_ONCE if name == "SIGTERM" else _OF_ONE_PROCESS
    for first in itertools.count(0, size):
        part = min(size, int(signals) - first)
        if part <= 0:
            break
        if name == "SIGTERM":
            sent = _terminate(pace, part, draw)
        else:
            sent = _raise_in(name, pace, part, draw)
        forked.tell(sent=sent)
    forked.finish()


if __name__ == "__main__":
    main(*sys.argv[1:])
