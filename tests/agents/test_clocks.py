"""Agents on a machine whose clock is wrong: nothing is lost, all is counted once, one warning."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from firestate.agents.state.clock import CLOCK
from tests.agents.environments import eventually, value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from firestate import StateManager
    from firestate.agents.agent import Agent
    from tests.agents.environments import Environment

OFF = {"two days ahead": timedelta(days=2), "a year back": timedelta(days=-365)}
NEAR = timedelta(minutes=5)
QA = ("QA", "q")


def real() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def machine(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[Callable[[], Any]], None]]:
    """Have this process begin anew, with another wall clock."""
    caplog.set_level(logging.WARNING, "firestate.clock")
    yield CLOCK.__init__  # type: ignore[misc]
    CLOCK.__init__()  # type: ignore[misc]


def warnings(caplog: pytest.LogCaptureFixture) -> int:
    return sum(each.name == "firestate.clock" for each in caplog.records)


def work(agent: Agent, *tasks: str) -> None:
    for each in tasks:
        with agent.task(each, "code", tool="editor"):
            agent.remember(f"of {each}", {"text": each})
        agent.handed_off(QA, context={"task": each})


def check_counted(manager: StateManager, agent: Agent, number: int) -> None:
    """All that it did is stored, counted once, and waits nowhere."""
    kind, name, _ = agent.identity
    stored = value(manager.load(*agent.identity))
    assert [each["task_id"] for each in stored.task_history] == [f"t{n}" for n in range(number)]
    assert len(stored.memory_context) == number
    assert len(value(manager.events(agent_id=name, hours=24 * 800))) == number

    def counted() -> bool:
        kinds = value(manager.learned(kind, name)).kinds
        return [(each.tries, each.successes) for each in kinds] == [(number, number)]

    eventually(counted)
    connection = manager.connection
    assert (connection.refused, connection.waiting) == (0, 0)


def times_of(manager: StateManager, agent: Agent) -> list[datetime]:
    """Return all times that are stored of it, and those of its events."""
    state = value(manager.load(*agent.identity))
    events = value(manager.events(agent_id=agent.identity.agent_id, hours=24 * 800))
    entries = [
        datetime.fromisoformat(each[name])
        for each in state.task_history
        for name in ("started_at", "ended_at")
    ]
    return [
        state.created_at,
        state.last_updated,
        state.last_active,
        *entries,
        *(each.timestamp for each in events),
    ]


@pytest.mark.parametrize("off", OFF)
def test_a_clock_that_is_off_from_the_start(
    here: Environment, machine: Any, caplog: pytest.LogCaptureFixture, off: str
) -> None:
    """What is saved before the store has said what time it is, and what is saved then.

    In memory, and in a new file, nobody knows of another time: there all is of the machine's.
    """
    here.wait_quiet()
    machine(lambda: real() + OFF[off])
    manager = here.open() if here.name == "cloud" else here.ours
    assert manager is not None
    agent = manager.start("Developer", here.agent("off"), "s")
    agent.begin_task("t0", "code", tool="editor")
    agent.remember("of t0", {"text": "t0"})
    agent.handed_off(QA)
    is_told = here.name == "cloud" or OFF[off] < timedelta(0)
    if is_told:
        eventually(lambda: CLOCK.moves)
    agent.end_task("t0")
    work(agent, "t1", "t2")
    assert manager.settle(60)
    here.wait_quiet()
    check_counted(manager, agent, 3)
    present = real() if is_told else real() + OFF[off]
    assert all(abs(each - present) < NEAR for each in times_of(manager, agent))
    assert warnings(caplog) == is_told


def test_a_clock_that_jumps_by_an_hour_each_minute(
    here: Environment, machine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """For days, as it seems."""
    jumps = [0]
    machine(lambda: real() + timedelta(hours=jumps[0]))
    manager = here.open() if here.name == "cloud" else here.ours
    assert manager is not None
    agent = manager.start("Developer", here.agent("jumps"), "s")
    for number in range(30):
        work(agent, f"t{number}")
        jumps[0] += 24 if number % 2 else -1
    assert manager.settle(60)
    here.wait_quiet()
    check_counted(manager, agent, 30)
    assert all(abs(each - real()) < NEAR for each in times_of(manager, agent))
    assert warnings(caplog) == 1
