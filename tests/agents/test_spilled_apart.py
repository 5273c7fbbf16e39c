"""Processes of a folder save one session beside its locked file, and all of it comes together.

Each has begun from what was there when it found the file locked. As the lock ends, one is first,
and what the others have is merged: whatever their turns, and whoever of them dies in between.
"""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from firestate import StateManager
from firestate.audit.full import FullAudit
from tests.agents.environments import PATIENCE, eventually, value

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from firestate import Agent

SESSION = ("Developer", "d", "s")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Have another program write to the outbox."""
    with closing(sqlite3.connect(folder / "outbox.db", isolation_level=None)) as program:
        program.execute("BEGIN IMMEDIATE")
        yield


class Process:
    """A manager as a process of its own has it, which replays what it spills when told to."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder
        self.tasks = 0
        self.begin()

    def begin(self) -> None:
        """Be there, once more after having died."""
        self.manager = StateManager("", folder=self._folder, snapshot_interval_seconds=0.0)
        spill = self.manager._runtime.outbox._spill
        assert spill is not None
        self._spill = spill
        self._replay = spill._replay
        spill._replay = lambda: None  # type: ignore[method-assign]
        self.agent: Agent = self.manager.agent(*SESSION)

    @property
    def has_spilled(self) -> bool:
        return self.manager._runtime.outbox.has_spilled

    def work(self, number: int = 1) -> None:
        for _ in range(number):
            self.tasks += 1
            with self.agent.task(f"{self.name}{self.tasks}", "code"):
                pass
        self.agent.remember(self.name, self.tasks)

    def replay(self) -> None:
        """Replay some of what it has spilled."""
        if self.has_spilled:
            self._spill._worker.run(self._replay)

    def die(self) -> None:
        """End, and leave what is spilled to the next one."""
        self.manager.close(0.0)

    def replay_all(self) -> None:
        self._spill._replay = self._replay  # type: ignore[method-assign]
        self._spill.start()
        eventually(lambda: not self.has_spilled)


def check(processes: list[Process]) -> None:
    """All that was acknowledged is there, and counted once."""
    for each in processes:
        each.replay_all()
    manager = processes[0].manager
    assert manager.settle(PATIENCE)
    number = sum(each.tasks for each in processes)
    (code,) = value(manager.learned(*SESSION[:2])).kinds
    assert code.tries == number
    notes = {each.name: each.tasks for each in processes}
    for each in processes:
        assert each.agent.state.memory_context == notes
        history = [entry["task_id"] for entry in each.agent.state.task_history]
        assert len(history) == len(set(history)) == min(number, 200)
    assert FullAudit(manager._runtime.backend.store()).run().findings == []


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Process]]:
    monkeypatch.setattr("firestate.outbox.spill._MOST_AT_ONCE", 3)
    made = [Process(name, tmp_path) for name in "abc"]
    for each in made:
        each.work()
    yield made
    for each in made:
        each.die()


@pytest.mark.parametrize("numbers", [(1, 1), (3, 5), (5, 3), (230, 3), (3, 230), (230, 230)])
def test_what_two_have_spilled_comes_together(
    processes: list[Process], tmp_path: Path, numbers: tuple[int, int]
) -> None:
    with locked(tmp_path):
        for each, number in zip(processes, numbers, strict=False):
            each.work(number)
            assert each.has_spilled
    check(processes)


def test_so_it_does_where_one_is_overtaken_as_it_replays(
    processes: list[Process], tmp_path: Path
) -> None:
    one, other, _ = processes
    with locked(tmp_path):
        one.work(230)
        other.work(2)
    one.replay()
    other.replay_all()
    check(processes)


def test_what_is_spilled_on_top_of_what_others_have_saved_since_is_not_all_that_is_kept(
    processes: list[Process], tmp_path: Path
) -> None:
    one, _, other = processes
    with locked(tmp_path):
        one.work(2)
    other.work(10)
    assert one.agent.state.memory_context["c"] == 11
    one.work(3)
    other.work(10)
    one.work(1)
    check(processes)


@pytest.mark.parametrize("seed", range(24))
def test_whatever_their_turns(processes: list[Process], tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    with locked(tmp_path):
        for each in draw.sample(processes, draw.randrange(1, 4)):
            each.work(draw.randrange(1, 5))
    for _ in range(draw.randrange(5, 25)):
        each = draw.choice(processes)
        step = draw.choice(["work", "work", "replay", "replay", "die", "lock"])
        if step == "work":
            each.work(draw.randrange(1, 4))
        elif step == "replay":
            each.replay()
        elif step == "die":
            each.die()
            each.begin()
        else:
            with locked(tmp_path):
                each.work()
    check(processes)
