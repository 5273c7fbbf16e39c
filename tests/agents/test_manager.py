"""A StateManager by itself: how it is made and closed, whom it holds, what it does when full."""

from __future__ import annotations

import math
import multiprocessing
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from firestate import StateManager
from firestate.errors import (
    ConfigurationError,
    FencedError,
    InvalidMessageError,
    OutboxError,
    OutboxFullError,
    UnavailableError,
    UnknownSessionError,
)
from tests.agents.environments import eventually, value
from tests.harness import state_message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FORK = multiprocessing.get_context("fork")
NAMES = ("GOOGLE_CLOUD_PROJECT", "FIRESTORE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that names nothing."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def manager() -> Iterator[StateManager]:
    with StateManager.in_memory() as manager:
        yield manager


def test_closing_twice_is_closing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manager = StateManager(folder=tmp_path)
    agent = manager.start("Developer", "a")
    manager.close()
    manager.close()
    with manager:
        pass
    assert not [each for each in caplog.records if each.levelname == "ERROR"]
    with StateManager(folder=tmp_path) as again:
        assert value(again.load(*agent.identity)) == agent.state


@pytest.mark.parametrize(
    "part",
    [
        *("open_outbox", "StoreReader", "Controls", "Sender", "Submitter", "AgentRegistry"),
        *("Refusals", "Leases", "Adoption", "Sender.start", "Refusals.begin"),
        "AgentRegistry.go_on_with_unread",
    ],
)
def test_a_manager_that_could_not_be_opened_leaves_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Such as in a service that tries again and again while its disk is full."""

    def fail(*_: object, **__: object) -> None:
        raise OutboxError(part)

    before = {*threading.enumerate()}
    monkeypatch.setattr(f"firestate.agents.runtime.{part}", fail)
    with pytest.raises(OutboxError, match=part):
        StateManager("", folder=tmp_path)
    # Those of the local engine have no names of their own.
    named = ("firestate-", "Thread-")
    eventually(
        lambda: (
            not [each for each in {*threading.enumerate()} - before if each.name.startswith(named)]
        )
    )


def test_in_memory_is_in_memory_whatever_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        monkeypatch.setenv(name, "localhost:1")
    with StateManager.in_memory() as manager:
        agent = manager.start("Developer", "a")
        assert manager.settle()
        assert value(manager.load(*agent.identity)) == agent.state
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES[1:])
def test_half_a_setting_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv(name, "localhost:1")
    with pytest.raises(ConfigurationError, match=f"{name} names an emulator"):
        StateManager(folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_session_is_taken_up_or_begun(manager: StateManager) -> None:
    with pytest.raises(UnknownSessionError):
        manager.take_up("Developer", "a", "s1")
    agent = manager.take_up("Developer", "a", "s1", or_start=True)
    agent.remember("k", 1)
    again = manager.take_up("Developer", "a", "s1", or_start=True)
    assert again is agent
    again.delete()
    assert manager.take_up("Developer", "a", "s1", or_start=True).state.memory_context == {}


def test_who_is_released_is_held_no_more_and_stays_as_it_was(manager: StateManager) -> None:
    agent = manager.start("Developer", "a", "s1")
    agent.remember("k", 1).release()
    assert manager._registry._held == {}
    assert value(manager.load("Developer", "a", "s1")).status == "idle"
    assert value(manager.load("Developer", "a", "s1")).memory_context == {"k": 1}
    agent.release()
    second = manager.take_up("Developer", "a", "s1")
    agent.release()
    assert manager._registry._held == {second.identity: second}


def test_no_child_is_lost_of_many_that_are_spawned_at_once(manager: StateManager) -> None:
    father = manager.start("Father", "f")
    barrier = threading.Barrier(40)

    def spawn(number: int) -> None:
        barrier.wait()
        father.spawn("Developer", f"d{number}")

    threads = [threading.Thread(target=spawn, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = {f"d{number}" for number in range(40)}
    assert sorted(father.state.child_agent_ids) == sorted(names)
    children = value(manager.active(parent_agent_id="f"))
    assert {each.agent_id for each in children} == names
    spawned = value(manager.events(agent_id="f", event_type="spawn"))
    assert {each.target_agent_id for each in spawned} == names
    assert len(spawned) == 40


def test_who_is_fenced_spawns_nothing(manager: StateManager) -> None:
    father = manager.start("Father", "f")
    father.fence()
    with pytest.raises(FencedError):
        father.spawn("Developer", "d")
    assert value(manager.load("Developer", "d")) is None
    assert value(manager.events(agent_id="f")) == []


def test_a_whole_state_leaves_nothing_over_of_the_former_one(manager: StateManager) -> None:
    fields = state_message(1)["state"]
    manager.save(fields | {"current_task": "t1", "child_agent_ids": ["b"]})
    state = manager.save(fields).state
    assert (state.current_task, state.child_agent_ids) == (None, [])
    with pytest.raises(InvalidMessageError, match="status: "):
        manager.save({name: fields[name] for name in fields if name != "status"})
    assert value(manager.load("Developer", "a_1", "s1")) == state


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_in_a_forked_child_an_agent_is_shared_and_the_manager_goes_on(tmp_path: Path) -> None:
    with StateManager(folder=tmp_path) as manager:
        agent = manager.start("Developer", "a")

        def work() -> None:
            assert not agent.fenced
            with agent.task("of the child", "code"):
                agent.remember("child", 1)
            child = manager.start("Developer", "child")
            child.handed_off(("QA", "q"))
            assert value(manager.load("Developer", "child")) == child.state
            assert manager.flush()

        process = FORK.Process(target=work)
        process.start()
        agent.update(status="busy")
        process.join(30)
        process.kill()
        assert process.exitcode == 0
        assert not agent.fenced
        agent.update(status="active")
        assert agent.state.memory_context == {"child": 1}
        assert [each["task_id"] for each in agent.state.task_history] == ["of the child"]
        assert manager.settle()
        assert value(manager.load("Developer", "child")).status == "idle"
        assert len(value(manager.events(agent_id="child"))) == 1


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Open one whose way out is closed until it is told otherwise."""
    opened: list[StateManager] = []
    way = threading.Event()

    def make(**options: Any) -> tuple[StateManager, threading.Event]:
        manager = StateManager(folder=tmp_path, outbox_bytes=0, **options)
        opened.append(manager)
        engine = manager._runtime.backend
        sending = engine.send

        def send(topic: str, messages: Any, writer: str) -> None:
            if not way.is_set():
                raise UnavailableError("the way is closed")
            sending(topic, messages, writer)

        monkeypatch.setattr(engine, "send", send)
        return manager, way

    yield make
    way.set()
    for each in opened:
        each.close()


def test_what_a_full_outbox_refuses_is_not_kept_and_all_else_is(full: Any) -> None:
    manager, way = full()
    agent = manager.start("Developer", "a")
    taken = 0
    with suppress(OutboxFullError):
        while agent.handed_off(("QA", "q"), context={"n": taken, "log": "x" * 300}):
            taken += 1
    assert taken > 10
    with pytest.raises(OutboxFullError):
        agent.remember("large", "x" * 50_000)
    assert agent.state.memory_context == {}
    way.set()
    assert manager.flush(30)
    agent.remember("large", "x" * 20_000)
    agent.handed_off(("QA", "q"), context={"n": taken})
    assert manager.settle()
    found = value(manager.events(agent_id="a", limit=1_000))
    assert sorted(each.context["n"] for each in found) == list(range(taken + 1))
    assert value(manager.load(*agent.identity)).memory_context == {"large": "x" * 20_000}


def test_who_waits_for_room_goes_on_when_there_is_some(full: Any) -> None:
    manager, way = full(when_full="wait")
    agent = manager.start("Developer", "a")

    def work() -> None:
        for number in range(400):
            agent.handed_off(("QA", "q"), context={"n": number, "log": "x" * 300})

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.5)
    assert thread.is_alive()
    way.set()
    thread.join(60)
    assert not thread.is_alive()
    assert manager.settle()
    found = value(manager.events(agent_id="a", limit=1_000))
    assert sorted(each.context["n"] for each in found) == list(range(400))


def test_a_save_while_the_manager_closes_is_kept_for_the_next_process(
    on_disk: Callable[[], StateManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a signal handler in the middle of `close`: nobody sends it, and nothing is lost."""
    first = on_disk()
    agent = first.start("Developer", "d", "s1")
    close_parts = first._runtime._close_parts
    flushed: list[bool] = []

    def closing() -> None:
        close_parts()
        agent.remember("late", 1)
        flushed.append(first.flush(math.inf))

    monkeypatch.setattr(first._runtime, "_close_parts", closing)
    first.close()
    assert flushed == [False]
    with pytest.raises(OutboxError, match="it was closed"):
        agent.remember("later", 2)
    second = on_disk()
    assert value(second.load(*agent.identity)).memory_context == {"late": 1}
