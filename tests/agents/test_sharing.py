"""`manager.agent`: one handle of a session in a process, one session in a folder."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from firestate import StateManager
from firestate.audit.full import FullAudit
from firestate.errors import FencedError, TerminatedError
from tests.agents.environments import another_folder, eventually, value

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from firestate.agents.agent import Agent

FORK = multiprocessing.get_context("fork")
SPAWN = multiprocessing.get_context("spawn")
WHO = ("Developer", "d")
IN_SESSION = (*WHO, "s")


@pytest.fixture(params=[WHO, IN_SESSION], ids=["newest", "named"])
def who(request: pytest.FixtureRequest) -> Any:
    """An agent by its newest session, or by a session that is named."""
    return request.param


def done(agent: Agent) -> list[str]:
    """Return the tasks of an agent's history, and check that each has ended well."""
    assert {each["status"] for each in agent.state.task_history} <= {"completed"}
    return [each["task_id"] for each in agent.state.task_history]


def work(agent: Agent, *tasks: str) -> None:
    for each in tasks:
        with agent.task(each, "code"):
            pass


def counted(manager: StateManager) -> int:
    """Return how many tasks are counted, once all are."""
    assert manager.settle(60)
    assert FullAudit(manager._runtime.backend.store()).run().findings == []
    return int(value(manager.system()).system_metrics["tasks"]["completed"])


def test_an_agent_that_never_was_begins(
    on_disk: Callable[[], StateManager], who: tuple[str, ...]
) -> None:
    agent = on_disk().agent(*who)
    assert agent.fresh
    assert agent.identity[: len(who)] == who
    assert agent.state.status == "idle"


def test_it_is_asked_for_again_at_no_cost(
    on_disk: Callable[[], StateManager], who: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = on_disk()
    agent = manager.agent(*who)
    reader = type(manager._reader)
    monkeypatch.setattr(reader, "_read", lambda *_: pytest.fail("it was read"))
    revision = agent._memory.order
    assert manager.agent(*who) is agent
    assert agent._memory.order == revision, "and nothing is saved"


def test_it_may_be_awaited(on_disk: Callable[[], StateManager], who: tuple[str, ...]) -> None:
    manager = on_disk()

    async def main() -> list[Agent]:
        return [await manager.agent.aio(*who) for _ in range(2)]

    first, second = asyncio.run(main())
    assert first is second


def test_threads_that_ask_at_once_get_one_handle(
    on_disk: Callable[[], StateManager], who: tuple[str, ...]
) -> None:
    manager = on_disk()
    barrier = threading.Barrier(20)

    def ask(number: int) -> Agent:
        barrier.wait()
        agent = manager.agent(*who)
        work(agent, f"t{number}")
        return agent

    with ThreadPoolExecutor(20) as pool:
        agents = list(pool.map(ask, range(20)))
    assert len(set(map(id, agents))) == 1
    assert sorted(done(agents[0])) == sorted(f"t{number}" for number in range(20))
    assert value(manager.load(*WHO)).session_id == agents[0].identity.session_id
    assert counted(manager) == 20


def test_managers_of_a_folder_share_a_session_and_fence_nobody(
    on_disk: Callable[[], StateManager], who: tuple[str, ...]
) -> None:
    one, other = on_disk(), on_disk()
    first, second = one.agent(*who), other.agent(*who)
    assert first.identity == second.identity
    for number in range(5):
        work(first, f"a{number}")
        work(second, f"b{number}")
        first.remember(f"a{number}", number)
    assert first.state == second.state
    assert len(done(first)) == 10
    assert not first.fenced
    assert not second.fenced
    assert counted(one) == 10


def _in_process(folder: str, who: tuple[str, ...], name: str, start: Any, tell: Any) -> None:
    with StateManager("", folder=folder) as manager:
        start.wait()

        def request(number: int) -> str:
            work(manager.agent(*who), f"{name}-{number}")
            return f"{name}-{number}"

        with ThreadPoolExecutor(8) as pool:
            tell.put(list(pool.map(request, range(20))))


def test_processes_of_a_folder_that_ask_at_once_work_in_one_session(
    tmp_path: Path, who: tuple[str, ...]
) -> None:
    start, told = SPAWN.Barrier(3), SPAWN.SimpleQueue()
    arguments = [(str(tmp_path), who, name, start, told) for name in "abc"]
    processes = [SPAWN.Process(target=_in_process, args=each) for each in arguments]
    for each in processes:
        each.start()
    acknowledged = {task for _ in processes for task in told.get()}
    for each in processes:
        each.join(60)
        assert each.exitcode == 0
    with StateManager("", folder=tmp_path) as manager:
        assert set(done(manager.agent(*who))) == acknowledged
        assert len(acknowledged) == 60
        assert counted(manager) == 60
        assert value(manager.system()).total_agents_spawned == 1


def test_a_session_that_has_ended_is_gone_on_with_in_a_new_one(
    on_disk: Callable[[], StateManager],
) -> None:
    manager = on_disk()
    former = manager.agent(*WHO)
    work(former, "t1")
    former.terminate()
    agent = manager.agent(*WHO)
    assert agent.identity != former.identity
    work(agent, "t2")
    assert done(agent) == ["t1", "t2"]
    assert counted(manager) == 2


def test_a_named_session_that_has_ended_is_taken_up(on_disk: Callable[[], StateManager]) -> None:
    manager = on_disk()
    work(manager.agent(*IN_SESSION).terminate(), *())
    agent = manager.agent(*IN_SESSION)
    assert agent.state.status == "active"


def test_a_session_that_was_deleted_begins_anew(
    on_disk: Callable[[], StateManager], who: tuple[str, ...]
) -> None:
    manager = on_disk()
    manager.agent(*who).remember("k", 1).delete()
    assert manager.agent(*who).state.memory_context == {}


def test_a_session_of_another_folder_is_taken_from_it(tmp_path: Path, who: tuple[str, ...]) -> None:
    with StateManager("", folder=tmp_path) as one:
        first = one.agent(*who)
        work(first, "t1")
        assert one.settle()
        with StateManager("", folder=another_folder(tmp_path)) as other:
            second = other.agent(*who)
            assert (second.identity == first.identity) is (who == IN_SESSION)
            assert done(second) == ["t1"]
            assert other.settle()
            eventually(lambda: first.fenced)
            with pytest.raises(FencedError):
                first.save()
            assert one.agent(*who) is not first


def test_resume_in_a_folder_moves_all_who_share_the_session_on(
    on_disk: Callable[[], StateManager],
) -> None:
    """A task under way ends in the session that it began in, and counts; nothing begins there."""
    one, other = on_disk(), on_disk()
    first = one.agent(*WHO)
    told: list[Agent] = []
    first.on_fenced(told.append)
    with first.task("under way", "code"):
        second = other.resume(*WHO)
    assert second.identity != first.identity
    assert first.fenced
    assert first.goes_on_as == second.identity.session_id
    with pytest.raises((FencedError, TerminatedError), match=second.identity.session_id):
        first.begin_task("t2", "code")
    with pytest.raises(FencedError):
        first.remember("k", 1)
    eventually(lambda: told == [first])
    assert one.agent(*WHO).identity == second.identity
    assert first.state.status == "terminated"
    assert counted(one) == 1


def test_nothing_is_lost_between_the_read_and_the_put_of_a_resume(
    on_disk: Callable[[], StateManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the former process saves meanwhile is taken along."""
    one, other = on_disk(), on_disk()
    first = one.agent(*WHO)
    drafted, calls = other._registry.drafted, list[int]()

    def late(*args: Any, **kwargs: Any) -> Any:
        if not calls:
            work(first, "late")
        calls.append(1)
        return drafted(*args, **kwargs)

    monkeypatch.setattr(other._registry, "drafted", late)
    second = other.resume(*WHO)
    assert done(second) == ["late"]
    assert len(calls) == 2
    assert counted(other) == 1


def test_a_child_spawned_by_two_at_once_is_one_and_has_one_event(
    on_disk: Callable[[], StateManager],
) -> None:
    managers = [on_disk() for _ in range(4)]
    fathers = [each.agent("Father", "f") for each in managers]
    barrier = threading.Barrier(4)

    def spawn(father: Agent) -> Agent:
        barrier.wait()
        child = father.spawn("Dev", "d")
        work(child, f"t{fathers.index(father)}")
        return child

    with ThreadPoolExecutor(4) as pool:
        children = list(pool.map(spawn, fathers))
    assert {each.identity for each in children} == {children[0].identity}
    assert sorted(done(children[0])) == ["t0", "t1", "t2", "t3"]
    assert len(value(managers[0].events(event_type="spawn"))) == 1


def test_a_copy_of_a_folder_is_another_writer(tmp_path: Path) -> None:
    with StateManager("", folder=tmp_path / "a") as one:
        one.agent(*WHO)
        name = one._runtime.submitter.writer
    (tmp_path / "b").mkdir()
    for each in ("outbox.db", "state.db"):
        (tmp_path / "b" / each).write_bytes((tmp_path / "a" / each).read_bytes())
    with StateManager("", folder=tmp_path / "b") as copy:
        assert copy._runtime.submitter.writer != name
    with StateManager("", folder=tmp_path / "a") as again:
        assert again._runtime.submitter.writer == name
