"""Sessions that change hands under load: each acknowledged task and event counts once.

A former process works on many sessions at once; a taker takes each of them up while it does so. How
they stand to each other differs; what must come out of it does not.

    threads   take the sessions up from one another, in one process
    process   two processes of one folder share them, the former lives on
    folder    the taker has a folder of its own, the former lives until it is fenced off
    offline   the former's way out is closed until the taker has ended
    killed    the former is killed with an outbox that could not go out; another process of its
              folder sends that, long after the taker has begun
"""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from firestate import StateManager
from firestate.audit.full import FullAudit
from firestate.errors import FencedError, UnavailableError, UnknownSessionError
from tests.agents.environments import another_folder, eventually
from tests.chaos.agent_processes import Log, process
from tests.chaos.settings import taken, tell

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from firestate.agents.agent import Agent

PATIENCE_SECONDS = 60.0
_TASKS_A_ROUND = 3
_THREADS = 4
_PAUSE_SECONDS = 0.2


def open_manager(project: str | None, folder: Path, gate: Path | None = None) -> StateManager:
    """Open one whose way out is closed until the file `gate` is there."""
    manager = StateManager(project, folder=folder, patience_seconds=PATIENCE_SECONDS)
    backend = manager._runtime.backend
    send = backend.send

    def gated(*arguments: Any) -> None:
        if gate is not None and not gate.exists():
            raise UnavailableError("the way is closed")
        send(*arguments)

    backend.send = gated  # type: ignore[method-assign, assignment]
    return manager


def work(log: Log, agent: Agent, task: str) -> None:
    """Do a task and record an event, and write down what was acknowledged."""
    with agent.task(task, "code", tool="editor"):
        pass
    log.write(task=task, agent=agent.identity.agent_id)
    event = agent.handed_off(("QA", "q"))
    log.write(event=event.event_id, agent=agent.identity.agent_id)


def former(log: Log, project: str | None, folder: Path, stop: Path) -> None:
    """Begin the sessions, and work on all of them until told to stop, or fenced off from all."""
    manager = open_manager(project, folder)
    agents = [manager.start("Developer", f"d{number}", "s") for number in range(taken())]
    for agent in agents:
        work(log, agent, "first")
    log.write(begun=len(agents))
    number = 0
    while agents and not stop.exists():
        for agent in list(agents):
            try:
                work(log, agent, f"former-{number}")
            except FencedError:
                agents.remove(agent)
        number += 1
        time.sleep(_PAUSE_SECONDS)
    manager.close()


def taker(log: Log, project: str | None, folder: Path, stop: Path) -> None:
    """Take each session up, and work on it."""
    with open_manager(project, folder) as manager:
        agents = []
        for number in range(taken()):
            take_up = partial(manager.take_up, "Developer", f"d{number}", "s")
            agents.append(eventually(lambda: _if_there(take_up), PATIENCE_SECONDS))  # noqa: B023 - at once
            work(log, agents[-1], "taken")
        log.write(taken=len(agents))
        number = 0
        while not stop.exists():
            for agent in agents:
                work(log, agent, f"taker-{number}")
            number += 1
            time.sleep(_PAUSE_SECONDS)
        assert manager.flush(PATIENCE_SECONDS)


def _if_there(take_up: Callable[[], Agent]) -> Agent | None:
    with suppress(UnknownSessionError):  # what the former has sent is not stored yet
        return take_up()
    return None


def threads(log: Log, project: str | None, folder: Path, stop: Path) -> None:
    """Take the sessions up by threads that do not know of each other."""
    faults: list[BaseException] = []
    with open_manager(project, folder) as manager:
        for number in range(taken()):
            manager.start("Developer", f"d{number}", "s")

        def run(name: int) -> None:
            draw = random.Random(name)
            try:
                for number in range(taken() * _TASKS_A_ROUND):
                    who = ("Developer", f"d{draw.randrange(taken())}", "s")
                    take: Any = draw.choice([manager.take_up, manager.agent])
                    work(log, take(*who), f"thread-{name}-{number}")
            except BaseException as error:
                faults.append(error)
                raise

        running = [threading.Thread(target=run, args=(name,)) for name in range(_THREADS)]
        for each in running:
            each.start()
        for each in running:
            each.join()
        assert not faults, faults
        assert manager.flush(PATIENCE_SECONDS)
    stop.touch()


def send_what_waits(log: Log, project: str | None, folder: Path) -> None:
    """Be the next process of a folder."""
    with open_manager(project, folder) as manager:
        assert manager.flush(PATIENCE_SECONDS)
    log.write(sent=True)


class Scene:
    """The processes of one round, their logs, and the files by which they are told."""

    def __init__(self, folder: Path, environment: dict[str, str], project: str | None) -> None:
        self.folder = folder
        self.environment = environment
        self.project = project
        self.gate, self.stop_former, self.stop = (folder / n for n in ("gate", "former", "stop"))
        self.home = folder / "home"
        self.home.mkdir()
        # Over the local engine a folder elsewhere shares its store, as machines share a project.
        self.elsewhere = another_folder(self.home) if project == "" else folder / "elsewhere"
        self.logs: list[Path] = []

    def begin(self, work: Any, *arguments: Any) -> Any:
        self.logs.append(self.folder / f"{len(self.logs)}.log")
        return process(self.environment, work, self.logs[-1], self.project, *arguments)

    def until(self, word: str) -> None:
        """Wait until the process that has begun last says so."""

        def told() -> bool:
            lines = list(Log(self.logs[-1]).lines())
            assert not [line for line in lines if "broken" in line], lines[-1]
            return any(word in line for line in lines)

        eventually(told, PATIENCE_SECONDS)

    def ended(self, child: Any) -> None:
        child.join(2 * PATIENCE_SECONDS)
        assert child.exitcode == 0, [list(Log(path).lines())[-1:] for path in self.logs]

    def lines(self) -> list[dict[str, Any]]:
        return [line for path in self.logs for line in Log(path).lines()]


def by_threads(scene: Scene) -> None:
    scene.ended(scene.begin(threads, scene.home, scene.stop))


def with_the_former_alive(scene: Scene, folder: Path) -> None:
    first = scene.begin(former, scene.home, scene.stop_former)
    scene.until("begun")
    second = scene.begin(taker, folder, scene.stop)
    scene.until("taken")
    time.sleep(1.0)
    scene.stop_former.touch()
    scene.ended(first)
    scene.stop.touch()
    scene.ended(second)


def with_the_way_closed(scene: Scene, *, killed: bool) -> None:
    scene.stop_former.touch()
    scene.ended(scene.begin(former, scene.home, scene.stop_former))
    scene.stop_former.unlink()
    first = scene.begin(go_on, scene.home, scene.gate, scene.stop_former)
    scene.until("goes_on")
    second = scene.begin(taker, scene.elsewhere, scene.stop)
    scene.until("taken")
    time.sleep(1.0)
    if killed:
        first.kill()
        first.join()
        scene.ended(scene.begin(send_what_waits, scene.home))
        time.sleep(1.0)
        scene.stop.touch()
        scene.ended(second)
    else:
        scene.stop.touch()
        scene.ended(second)
        scene.gate.touch()
        scene.stop_former.touch()
        scene.ended(first)


KINDS = {
    "threads": by_threads,
    "process": lambda scene: with_the_former_alive(scene, scene.home),
    "folder": lambda scene: with_the_former_alive(scene, scene.elsewhere),
    "offline": lambda scene: with_the_way_closed(scene, killed=False),
    "killed": lambda scene: with_the_way_closed(scene, killed=True),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(1200)
def test_each_acknowledged_task_and_event_counts_once(
    tmp_path: Path, place: Any, kind: str
) -> None:
    environment, project, wait_quiet = place
    scene = Scene(tmp_path, environment, project)
    KINDS[kind](scene)
    wait_quiet()
    acknowledged = _compare(scene, wait_quiet)
    tell(f"{kind}: {taken()} sessions changed hands, {acknowledged} tasks counted once")


def go_on(log: Log, project: str | None, folder: Path, gate: Path, stop: Path) -> None:
    """Go on with the sessions in another process of the folder, whose way out is closed."""
    manager = open_manager(project, folder, gate)
    agents = [manager.agent("Developer", f"d{number}", "s") for number in range(taken())]
    number = 0
    while not stop.exists():
        for agent in agents:
            with suppress(FencedError):
                work(log, agent, f"closed-{number}")
        number += 1
        if number == _TASKS_A_ROUND:
            log.write(goes_on=True)
        time.sleep(_PAUSE_SECONDS)
    assert manager.flush(PATIENCE_SECONDS)
    manager.close()


def _compare(scene: Scene, wait_quiet: Any) -> int:
    """Compare what was acknowledged with what is there; return how many tasks that are."""
    tasks: dict[str, set[str]] = {}
    events: dict[str, set[str]] = {}
    for line in scene.lines():
        if "task" in line:
            tasks.setdefault(line["agent"], set()).add(line["task"])
        elif "event" in line:
            events.setdefault(line["agent"], set()).add(line["event"])
    scene.ended(scene.begin(send_what_waits, scene.home))  # of a process that did not wait for that
    with open_manager(scene.project, scene.elsewhere) as manager:
        # Whoever takes a session up merges what has come late since its holder has ended.
        agents = {name: manager.take_up("Developer", name, "s") for name in tasks}
        assert manager.flush(PATIENCE_SECONDS)
        wait_quiet()
        assert manager.settle(PATIENCE_SECONDS)

        def all_there() -> bool:
            return all(tasks[name] <= _done(agent) for name, agent in agents.items())

        eventually(all_there, PATIENCE_SECONDS)
        assert manager.flush(PATIENCE_SECONDS)
        assert manager.settle(PATIENCE_SECONDS)
        wait_quiet()

        def wrong() -> list[Any]:
            found = []
            for name, agent in agents.items():
                (learned,) = manager.learned("Developer", name).value.kinds
                if learned.tries != len(agent.state.task_history):
                    found.append((name, learned.tries, len(agent.state.task_history)))
            return found

        eventually(lambda: not wrong(), PATIENCE_SECONDS)
        for name, agent in agents.items():
            ids = [entry["task_id"] for entry in agent.state.task_history]
            assert len(ids) < 200, "the history is to hold all"
            told = manager.events(agent_id=name, limit=1_000).value
            recorded = {event.event_id for event in told}
            assert events[name] <= recorded
        assert FullAudit(manager._runtime.backend.store()).run().findings == []
    return sum(map(len, tasks.values()))


def _done(agent: Agent) -> set[str]:
    with suppress(UnknownSessionError):
        return {e["task_id"] for e in agent.state.task_history if e["status"] == "completed"}
    return set()
