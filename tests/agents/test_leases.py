"""Agents whose process lives, rests or has died: renewed, left idle, stale, adopted."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from firestate import StateManager
from firestate.audit.full import FullAudit
from firestate.errors import ConfigurationError, FencedError
from tests.agents.environments import another_folder, eventually, value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from firestate.agents.agent import Agent
    from firestate.schema.models import AgentState

SPAWN = multiprocessing.get_context("spawn")
SESSION = ("Developer", "d", "s")
LEASE = 1.0


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., StateManager]]:
    """Open managers with a short lease, on one folder or, with `elsewhere`, on others over it."""
    made: list[StateManager] = []

    def make(*, elsewhere: bool = False, **options: Any) -> StateManager:
        folder = another_folder(tmp_path / "one") if elsewhere else tmp_path / "one"
        # Sent at once: what is renewed all the time would wait all the time.
        defaults = {"lease_seconds": LEASE, "snapshot_interval_seconds": 0.0}
        made.append(StateManager("", folder=folder, **{**defaults, **options}))
        return made[-1]

    yield make
    for each in made:
        each.close()


def die(manager: StateManager) -> None:
    """Have a process die: it renews nothing any more, and says nothing of it."""
    assert manager.flush()
    manager._runtime.leases.close()


def stale(manager: StateManager) -> list[str]:
    return sorted(each.agent_id for each in value(manager.stale()))


def test_an_agent_at_work_is_renewed_as_long_as_its_process_lives(
    opened: Callable[..., StateManager],
) -> None:
    manager = opened(lease_seconds=0.2)
    agent = manager.start(*SESSION, status="busy")
    first = agent.state.last_active
    eventually(lambda: agent.state.last_active > first)
    second = agent.state.last_active
    eventually(lambda: agent.state.last_active > second)


def test_one_that_rests_is_not_renewed(opened: Callable[..., StateManager]) -> None:
    manager = opened()
    resting = [manager.start("QA", name, status=name) for name in ("idle", "error", "terminated")]
    orders = [agent._memory.order for agent in resting]
    later = [agent.state.last_active for agent in resting]
    for agent, time in zip(resting, later, strict=True):
        agent.renew(time.max.replace(tzinfo=time.tzinfo))
    assert [agent._memory.order for agent in resting] == orders


@pytest.mark.parametrize("status", ["active", "busy"])
def test_a_process_that_ends_in_order_leaves_its_agents_idle(
    opened: Callable[..., StateManager], status: str
) -> None:
    first = opened()
    first.start(*SESSION, status=status)
    first.close()
    assert value(opened().load(*SESSION)).status == "idle"


@pytest.mark.parametrize("status", ["idle", "error", "terminated"])
def test_what_an_agent_that_rests_says_of_itself_stays(
    opened: Callable[..., StateManager], status: str
) -> None:
    first = opened()
    first.start(*SESSION, status=status)
    first.close()
    assert value(opened().load(*SESSION)).status == status


def test_a_process_that_ends_leaves_the_task_of_another_one_alone(
    opened: Callable[..., StateManager],
) -> None:
    first, second = opened(), opened()
    agent = second.agent(*SESSION)
    shared = first.agent(*SESSION)
    with agent.task("t1", "code"):
        shared.remember("k", 1)
        first.close()
        assert agent.state.status == "busy"
    assert agent.state.status == "active"


def test_who_dies_at_work_is_stale_after_a_lease(opened: Callable[..., StateManager]) -> None:
    """And nobody else: neither who rests nor who is renewed."""
    first, second = opened(), opened()
    second.start("QA", "lives", status="busy")
    for status in ("busy", "active", "idle", "error"):
        first.start("QA", status, status=status)
    die(first)
    eventually(lambda: stale(second) == ["active", "busy"])
    assert value(second.stale(agent_type="Developer")) == []
    assert len(value(second.stale(agent_type="QA", limit=1))) == 1


def test_the_metric_counts_who_is_stale(
    opened: Callable[..., StateManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firestate.pipeline.sweep.LEASE_SECONDS", LEASE)
    first, second = opened(), opened()
    first.start(*SESSION, status="busy")
    first.start("QA", "rests")
    die(first)
    eventually(lambda: stale(second) == ["d"])
    second._runtime.backend.engine.sweep()  # type: ignore[attr-defined]
    assert second.settle()
    assert value(second.system()).system_metrics["stale_agent_count"] == 1


def test_a_listener_is_told_once_of_each_that_becomes_stale(
    opened: Callable[..., StateManager],
) -> None:
    first, second = opened(), opened()
    told: list[AgentState] = []
    second.on_stale(told.append)
    agent = first.start(*SESSION, status="busy")
    die(first)
    eventually(lambda: [each.agent_id for each in told] == ["d"])
    second._runtime.leases.look()
    second._runtime.leases.look()
    agent.save()
    assert first.flush()
    eventually(lambda: len(told) == 2)
    assert [each.agent_id for each in told] == ["d", "d"], "it was renewed in between"


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_stale_agent_is_adopted_with_all_that_it_has(
    opened: Callable[..., StateManager], *, elsewhere: bool
) -> None:
    first, second = opened(), opened(elsewhere=elsewhere)
    agent = first.start(*SESSION)
    with agent.task("t1", "code"):
        pass
    agent.begin_task("t2", "code")
    die(first)
    eventually(lambda: stale(second) == ["d"])
    (adopted,) = second.adopt()
    assert adopted.identity == SESSION
    assert [each["status"] for each in adopted.state.task_history] == ["completed", "in_progress"]
    adopted.end_task("t2")
    assert second.settle()
    assert stale(second) == []
    assert second.adopt() == []
    (kind,) = value(second.learned(*SESSION[:2])).kinds
    assert kind.tries == 2
    if elsewhere:
        eventually(lambda: agent.fenced)
        with pytest.raises(FencedError):
            agent.save()


def test_who_lives_is_not_adopted(opened: Callable[..., StateManager]) -> None:
    first, second = opened(lease_seconds=60.0), opened(lease_seconds=60.0)
    first.start(*SESSION, status="busy")
    assert first.flush()
    assert second.adopt(*SESSION) == []


def test_only_those_that_are_named_are_adopted(opened: Callable[..., StateManager]) -> None:
    first, second = opened(), opened()
    for name in ("a", "b", "c"):
        first.start("QA", name, status="busy")
    first.start("Developer", "a", status="busy")
    die(first)
    eventually(lambda: stale(second) == ["a", "a", "b", "c"])
    assert [each.identity[:2] for each in second.adopt("QA", "a")] == [("QA", "a")]
    assert len(second.adopt("QA", limit=1)) == 1
    assert len(second.adopt()) == 2


def test_what_the_dead_process_had_not_sent_is_adopted_as_well(
    opened: Callable[..., StateManager],
) -> None:
    first, second = opened(), opened(elsewhere=True)
    agent = first.start(*SESSION, status="busy")
    die(first)
    first._runtime.sender.close()
    with agent.task("unsent", "code"):
        pass
    agent.update(status="busy")
    eventually(lambda: stale(second) == ["d"])
    (adopted,) = second.adopt()
    opened()  # the next process of the folder sends what the dead one could not
    eventually(lambda: [e["task_id"] for e in adopted.state.task_history] == ["unsent"])
    assert second.settle()
    (kind,) = value(second.learned(*SESSION[:2])).kinds
    assert kind.tries == 1


@pytest.mark.parametrize("elsewhere", [False, True])
def test_each_is_adopted_by_exactly_one_of_those_who_try_at_once(
    opened: Callable[..., StateManager], *, elsewhere: bool
) -> None:
    names = [f"a{number}" for number in range(10)]
    first = opened()
    for name in names:
        first.start("QA", name, status="busy")
    die(first)
    others = [opened(elsewhere=elsewhere) for _ in range(4)]
    eventually(lambda: stale(others[0]) == names)
    barrier = threading.Barrier(4)
    adopted: list[Agent] = []

    def adopt(manager: StateManager) -> None:
        barrier.wait()
        adopted.extend(manager.adopt())

    threads = [threading.Thread(target=adopt, args=(each,)) for each in others]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert sorted(agent.identity.agent_id for agent in adopted) == names
    for agent in adopted:
        with agent.task("again", "code"):
            pass
    assert all(each.settle() for each in others)
    store = others[0]._runtime.backend.store()
    assert FullAudit(store).run().findings == []
    assert value(others[0].system()).system_metrics["tasks"]["completed"] == 10


def _worker(folder: str, name: str, tell: Any) -> None:
    manager = StateManager("", folder=folder, lease_seconds=LEASE)
    agent = manager.agent("QA", name, "s")
    for number in range(3):
        with agent.task(f"{name}-{number}", "code"):
            pass
    agent.begin_task(f"{name}-last", "code")
    tell.put(name)
    signal.pause()


def test_the_agents_of_killed_processes_are_adopted(opened: Callable[..., StateManager]) -> None:
    second = opened()
    tell = SPAWN.SimpleQueue()
    folder = str(second._runtime.outbox.path.parent)  # type: ignore[union-attr]
    names = [f"w{number}" for number in range(3)]
    processes = [SPAWN.Process(target=_worker, args=(folder, name, tell)) for name in names]
    for each in processes:
        each.start()
    assert sorted(tell.get() for _ in names) == names
    assert stale(second) == []
    for each in processes:
        assert each.pid is not None
        os.kill(each.pid, signal.SIGKILL)
        each.join()
    eventually(lambda: stale(second) == names)
    for agent in second.adopt("QA"):
        agent.end_task(f"{agent.identity.agent_id}-last")
        assert len(agent.state.task_history) == 4
    assert second.settle()
    assert value(second.system()).system_metrics["tasks"]["completed"] == 12


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_lease_is_some_time(tmp_path: Path, seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="lease_seconds must be more than 0"):
        StateManager("", folder=tmp_path, lease_seconds=seconds)
