"""Call an agent from where a program is called in the middle of something else: a program.

    python -m tests.interruptions.reentrancy 24 collected

The arguments: every how many lines, where it matters; and the names of the places, all of them
where none is named.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firestate.agents.backends.document_watch import Change
from firestate.errors import UnavailableError
from tests.agents.environments import Environment, eventually
from tests.interruptions import forked, tracing
from tests.interruptions.calls import CASES, Case
from tests.interruptions.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate import Agent
    from tests.interruptions.forked import Report

_LINES_OF = (
    "Agent.remember",
    "Agent.task",
    "Agent.handed_off",
    "Agent.spawn",
    "StateManager.flush",
)
_FLUSH_SECONDS = 10.0
_REST_SECONDS = 0.5
_NEWEST_EVENTS, _ALL_EVENTS = 50, 20_000


class Hook:
    """What a program does where it is called back, and whether it has worked."""

    def __init__(self, world: World, agent: Agent | None = None, *, closes: bool = False) -> None:
        self._world = world
        self._agent = agent or world.agent
        self._closes = closes
        self.calls = self._ended = 0
        self.told: object = None
        self.errors: list[str] = []
        self.done = threading.Event()

    def __call__(self, *told: object) -> None:
        self.calls += 1
        self.told = told[0] if told else None
        try:
            self._work(self.calls)
        except BaseException as error:  # noqa: BLE001 - reported
            self.errors.append(f"{type(error).__name__}: {error}"[:300])
        self._ended += 1
        self.done.set()

    def rest(self) -> None:
        """Wait until no call is under way, and none has begun for a while."""
        calls = -1
        while calls != self.calls or calls != self._ended:
            calls = self.calls
            time.sleep(_REST_SECONDS)

    def _work(self, number: int) -> None:
        agent, manager = self._agent, self._world.manager
        agent.remember("hook", number)
        agent.handed_off(self._world.other, context={"case": "hook", "n": number})
        with agent.task(f"hook{number}", "code"):
            pass
        if self._closes:
            agent.terminate()
        if not manager.flush(_FLUSH_SECONDS):
            self.errors.append("the flush does not come to an end")
        if self._closes:
            manager.close()

    def problems(self, least: int = 1, events: int = _ALL_EVENTS) -> list[str]:
        """Return what is wrong with what the calls have done, by so many of the newest events."""
        found = list(self.errors)
        if self.calls < least:
            return [*found, f"it was called {self.calls} times"]
        state = self._world.state_of(*self._agent.identity)
        if state is None or state.memory_context.get("hook") != self.calls:
            return [*found, "a note is lost"]
        tasks = {each["task_id"]: each["status"] for each in state.task_history}
        if tasks.get(f"hook{self.calls}") != "completed":
            found.append("a task is lost")
        listed = self._world.manager.events(agent_id=self._agent.identity.agent_id, limit=events)
        numbers = [each.context["n"] for each in listed.value if each.context.get("case") == "hook"]
        first = self.calls - len(numbers) + 1 if len(listed.value) == events else 1
        if not numbers or sorted(numbers) != list(range(first, self.calls + 1)):
            found.append("an event is lost")
        return found


def _report_all(world: World, hook: Hook, report: Report) -> None:
    report.step(10 * forked.HANG_SECONDS)
    hook.rest()  # what it saves meanwhile would be read, and not be stored yet, or the other way
    for problem in (*hook.problems(), *world.verify()):
        report.write(problem=problem)


def _wait(hook: Hook, report: Report) -> None:
    if not hook.done.wait(forked.HANG_SECONDS / 2):
        report.write(problem="it was not called, or has not returned")


class _Garbage:
    """A cycle of objects that calls a hook when it is collected."""

    def __init__(self, hook: Hook) -> None:
        self._hook = hook
        self._itself = self

    def __del__(self) -> None:
        self._hook()


def _at_lines(every: int, report: Report, do: Callable[[World, Hook], None], folder: Path) -> None:
    """Do something at lines of some calls, each of which must do its own as well."""
    world = World(folder)
    hook = Hook(world)
    number = 0
    for name in _LINES_OF:
        case = CASES[name]
        case.call(world, number)
        number += 1
        points = tracing.points_of(partial(case.call, world, number), most=1)
        for point in points[len(name) % every :: every]:
            number += 1
            report.step()
            report.write(at=str(point))
            outcome = tracing.at(point, partial(do, world, hook), partial(case.call, world, number))
            if outcome.raised is not None:
                report.write(problem=f"{point}: {outcome.raised.__name__}: {outcome.text}"[:300])
                return
            if case.parts is not None and not all(case.parts(world, number)):
                report.write(problem=f"{point}: the outer call has done nothing")
            # To read all of them at each line takes ever longer: that is for the end.
            for problem in hook.problems(0, _NEWEST_EVENTS) if hook.calls else ():
                report.write(problem=f"{point}: {problem}")
                return
    _report_all(world, hook, report)
    world.close()


def _collected(every: int, folder: Path, report: Report) -> None:
    def do(_: World, hook: Hook) -> None:
        _Garbage(hook)
        gc.collect()

    _at_lines(every, report, do, folder)


def _signalled(every: int, folder: Path, report: Report) -> None:
    hooks: list[Hook] = []
    signal.signal(signal.SIGUSR1, lambda *_: hooks[0]())

    def do(_: World, hook: Hook) -> None:
        hooks[:] = [hook]
        signal.raise_signal(signal.SIGUSR1)

    _at_lines(every, report, do, folder)


class _Handler(logging.Handler):
    """A handler of logs that records in the agent that something was logged."""

    def __init__(self, hook: Hook) -> None:
        super().__init__()
        self._hook = hook

    def emit(self, _: logging.LogRecord) -> None:
        self._hook()


def _logged(every: int, folder: Path, report: Report) -> None:
    logging.disable(logging.NOTSET)
    log = logging.getLogger("firestate")
    log.propagate = False

    def do(_: World, hook: Hook) -> None:
        if not log.handlers:
            log.addHandler(_Handler(hook))
        log.warning("something is odd")

    _at_lines(every, report, do, folder)


def _logged_by_others(_: int, folder: Path, report: Report) -> None:
    """Threads of ours log while the agent is in the middle of a call that logs as well."""
    logging.disable(logging.NOTSET)
    log = logging.getLogger("firestate")
    log.propagate = False
    world = World(folder)
    hook = Hook(world)
    log.addHandler(_Handler(hook))

    def fail(_: object) -> None:
        raise ValueError  # logged by the thread of callbacks

    watch = world.manager.watch("Worker", "w", "s", fail)
    case = CASES["Agent.remember"]
    points = tracing.points_of(lambda: case.call(world, 0), most=1)
    for number in range(1, 31):
        report.step()
        point = points[number * len(points) // 31]
        outcome = tracing.at(point, lambda: log.warning("odd"), partial(case.call, world, number))
        if outcome.raised is not None:
            report.write(problem=f"{point}: {outcome.raised.__name__}: {outcome.text}"[:300])
            return
    watch.close()
    time.sleep(0.3)
    log.handlers.clear()
    _report_all(world, hook, report)
    world.close()


def _fenced(_: int, folder: Path, report: Report) -> None:
    world = World(folder)
    victim = world.manager.start("Victim", "v", session_id="s")
    hook = Hook(world)
    victim.on_fenced(hook)
    world.manager.settle()
    world.manager.resume("Victim", "v")
    _wait(hook, report)
    _report_all(world, hook, report)
    world.close()


def _status(change: object) -> object:
    return change.data["status"] if isinstance(change, Change) and change.data else None


def _watched(_: int, folder: Path, report: Report) -> None:
    world = World(folder)
    hook = Hook(world)
    with_changes = world.manager.start("Changing", "c", session_id="s")
    world.manager.watch("Changing", "c", "s", hook)
    with_changes.update(status="busy")
    _wait(hook, report)
    eventually(lambda: _status(hook.told) == "busy")  # it may be told of the first state before
    _report_all(world, hook, report)
    world.close()


def _operated(kind: str, folder: Path, report: Report) -> None:
    world = World(folder)
    hook = Hook(world)
    getattr(world.manager.controls, kind)(hook)
    environment = Environment("file", folder, {}, stack=None, ours=world.manager)  # type: ignore[arg-type]
    environment.set_controls(emergency_stop=kind == "on_emergency", feature_flags={"x": True})
    _wait(hook, report)
    environment.set_controls(emergency_stop=False)  # it is told of that as well
    _report_all(world, hook, report)
    world.close()


def _changed(_: int, folder: Path, report: Report) -> None:
    _operated("on_change", folder, report)


def _stopped(_: int, folder: Path, report: Report) -> None:
    _operated("on_emergency", folder, report)


def _connected(_: int, folder: Path, report: Report) -> None:
    world = World(folder)
    hook = Hook(world)
    backend: Any = world.manager._runtime.backend
    sending = backend.send

    def refuse(*_: object) -> None:
        backend.send = sending
        raise UnavailableError("the way is closed")

    world.manager.settle()
    world.manager.on_connection(hook)
    backend.send = refuse
    world.agent.save()
    _wait(hook, report)
    _report_all(world, hook, report)
    world.close()


def _closes(begin: Callable[[World, Hook], None], folder: Path, report: Report) -> None:
    """Have a hook end the agent and close the manager; look at it as the next process does."""
    world = World(folder)
    hook = Hook(world, closes=True)
    begin(world, hook)
    _wait(hook, report)
    report.step(10 * forked.HANG_SECONDS)
    world.manager.close()
    world.manager = world._opened()
    for problem in (*hook.problems(), *world.verify()):
        report.write(problem=problem)
    world.close()


def _watched_closes(_: int, folder: Path, report: Report) -> None:
    def begin(world: World, hook: Hook) -> None:
        world.manager.watch("Helper", "h", "s", hook)

    _closes(begin, folder, report)


def _call_at(case: Case, number: int, point: tracing.Point, world: World, hook: Hook) -> None:
    # What the outer call does then is its own affair: the handler would exit.
    tracing.at(point, hook, partial(case.call, world, number))
    hook.done.set()


def _signalled_closes(every: int, folder: Path, report: Report) -> None:
    """A handler ends all in the middle of a call, at some lines of it."""
    number = 0
    for name in _LINES_OF:
        case = CASES[name]
        world = World(folder / name)
        points = tracing.points_of(partial(case.call, world, 0), most=1)
        world.close()
        for point in points[len(name) % (4 * every) :: 4 * every]:
            number += 1
            report.step()
            report.write(at=str(point))

            try:
                _closes(partial(_call_at, case, number, point), folder / str(number), report)
            except AssertionError as error:
                report.write(problem=f"{point}: {error}"[:300])


_EXIT_PROGRAM = """
import sys
from pathlib import Path
from tests.interruptions.reentrancy import at_exit
at_exit(Path(sys.argv[1]), closes=sys.argv[2] == "closes")
"""


def at_exit(folder: Path, *, closes: bool) -> None:
    """Register a hook, and end this process in the ordinary way."""
    world = World(folder)
    hook = Hook(world, closes=closes)

    def work() -> None:
        hook()
        sys.stdout.write(f"{hook.errors}")
        sys.stdout.flush()

    atexit.register(work)


def _exited(_: int, folder: Path, report: Report) -> None:
    for how in ("stays", "closes"):
        own = folder / how
        command = [sys.executable, "-c", _EXIT_PROGRAM, str(own), how]
        try:
            done = subprocess.run(
                command,
                cwd=forked.ROOT,
                capture_output=True,
                text=True,
                timeout=forked.HANG_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            report.write(problem=f"{how}: it hangs: {error.stderr!r}"[-1_000:])
            continue
        if (done.returncode, done.stdout) != (0, "[]"):
            report.write(problem=f"{how}: {done.stdout} {done.stderr[-1_000:]}")
        report.step()
        world = World(own, as_next_process=True)
        state = world.state
        if state.memory_context.get("hook") != 1 or world.task("hook1")["status"] != "completed":
            report.write(problem=f"{how}: what the hook did is lost")
        if not world.has_event("hook", 1):
            report.write(problem=f"{how}: the event is lost")
        for problem in world.verify():
            report.write(problem=f"{how}: {problem}")
        world.close()


PLACES = {
    "collected": _collected,
    "signalled": _signalled,
    "signalled, closes": _signalled_closes,
    "logged": _logged,
    "logged by others": _logged_by_others,
    "fenced": _fenced,
    "watched": _watched,
    "watched, closes": _watched_closes,
    "on_change": _changed,
    "on_emergency": _stopped,
    "on_connection": _connected,
    "exited": _exited,
}


def _work(name: str, every: int, folder: Path, report: Report) -> None:
    logging.disable(logging.CRITICAL)
    PLACES[name](every, folder, report)
    report.write(finished=True)
    os._exit(0)


def main(every: str, *names: str) -> None:
    begun = []
    for name in names or PLACES:
        folder = Path(tempfile.mkdtemp(prefix="reentrancy-"))
        begun.append((name, folder, forked.begin(partial(_work, name, int(every), folder))))
    with ThreadPoolExecutor(len(begun)) as pool:  # a pipe that nobody reads has room for so much
        all_ended = list(pool.map(lambda each: each[2].end(), begun))
    for (name, folder, _), ended in zip(begun, all_ended, strict=True):
        for record in ended.records:
            if "problem" in record:
                forked.tell(place=name, problem=record["problem"])
        if not ended.last("finished"):
            problem = "hangs" if ended.hung else f"ends with {ended.code}"
            at = ended.last("at")
            forked.tell(place=name, problem=problem, at=at, stack=ended.stderr[-40_000:])
        shutil.rmtree(folder, ignore_errors=True)
    forked.finish()


if __name__ == "__main__":
    main(*sys.argv[1:])
