"""Sessions that change hands while reads fail, clocks differ, and processes end half-way."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from firestate import StateManager
from firestate.agents.backends.local import LocalBackend
from firestate.agents.reading.store_reader import StoreReader
from firestate.client.outgoing import Outgoing
from firestate.errors import InvalidMessageError, UnavailableError
from tests.agents.environments import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Machine = Callable[[str], StateManager]

HOUR = 3_600_000_000


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Open a manager with an outbox of its own; all work on one store, as machines do."""
    monkeypatch.setattr(
        "firestate.agents.runtime._backend", lambda *_: LocalBackend(tmp_path / "state.db")
    )
    opened = []

    def opened_on(name: str) -> StateManager:
        opened.append(StateManager("", folder=tmp_path / name, snapshot_interval_seconds=0.05))
        return opened[-1]

    yield opened_on
    for manager in opened:
        manager.close()


@contextmanager
def away() -> Iterator[None]:
    """Have no read succeed, within the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StoreReader, "_read", lambda *_: None)
        yield


def stored(manager: StateManager, path: str) -> dict[str, Any]:
    manager.settle()
    found = manager._runtime.backend.store().read(path)
    return found.data if found is not None else {}


def test_a_session_that_is_there_is_taken_up_by_its_resumption(machine: Machine) -> None:
    """A program that names its session may run again, and again."""
    first = machine("a")
    first.start("Developer", "x", "monday").end_task("t1", kind="code")
    first.close()
    for number in (2, 3):
        with machine("a") as manager:
            agent = manager.resume("Developer", "x", session_id="tuesday")
            agent.end_task(f"t{number}", kind="code")
            manager.settle()
            learned = manager.learned("Developer", "x").value
    assert [task["task_id"] for task in agent.state.task_history] == ["t1", "t2", "t3"]
    assert [(kind.tries, kind.successes) for kind in learned.kinds] == [(3, 3)]


def test_a_past_survives_any_number_of_resumptions_that_cannot_read_it(
    machine: Machine, tmp_path: Path
) -> None:
    with machine("a") as manager:
        manager.start("Developer", "x", "s0").remember("k", {"v": 1})
        manager.settle()
    shutil.rmtree(tmp_path / "a")
    for number in range(3):
        with away(), machine("a") as manager:
            agent = manager.resume("Developer", "x")
            agent.remember(f"own-{number}", {"v": number})
            assert not agent.fresh
    with machine("a") as manager:
        agent = manager.resume("Developer", "x")
        assert agent.fresh
        assert agent.state.memory_context.keys() == {"k", "own-0", "own-1", "own-2"}
        assert "resume_pending" not in agent.state.collaboration_context
        assert [each.session_id for each in manager.active().value] == [agent.identity.session_id]


def test_what_is_only_known_is_not_written_over_what_is_stored(
    machine: Machine,
) -> None:
    """A read that fails once must not bring an old state back."""
    one, other = machine("one"), machine("other")
    agent = other.start("Developer", "x", "s0").end_task("t0", kind="code")
    other.settle()
    assert one.load("Developer", "x", "s0").fresh
    for number in range(1, 6):
        agent.end_task(f"t{number}", kind="code")
    assert len(stored(other, agent.identity.state_path)["task_history"]) == 6
    with away():
        newcomer = one.take_up("Developer", "x", "s0")
        assert not newcomer.fresh
        assert newcomer.identity.session_id != "s0"
    eventually(lambda: newcomer.fresh)
    assert len(newcomer.state.task_history) == 6
    one.settle()
    assert sum(kind.tries for kind in one.learned("Developer", "x").value.kinds) == 6


@pytest.mark.parametrize("at", range(2))
def test_a_resumption_that_ends_half_way_loses_nothing(
    at: int,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its messages get into the outbox together, or none of them."""
    with machine("a") as manager:
        manager.start("Developer", "x", "s0").remember("k", {"v": 1}).end_task("t", kind="code")
        manager.settle()
    with away(), machine("b") as manager:
        manager.resume("Developer", "x").remember("own", {"v": 1})
    with machine("c") as manager, monkeypatch.context() as patch:
        put, calls = manager._runtime.outbox.put, iter(range(10))

        def killed(*messages: Any) -> bool:
            if next(calls) >= at:
                raise KeyboardInterrupt
            return put(*messages)

        patch.setattr(manager._runtime.outbox, "put", killed)
        try:
            manager.resume("Developer", "x")
        except KeyboardInterrupt:
            assert at == 0
    with machine("d") as manager:
        agent = manager.resume("Developer", "x")
        assert agent.state.memory_context.keys() == {"k", "own"}
        assert [task["task_id"] for task in agent.state.task_history] == ["t"]
        manager.settle()
        assert [kind.tries for kind in manager.learned("Developer", "x").value.kinds] == [1]


def test_who_has_risen_above_a_clock_that_is_ahead_can_be_fenced_off(machine: Machine) -> None:
    first = machine("first")
    state = first.start("Developer", "x", "s").state.model_dump(mode="json")
    first.settle()
    epoch = time.time_ns() // 1000 + HOUR
    ahead = {"epoch": epoch, "revision": 1, "writer": "w", "state": state}
    engine: Any = first._runtime.backend
    engine.engine.publish(Outgoing("agent-state", json.dumps(ahead).encode()))
    second = machine("second")
    agent = second.start("Developer", "x", "s", replace=True)
    assert agent.epoch > epoch
    second.settle()
    third = machine("third")
    newcomer = third.take_up("Developer", "x", "s").remember("mine", 1)
    third.settle()
    eventually(lambda: agent.fenced)
    assert not newcomer.fenced
    assert stored(third, newcomer.identity.state_path)["memory_context"] == {"mine": 1}


def test_what_another_process_of_the_folder_has_saved_is_followed_once_it_is_forgotten_too(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it is read from the store."""
    one = machine("shared")
    send, closed = one._runtime.backend.send, [True]

    def gated(topic: str, messages: Any, writer: str) -> None:
        if closed[0]:
            raise UnavailableError("away")
        send(topic, messages, writer)

    monkeypatch.setattr(one._runtime.backend, "send", gated)
    agent = one.start("Developer", "x", "s").remember("one", 1)
    other = machine("shared").take_up("Developer", "x", "s").remember("other", 1)
    closed[0] = False
    assert one.flush()
    monkeypatch.setattr("firestate.outbox.file._KEPT_SENT_SECONDS", -1)
    one._runtime.outbox.tidy()
    both = {"one": 1, "other": 1}
    assert stored(one, other.identity.state_path)["memory_context"] == both
    assert agent.remember("more", 1).state.memory_context == {**both, "more": 1}
    assert other.state.memory_context == {**both, "more": 1}
    assert not agent.fenced


def test_a_spawn_that_is_refused_leaves_no_child(machine: Machine) -> None:
    manager = machine("a")
    father = manager.start("Father", "f")
    with pytest.raises(InvalidMessageError, match=r"context\.deep"):
        father.spawn("Developer", "d", context={"deep": [[1]]})
    assert manager.load("Developer", "d").value is None


def test_fields_that_are_not_an_agent_s_to_change_are_refused(machine: Machine) -> None:
    agent = machine("a").start("Father", "f")
    unknown: Any = {"session_id": "other"}
    with pytest.raises(InvalidMessageError, match="session_id: is no field that an agent changes"):
        agent.update(**unknown)


def test_a_callback_may_close_the_manager(machine: Machine) -> None:
    manager = machine("a")
    agent = manager.start("Father", "f")
    agent.on_fenced(lambda _: manager.close())
    manager.settle()
    machine("b").take_up(*agent.identity)
    eventually(lambda: manager._runtime.outbox.is_closed)
