"""Processes that are killed in a load: others adopt their agents, each by one, no task twice."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from firestate import StateManager
from firestate.audit.full import FullAudit
from firestate.errors import UnavailableError
from tests.agents.environments import eventually
from tests.chaos.agent_processes import Log, process
from tests.chaos.settings import taken, tell

if TYPE_CHECKING:
    from pathlib import Path

    from firestate.agents.agent import Agent

_PATIENCE_SECONDS = 120.0
_LEASE_SECONDS = 6.0
_ADOPTERS = 5
_TASKS = 12
_TASK_SECONDS = 0.2


def opened(project: str | None, folder: Path) -> StateManager:
    return StateManager(
        project,
        folder=folder,
        lease_seconds=_LEASE_SECONDS,
        patience_seconds=_PATIENCE_SECONDS,
    )


def go_on(log: Log, agent: Agent, seconds: float) -> None:
    """Do what is left of an agent's tasks; one that was under way is ended, and not done again."""
    name = agent.identity.agent_id
    known = {entry["task_id"]: entry["status"] for entry in agent.state.task_history}
    for number in range(_TASKS):
        task = f"t{number}"
        if known.get(task) == "completed":
            continue
        if task not in known:
            agent.begin_task(task, "code")
            time.sleep(seconds)
        agent.end_task(task)
        log.write(done=task, agent=name)
    agent.terminate()
    log.write(finished=name)


def worker(log: Log, project: str | None, folder: Path, name: str) -> None:
    """Do the tasks of one agent, until killed."""
    with opened(project, folder) as manager:
        agent = manager.agent("Worker", name, "s")
        agent.update(status="active")
        log.write(begun=name)
        go_on(log, agent, _TASK_SECONDS)


def adopter(log: Log, project: str | None, folder: Path, stop: Path) -> None:
    """Adopt whoever is stale, and do what is left of its tasks."""
    with opened(project, folder) as manager:
        while not stop.exists():
            adopted: list[Agent] = []
            with suppress(UnavailableError):  # it says to look again later
                adopted = manager.adopt("Worker", limit=3)
            for agent in adopted:
                log.write(adopted=agent.identity.agent_id)
                go_on(log, agent, 0.0)
            time.sleep(0.2)


@pytest.mark.timeout(1200)
def test_the_agents_of_killed_processes_are_adopted_by_one_each(tmp_path: Path, place: Any) -> None:
    environment, project, wait_quiet = place
    draw = random.Random(taken())
    # One folder, so one machine: what the outbox of another one has not sent when that dies, nobody
    # can know, and whoever adopts does it again.
    folder, stop = tmp_path / "folder", tmp_path / "stop"
    logs = {"watcher": tmp_path / "watcher.log"}

    def begin(work: Any, name: str, *arguments: Any) -> Any:
        logs[name] = tmp_path / f"{name}.log"
        return process(environment, work, logs[name], project, folder, *arguments)

    # More processes than that on one machine have Firestore's emulator answer none of them.
    names = [f"w{number}" for number in range(min(taken(), 20))]
    workers = {name: begin(worker, name, name) for name in names}

    def lines() -> list[dict[str, Any]]:
        found = [line for path in logs.values() for line in Log(path).lines()]
        assert not [line for line in found if "broken" in line], found[-1]
        return found

    with opened(project, folder) as manager:
        eventually(lambda: sum("begun" in line for line in lines()) == len(names), 120)
        adopters = [begin(adopter, f"adopter{n}", stop) for n in range(_ADOPTERS)]
        killed: set[str] = set()
        wrong: list[str] = []
        for name in draw.sample(names, len(names)):
            time.sleep(draw.uniform(0.0, 2 * _TASKS * _TASK_SECONDS / len(names)))
            workers[name].kill()
            killed.add(name)
            wrong += [
                each.agent_id for each in manager.stale().value if each.agent_id not in killed
            ]
        eventually(
            lambda: {line["finished"] for line in lines() if "finished" in line} == set(names),
            _PATIENCE_SECONDS,
        )
        stop.touch()
        for each in adopters:
            each.join(_PATIENCE_SECONDS)
            assert each.exitcode == 0
        wait_quiet()
        assert manager.settle(_PATIENCE_SECONDS)
        found = lines()
        adopted = [line["adopted"] for line in found if "adopted" in line]
        assert wrong == [], "none is stale whose process lives"
        assert len(adopted) == len(set(adopted)), "each was adopted by one"
        done = [(line["agent"], line["done"]) for line in found if "done" in line]
        assert len(done) == len(set(done)), "no task was done twice"

        def wrong_counts() -> list[Any]:
            counts = {
                name: [kind.tries for kind in manager.learned("Worker", name).value.kinds]
                for name in names
            }
            return [
                (name, each, manager.load("Worker", name, "s").value)
                for name, each in counts.items()
                if each != [_TASKS]
            ]

        with suppress(AssertionError):
            eventually(lambda: not wrong_counts(), _PATIENCE_SECONDS)
        assert wrong_counts() == []
        assert manager.stale().value == []
        assert FullAudit(manager._runtime.backend.store()).run().findings == []
    tell(f"{len(names)} killed, {len(adopted)} adopted by {_ADOPTERS}; others had ended")
