"""How an agent stands to what is stored of its session: above it, fenced off, or to be lifted."""

from __future__ import annotations

import multiprocessing
import threading
from typing import TYPE_CHECKING, Any

import pytest

from firestate import StateManager
from tests.agents.environments import another_folder, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path


@pytest.fixture(scope="module")
def manager() -> Iterator[StateManager]:
    with StateManager.in_memory() as manager:
        yield manager


@pytest.mark.parametrize(
    ("stored", "was_above", "becomes"),
    [
        ("nothing", False, "above"),
        ("nothing", True, "above"),
        ("own", False, "above"),
        ("own", True, "above"),
        ("earlier", False, "above"),
        ("earlier", True, "above"),
        ("later", True, "fenced"),
        ("equal", True, "fenced"),
        ("later", False, "risen"),
        ("equal", False, "risen"),
        ("named", False, "fenced"),
    ],
)
def test_an_agent_is_held_against_what_is_stored(
    manager: StateManager, *, stored: str, was_above: bool, becomes: str
) -> None:
    told: list[Any] = []
    agent = manager.start("Developer", "a")
    agent.on_fenced(told.append)
    agent.is_above, epoch = was_above, agent.epoch
    writer = manager._runtime.submitter.writer if stored == "own" else "other"
    steps = {"own": 10**9, "earlier": -1, "later": 10**9, "named": 10**9, "equal": 0}
    above = epoch + steps.get(stored, 0)
    document = {"writer": writer, "epoch": above}
    if stored == "named":
        document["fenced_writer"] = manager._runtime.submitter.writer
    manager._registry._compare(agent, None if stored == "nothing" else document)
    assert agent.fenced is (becomes == "fenced")
    eventually(lambda: told == ([agent] if becomes == "fenced" else []))
    assert agent.is_above is (was_above or becomes != "fenced")
    held = agent.identity in manager._registry._held
    assert held is (becomes != "fenced")
    if becomes == "risen":
        assert agent.epoch > above
        eventually(lambda: manager.load(*agent.identity).value == agent.state)
    else:
        assert agent.epoch == epoch


def test_a_child_of_a_fork_learns_that_its_agent_was_taken_up(tmp_path: Path) -> None:
    """It watches for the name of the folder, as its parent does."""
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()

    def work(tell: Connection) -> None:
        fenced = threading.Event()
        agent = first.start("Developer", "child", "s")
        agent.on_fenced(lambda _: fenced.set())
        assert first.settle()
        tell.send("saved")
        tell.send(fenced.wait(30))

    with StateManager(project="", folder=tmp_path) as first:
        first.start("Developer", "parent", "s")
        child = fork.Process(target=work, args=(there,))
        child.start()
        assert here.poll(60)
        assert here.recv() == "saved"
        with StateManager(project="", folder=another_folder(tmp_path)) as other:
            other.take_up("Developer", "child", "s")
            assert other.settle()
            assert here.poll(60)
            assert here.recv() is True
        child.join(60)
