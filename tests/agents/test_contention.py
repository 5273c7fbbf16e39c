"""What reads a session, and puts what follows, gets on beside others who save it all the time.

Each call is made while another process of its folder, or a thread, saves the session without a
pause. Counted is how often it has to try: time and again, where nobody waits for it.
"""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
import uuid
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from firestate import StateManager
from firestate.agents.reading.answers import ReadRequest
from firestate.agents.reading.state_queries import former_states, newest_states
from firestate.audit.full import FullAudit
from firestate.errors import FencedError, UnknownSessionError
from firestate.schema.messages import Order
from tests.agents.environments import PATIENCE, eventually, value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from firestate import Agent

Session = tuple[str, str, str]

_BEFORE = 250
"""Tasks before the call: with them the state is as large as its history makes it."""
_MOST_TRIES = 12
_NAME = "worker"


def work(agent: Agent, place: Path) -> int:
    """Do tasks until `stop` is there, or the session goes on without this; return how many."""
    number = 0
    try:
        while not (place / "stop").exists():
            with agent.task(f"t{number}", "code"):
                pass
            number += 1
            if number == _BEFORE:
                (place / "begun").touch()
    except (FencedError, UnknownSessionError):
        pass
    return number


def work_in_process(project: str | None, session: Session, place: Path) -> int:
    with StateManager(project, folder=place / "folder") as manager:
        number = work(manager.agent(*session), place)
        assert manager.flush(PATIENCE)
    return number


class Worker:
    """Works in the session, in a process or on a thread."""

    def __init__(self, manager: StateManager, place: Path, project: str | None, how: str) -> None:
        self._place = place
        own = uuid.uuid4().hex[:8]
        self.session = ("Developer", f"d-{own}", f"s-{own}")
        self.parent = manager.start("Father", f"f-{own}", self.session[2])
        self.parent.spawn(*self.session[:2])
        self._executor: Executor
        if how == "process":
            self._executor = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
            self._done: Future[int] = self._executor.submit(
                work_in_process, project, self.session, place
            )
        else:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix=_NAME)
            self._done = self._executor.submit(work, manager.agent(*self.session), place)
        eventually(lambda: (place / "begun").exists() or self._done.done())

    def stop(self) -> int:
        """Return how many tasks were acknowledged."""
        (self._place / "stop").touch()
        number = self._done.result(PATIENCE)
        self._executor.shutdown()
        return number


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[..., tuple[StateManager, Worker]]]:
    """Open a manager, and have somebody work in the session."""
    made: list[StateManager] = []

    def make(how: str, project: str | None = "") -> tuple[StateManager, Worker]:
        made.append(
            StateManager.in_memory()
            if how == "memory"
            else StateManager(project, folder=tmp_path / "folder", patience_seconds=PATIENCE)
        )
        return made[0], Worker(made[0], tmp_path, project, how)

    yield make
    (tmp_path / "stop").touch()
    for each in made:
        each.close()


class Puts:
    """Counts what a manager puts to its outbox, apart from what its worker puts."""

    def __init__(self, manager: StateManager, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0
        submitter = manager._runtime.submitter
        put = submitter.put

        def counted(*entries: Any) -> bool:
            self.number += not threading.current_thread().name.startswith(_NAME)
            return put(*entries)

        monkeypatch.setattr(submitter, "put", counted)


def is_counted(manager: StateManager, session: Session, tasks: int) -> bool:
    found = value(manager.learned(*session[:2])).kinds
    return [each.tries for each in found] == [tasks]


GOING_ON: dict[str, Callable[[StateManager, Session], Agent]] = {
    "resume": lambda manager, session: manager.resume(*session[:2]),
    "resume_from": lambda manager, session: manager.resume_from(*session, "next"),
    "take_up": lambda manager, session: manager.take_up(*session),
    "agent": lambda manager, session: manager.agent(*session),
}


def check_going_on(manager: StateManager, worker: Worker, call: str, puts: Puts) -> None:
    agent = GOING_ON[call](manager, worker.session)
    number = puts.number
    assert agent.fresh
    assert number <= _MOST_TRIES
    first = {each["task_id"] for each in agent.state.task_history}
    done = worker.stop()
    if agent.identity != worker.session:
        newest = [f"t{each}" for each in range(done)][-150:]
        assert set(newest) <= first, "what was acknowledged goes on in the new session"
    assert manager.flush(PATIENCE)
    eventually(lambda: is_counted(manager, worker.session, done))


@pytest.mark.parametrize("how", ["process", "thread", "memory"])
@pytest.mark.parametrize("call", GOING_ON)
def test_an_agent_goes_on_beside_one_who_saves_all_the_time(
    world: Callable[..., tuple[StateManager, Worker]],
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    how: str,
) -> None:
    manager, worker = world(how)
    check_going_on(manager, worker, call, Puts(manager, monkeypatch))
    assert manager.settle(PATIENCE)
    assert FullAudit(manager._runtime.backend.store()).run().findings == []


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize("how", ["process", "thread"])
@pytest.mark.parametrize("call", GOING_ON)
def test_so_it_does_in_the_cloud(
    world: Callable[..., tuple[StateManager, Worker]],
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    how: str,
) -> None:
    manager, worker = world(how, None)
    check_going_on(manager, worker, call, Puts(manager, monkeypatch))


def _merge_apart(agent: Agent) -> None:
    plain = agent.state.model_dump(mode="json")
    agent.merge_apart(plain, plain, uuid.uuid4().hex, agent.epoch)


SAVING: dict[str, Callable[[Agent], object]] = {
    "a change": lambda agent: agent.remember("k", "v"),
    "a state as a whole": lambda agent: agent.replace(agent.state),
    "a deletion": lambda agent: agent.delete(),
    "an epoch above what is stored": lambda agent: agent.rise_above(agent.epoch + 1),
    "what was spilled": _merge_apart,
    "what was begun unread": lambda agent: agent.merge_stored(
        agent.state.model_dump(mode="json"), Order(1, 1)
    ),
}


@pytest.mark.parametrize("what", SAVING)
def test_a_session_that_others_save_all_the_time_can_be_saved(
    world: Callable[..., tuple[StateManager, Worker]], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    manager, worker = world("process")
    agent = manager.take_up(*worker.session)
    puts = Puts(manager, monkeypatch)
    for _ in range(10):
        SAVING[what](agent)
        assert puts.number <= _MOST_TRIES
        puts.number = 0
    worker.stop()


def test_a_past_is_taken_along_later_beside_one_who_saves_it_all_the_time(
    world: Callable[..., tuple[StateManager, Worker]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where an agent has begun before its past could be read."""
    manager, worker = world("process")
    who = worker.session[:2]
    agent = manager.start(*who, "next")
    find = newest_states(*who, 10)
    found = manager._reader.ask(ReadRequest(find, lambda found, _: found))
    puts = Puts(manager, monkeypatch)
    assert manager._registry.complete_resume(agent, former_states(found, "next"))
    assert puts.number <= _MOST_TRIES
    done = worker.stop()
    assert manager.settle(PATIENCE)
    assert is_counted(manager, worker.session, done)


def test_a_child_that_works_all_the_time_goes_on_with_its_resumed_parent(
    world: Callable[..., tuple[StateManager, Worker]], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, worker = world("process")
    parent = manager.resume_from(*worker.parent.identity, "next")
    tries: list[Any] = []
    past = manager._registry.past

    def counted(*former: Any) -> Any:
        tries.append(former)
        return past(*former)

    monkeypatch.setattr(manager._registry, "past", counted)
    spawned = parent.spawn(*worker.session[:2])
    assert len(tries) <= _MOST_TRIES
    done = worker.stop()
    assert spawned.state.task_history[-1]["task_id"] == f"t{done - 1}"
    assert manager.settle(PATIENCE)
    assert is_counted(manager, worker.session, done)


def test_what_was_spilled_is_merged_beside_one_who_saves_all_the_time(
    world: Callable[..., tuple[StateManager, Worker]], tmp_path: Path
) -> None:
    manager, worker = world("process")
    agent = manager.take_up(*worker.session)
    outbox = manager._runtime.outbox
    for number in range(5):
        program = sqlite3.connect(tmp_path / "folder" / "outbox.db", timeout=30)
        program.execute("BEGIN IMMEDIATE")
        agent.remember(f"during{number}", number)
        assert outbox.has_spilled
        program.rollback()
        program.close()
        eventually(lambda: not outbox.has_spilled)
    done = worker.stop()
    assert list((tmp_path / "folder").glob("*unmerged*")) == []
    notes = agent.state.memory_context
    assert {name: notes.get(name) for name in notes if "during" in name} == {
        f"during{number}": number for number in range(5)
    }
    assert manager.settle(PATIENCE)
    eventually(lambda: is_counted(manager, worker.session, done))
