"""Two processes on one session: the newcomer's saves stand, and the other one learns so."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from firestate import StateManager
from firestate.errors import FencedError
from firestate.schema.ids import Identity
from tests.chaos.processes import Log, environment_of, process
from tests.chaos.settings import taken, tell
from tests.chaos.states_seen import StatesSeen
from tests.load.runner import runner

if TYPE_CHECKING:
    from pathlib import Path

    from firestate.agents.agent import Agent

SESSION = Identity("Developer", "contested", "session")
_LEARNS_WITHIN_SECONDS = 2.0
_SAVES_A_SECOND = 20
_OTHERS = 10
_PATIENCE_SECONDS = 60.0


def hold(log: Log, folder: Path, number: int) -> None:
    """Take the session up, and save until another process has it."""
    with StateManager(folder=folder, patience_seconds=_PATIENCE_SECONDS) as manager:
        agent = manager.take_up(*SESSION) if number else manager.start(*SESSION)
        assert agent.fresh
        learned = threading.Event()

        def learn(_: Agent) -> None:
            log.write(learned=number, at=time.time())
            learned.set()

        agent.on_fenced(learn)
        log.write(holds=number, epoch=agent.epoch)
        while True:
            try:
                agent.measure(number=number)
            except FencedError:
                log.write(refused=number, at=time.time())
                assert learned.wait(_PATIENCE_SECONDS)
                return
            time.sleep(1 / _SAVES_A_SECOND)


def others(log: Log, folder: Path) -> None:
    """Be the load: agents that save all the time."""
    with StateManager(folder=folder) as manager:
        agents = [manager.start("Tester", f"other-{number}") for number in range(_OTHERS)]
        log.write(others=len(agents))
        while True:
            for number, agent in enumerate(agents):
                agent.measure(number=number)
                agent.handed_off(("QA", "q"))
            time.sleep(1 / _SAVES_A_SECOND * 10)


@pytest.mark.timeout(1200)
def test_a_newcomer_s_saves_stand(tmp_path: Path) -> None:
    """After its first save is stored none of the other's is, and that one learns within 2 s."""
    seen = StatesSeen()
    log, path = Log(tmp_path / "log"), tmp_path / "log"
    with runner(tmp_path) as pipeline:
        pipeline.router.listeners.append(seen)
        environment = environment_of(pipeline)
        load = process(environment, others, tmp_path / "load", tmp_path / "other")
        holders = []
        for number in range(taken() + 1):
            holders.append(process(environment, hold, path, tmp_path / str(number), number))
            _until(lambda: _is_stored(pipeline.store, number), log)  # noqa: B023 - called at once
            if number:
                holders[number - 1].join(_PATIENCE_SECONDS)
                assert holders[number - 1].exitcode == 0, _broken(log)
        load.kill()
        holders[-1].kill()
        pipeline.wait_quiet(60)
    assert not _broken(log)
    lines = list(log.lines())
    epochs = {line["holds"]: line["epoch"] for line in lines if "holds" in line}
    learned = {line["learned"]: line["at"] for line in lines if "learned" in line}
    stored = sorted(seen.states[SESSION.state_path])
    assert seen.gone_back() == []
    late = []
    for number in range(taken()):
        first = min(at for at, (epoch, _) in stored if epoch == epochs[number + 1])
        assert not [at for at, (epoch, _) in stored if epoch == epochs[number] and at > first]
        late.append(learned[number] - first.timestamp())
    tell(f"taken {len(late)} times; learned after {max(late):.2f} s at most")
    assert max(late) < _LEARNS_WITHIN_SECONDS


def _is_stored(store: Any, number: int) -> bool:
    found = store.read(SESSION.state_path, ["performance_metrics"])
    return bool(found and found.data["performance_metrics"].get("number") == number)


def _broken(log: Log) -> list[str]:
    return [line["broken"] for line in log.lines() if "broken" in line]


def _until(condition: Any, log: Log) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert not (broken := _broken(log)), broken
        assert time.monotonic() < deadline
        time.sleep(0.02)
