"""Processes of a folder save one session beside its locked file, and all of it comes together.

Each has begun from what was there when it found the file locked. As the lock ends, one is first,
and what the others have is merged: whatever their turns, and whoever of them dies in between.
"""

from __future__ import annotations

import errno
import os
import random
import sqlite3
import threading
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import wraps
from typing import TYPE_CHECKING, Any

import pytest

from firestate import StateManager
from firestate.audit.full import FullAudit
from firestate.errors import OutboxError
from firestate.outbox.spill_file import SpillFile
from tests.agents.environments import PATIENCE, eventually, value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
        self._dead: list[StateManager] = []
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
            with self.agent.task(f"{self.name}{self.tasks + 1}", "code"):
                pass
            self.tasks += 1
        self.agent.remember(self.name, self.tasks)

    def replay(self) -> None:
        """Replay some of what it has spilled."""
        if self.has_spilled:
            self._spill._worker.run(self._replay)

    def die(self) -> None:
        """End, and leave what is spilled to the next one."""
        for each in (*self._dead, self.manager):
            each.close(0.0)

    def be_dead(self) -> None:
        """Be killed: what is on the disk stays as it is, and others may have it."""
        for file in self._spill._files:
            file.leave()
        self._spill._files, self._spill._own = [], None
        self._spill._adopt = lambda: None  # type: ignore[method-assign] # its threads live on
        self._dead.append(self.manager)

    def replay_all(self) -> None:
        self._spill._replay = self._replay  # type: ignore[method-assign]
        self._spill.start()
        eventually(lambda: not self.has_spilled)


def check(processes: list[Process], *, unsure: int = 0, more: dict[str, int] | None = None) -> None:
    """All that was acknowledged is there, and counted once; what is `unsure` may be there."""
    for each in processes:
        each.replay_all()
    manager = processes[0].manager
    assert manager.settle(PATIENCE)
    number = sum(each.tasks for each in processes)
    (code,) = value(manager.learned(*SESSION[:2])).kinds
    assert number <= code.tries <= number + unsure
    notes = {each.name: each.tasks for each in processes} | (more or {})
    for each in processes:
        assert unsure or each.agent.state.memory_context == notes
        history = [entry["task_id"] for entry in each.agent.state.task_history]
        assert len(history) == len(set(history)) == min(code.tries, 200)
        if number <= 200 - unsure:
            told = {f"{one.name}{n + 1}" for one in processes for n in range(one.tasks)}
            assert told <= set(history)
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


def test_a_full_disk_as_that_is_merged_loses_nothing(
    processes: list[Process], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is merged once there is room."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    one, other, _ = processes
    with locked(tmp_path):
        one.work(3)
    other.work(20)
    with locked(tmp_path), monkeypatch.context() as patch:
        patch.setattr("os.write", fail)
        patch.setattr("pathlib.Path.write_bytes", fail)
        with pytest.raises(OutboxError, match="No space left"):
            one.work()
    check(processes, unsure=1)


def test_what_both_have_begun_with_may_be_forgotten(
    processes: list[Process], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ten minutes after it was sent; of a note that both have changed nobody knows the later."""
    one, other, _ = processes
    one.work(230)
    assert one.manager.settle(PATIENCE)
    with monkeypatch.context() as patch:
        patch.setattr("firestate.outbox.file._KEPT_SENT_SECONDS", -5)
        one.manager._runtime.outbox.tidy()
    with locked(tmp_path):
        one.work(3)
        other.work(2)
        other.agent.remember("own", 1)
    for each in processes:
        each.replay_all()
    other.work(1)
    check(processes, more={"own": 1})


class Died(BaseException):
    """A process has ended, at any call that changes what is on the disk."""


class Death:
    """Has a process die as it makes such a call, just before that is done or just after."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, process: Process, number: int, *, is_after: bool
    ) -> None:
        self._left = number
        self._is_after = is_after
        self.has_come = False
        connections = process.manager._runtime.outbox._connections
        for owner, name in (
            (SpillFile, "_append"),
            (SpillFile, "remove"),
            (connections, "change"),
            (connections, "_put_locked"),
        ):
            monkeypatch.setattr(owner, name, self._dying(getattr(owner, name)))

    def _dying(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def dying(*arguments: Any, **given: Any) -> Any:
            if threading.current_thread().name != "firestate-spill":
                return call(*arguments, **given)
            is_last = self._left == 0
            self._left -= 1
            self.has_come = self.has_come or is_last
            if is_last and not self._is_after:
                raise Died
            result = call(*arguments, **given)
            if is_last:
                raise Died
            return result

        return dying


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("is_locked", [False, True])
def test_whoever_dies_as_that_is_replayed_leaves_it_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_after: bool, is_locked: bool
) -> None:
    """At each call that changes what is on the disk; also where the file is locked once more."""
    monkeypatch.setattr("firestate.outbox.spill._MOST_AT_ONCE", 3)
    for number in range(100):
        folder = tmp_path / str(number)
        one, other = Process("a", folder), Process("b", folder)
        for each in (one, other):
            each.work()
        with locked(folder):
            one.work(205 if is_locked else 2)
            other.work(2)
        other.replay()
        with monkeypatch.context() as patch, ExitStack() as stack:
            if is_locked:
                stack.enter_context(locked(folder))
            death = Death(patch, one, number, is_after=is_after)
            with suppress(Died):
                if is_locked:
                    one.work()
                while not is_locked and one.has_spilled:
                    one.replay()
        one.be_dead()
        one.begin()
        check([one, other], unsure=int(is_locked))
        for each in (one, other):
            each.die()
        if not death.has_come:
            assert number > 2, "else it has died nowhere"
            return
    raise AssertionError
