"""Two processes on one session: the newcomer's saves stand, and the other one learns so."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from firestate import StateManager
from firestate.errors import FencedError
from firestate.schema.ids import Identity
from tests.chaos.agent_processes import Log, environment_of, process
from tests.chaos.observed_states import ObservedStates
from tests.chaos.settings import taken, tell

if TYPE_CHECKING:
    from pathlib import Path

    from firestate.agents.agent import Agent
    from firestate.agents.backends.document_watch import Change
    from tests.load.runner import Runner

SESSION = Identity("Developer", "contested", "session")
_LEARNS_WITHIN_SECONDS = 2.0
_SAVES_A_SECOND = 20
_OTHERS, _ROUNDS_AHEAD = 10, 2
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
    """Be the load: agents that save and record, no more than is counted."""
    with StateManager(folder=folder, patience_seconds=_PATIENCE_SECONDS) as manager:
        agents = [manager.start("Tester", f"other-{number}") for number in range(_OTHERS)]
        log.write(others=len(agents))
        for number in itertools.count(1):
            for agent in agents:
                agent.measure(number=number)
                agent.handed_off(("QA", "q"))
            # Else the queue would grow as long as this goes on.
            while _counted(manager) < (number - _ROUNDS_AHEAD) * _OTHERS:
                time.sleep(1 / _SAVES_A_SECOND)


def _counted(manager: StateManager) -> int:
    metrics = manager.system().value.system_metrics
    total: int = metrics.get("coordination", {}).get("total", 0)
    return total


class Told:
    """Notes when this process is told of the session's epochs: as fast as anybody can be."""

    def __init__(self, manager: StateManager) -> None:
        self.at: dict[int, float] = {}
        manager.watch(*SESSION, self._tell)

    def of(self, epoch: int, stored_at: float) -> float:
        """Return how long it took to be told of an epoch, or of a later one."""
        at = min((at for each, at in self.at.items() if each >= epoch), default=stored_at)
        return max(at - stored_at, 0.0)

    def _tell(self, change: Change) -> None:
        if change.data is not None:
            self.at.setdefault(change.data["epoch"], time.time())


@pytest.mark.timeout(1200)
def test_a_newcomer_s_saves_stand(
    tmp_path: Path, empty_pipeline: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its first save is stored none of the other's is, and that one learns within 2 s."""
    pipeline, seen = empty_pipeline, ObservedStates()
    log, path = Log(tmp_path / "log"), tmp_path / "log"
    pipeline.router.listeners.append(seen)
    environment = environment_of(pipeline)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with StateManager(folder=tmp_path / "watching") as manager:
        told = Told(manager)
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
    assert not _broken(Log(tmp_path / "load"))
    lines = list(log.lines())
    epochs = {line["holds"]: line["epoch"] for line in lines if "holds" in line}
    learned = {line["learned"]: line["at"] for line in lines if "learned" in line}
    stored = sorted(seen.states[SESSION.state_path])
    assert seen.gone_back() == []
    late, usual = [], []
    for number in range(taken()):
        first = min(at for at, (epoch, _) in stored if epoch == epochs[number + 1])
        assert not [at for at, (epoch, _) in stored if epoch == epochs[number] and at > first]
        late.append(learned[number] - first.timestamp())
        usual.append(told.of(epochs[number + 1], first.timestamp()))
    tell(f"taken {len(late)} times; learned after {max(late):.2f} s at most, told {max(usual):.2f}")
    # On a busy machine nobody is told of anything at once.
    assert max(late) < _LEARNS_WITHIN_SECONDS + max(usual)


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
