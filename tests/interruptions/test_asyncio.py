"""Tasks of asyncio that are cancelled while they wait: the agent goes on, and it is recorded."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.interruptions.world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
    from pathlib import Path

    from firestate import StateManager

pytestmark = pytest.mark.timeout(120)

_NUMBERS = itertools.count()


def _resume_another(manager: StateManager) -> Awaitable[Any]:
    """Go on with a session that has not gone on yet: it does so once."""
    name = f"f{next(_NUMBERS)}"
    manager.start("Former", name, session_id="first")
    return manager.resume_from.aio("Former", name, "first", "second")


READS: Mapping[str, Callable[[StateManager], Awaitable[Any]]] = {
    "load": lambda manager: manager.load.aio("Worker", "w"),
    "active": lambda manager: manager.active.aio(),
    "children": lambda manager: manager.children.aio("Worker", "w"),
    "events": lambda manager: manager.events.aio(),
    "success_rates": lambda manager: manager.success_rates.aio(),
    "learned": lambda manager: manager.learned.aio("Worker", "w"),
    "learned_by_type": lambda manager: manager.learned_by_type.aio("Worker"),
    "system": lambda manager: manager.system.aio(),
    "take_up": lambda manager: manager.take_up.aio("Taken", "t", "s", or_start=True),
    "resume": lambda manager: manager.resume.aio("Resumed", "r", "second"),
    "resume_from": _resume_another,
    "delete": lambda manager: manager.delete.aio("Deleted", "d", "s"),
    "clean_up": lambda manager: manager.clean_up.aio(30),
}
_MOST_AWAITS = 40


class Steps:
    """Runs an awaitable step by step, and throws a cancellation at the await with a number."""

    def __init__(self, awaitable: Any, at: int) -> None:
        self._steps = awaitable.__await__()
        self._at = at
        self.reached = False

    def __await__(self) -> Generator[Any]:
        number = 0
        waits_for: Any = next(self._steps, self)
        while waits_for is not self:
            if number == self._at:
                self.reached = True
                # As a task does: what is waited for is cancelled as well, where it can be.
                if waits_for is not None:
                    waits_for.cancel()
                with contextlib.suppress(StopIteration):
                    self._steps.throw(asyncio.CancelledError())
                    self._steps.close()
                return
            yield waits_for
            number += 1
            waits_for = next(self._steps, self)


@pytest.fixture(params=["memory", "disk"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = World(None if request.param == "memory" else tmp_path)
    yield made
    made.close()


@contextlib.asynccontextmanager
async def in_time(seconds: float) -> AsyncIterator[None]:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            yield


def test_a_read_that_is_cancelled_at_any_await_does_no_harm(world: World) -> None:
    """Afterwards the same read answers, and the agent saves."""

    async def work(steps: Steps) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await steps

    for name, read in READS.items():
        for at in range(_MOST_AWAITS):
            steps = Steps(read(world.manager), at)
            # The end of each loop waits for the thread of the read, which goes on beside it.
            asyncio.run(work(steps))
            world.mark(world.agent)
            if not steps.reached:
                break
        else:
            pytest.fail(f"{name} never comes to an end")
    assert world.verify() == []


async def _once(read: Callable[[StateManager], Awaitable[Any]], manager: StateManager) -> Any:
    return await read(manager)


def test_a_task_that_is_cancelled_in_a_read_ends_at_once(world: World) -> None:
    async def work(read: Callable[[StateManager], Awaitable[Any]]) -> None:
        for turns in range(6):
            task = asyncio.create_task(_once(read, world.manager))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            async with asyncio.timeout(30):
                await asyncio.wait({task})
            world.mark(world.agent)

    for read in READS.values():
        asyncio.run(work(read))
    assert world.verify() == []


async def _worker(world: World, number: int, reads: int) -> None:
    with world.agent.task(f"t{number}", "code") as notes:
        for read in range(reads):
            world.agent.remember(f"n{number}", read)
            await world.manager.load.aio("Worker", "w")
            notes["read"] = read
            await asyncio.sleep(0)


def test_a_task_that_is_cancelled_at_any_await_is_recorded_as_cancelled(world: World) -> None:
    async def work() -> list[int]:
        cancelled: list[int] = []
        for number in range(60):
            steps = Steps(_worker(world, number, reads=3), number)
            with contextlib.suppress(asyncio.CancelledError):
                await steps
            if not steps.reached:
                return cancelled
            cancelled.append(number)
            assert world.task(f"t{number}")["status"] == "cancelled", number
            world.mark(world.agent)
        return cancelled

    assert asyncio.run(work()), "it was never cancelled"
    assert world.verify() == []


def test_tasks_that_run_out_of_time_are_recorded_as_cancelled(world: World) -> None:
    """By `asyncio.timeout`, several of one agent beside each other."""
    draw = random.Random(0)

    async def limited(number: int) -> None:
        async with in_time(draw.uniform(0.001, 0.05)):
            await _worker(world, number, reads=1_000_000)

    async def work() -> None:
        for first in range(0, 40, 4):
            async with asyncio.TaskGroup() as group:
                for number in range(first, first + 4):
                    group.create_task(limited(number))
            world.mark(world.agent)

    asyncio.run(work())
    tasks = {each["task_id"]: each["status"] for each in world.state.task_history}
    begun = {name for name in tasks if name.startswith("t")}
    assert begun
    assert {tasks[name] for name in begun} == {"cancelled"}
    assert world.verify() == []


def test_a_handover_that_is_cancelled_is_recorded_as_cancelled(world: World) -> None:
    async def hand_over(number: int) -> None:
        context = {"case": "handoff", "n": number}
        with world.agent.handoff(world.other, context=context):
            await world.manager.load.aio("Worker", "w")
            await asyncio.sleep(0)

    async def work() -> int:
        for number in range(20):
            steps = Steps(hand_over(number), number)
            with contextlib.suppress(asyncio.CancelledError):
                await steps
            if not steps.reached:
                return number
        return 20

    cancelled = asyncio.run(work())
    assert 0 < cancelled < 20
    found = world.manager.events(agent_id="w", event_type="handoff").value
    assert {each.context["n"]: each.cancelled for each in found} == {
        number: number < cancelled for number in range(cancelled + 1)
    }
    assert world.verify() == []
