"""A session that another folder takes: what its former holder has saved counts, once."""

from __future__ import annotations

import random
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest

from firestate.audit.full import FullAudit
from firestate.client.outgoing import Outgoing
from firestate.errors import FencedError, InvalidMessageError, UnknownSessionError
from tests.agents.environments import eventually, value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from firestate.agents.agent import Agent
    from tests.agents.folders import Folder

WHO = ("Developer", "d")
SESSION = (*WHO, "s")


def work(agent: Agent, *tasks: str, tool: str = "t") -> None:
    for each in tasks:
        with agent.task(each, "code", tool=tool):
            pass


def cut_off(one: Folder) -> Agent:
    """Return the holder of a session that has done a2 since its way was closed, and before a1."""
    former = one.manager.start(*SESSION)
    work(former, "a1")
    one.send_all()
    one.is_open = False
    work(former, "a2")
    return former


def names(agent: Agent) -> list[str]:
    return sorted(each["task_id"] for each in agent.state.task_history)


def is_counted(folder: Folder, number: int) -> bool:
    """Whether so many tasks are counted, everywhere; other folders may count as well meanwhile."""
    assert folder.manager.settle(60)
    store = folder.manager._runtime.backend.store()
    system = value(folder.manager.system())
    kinds = value(folder.manager.learned(*WHO)).kinds
    done = system.system_metrics["tasks"]["completed"]
    counts = [done, *(each.tries for each in kinds), *(each.successes for each in kinds)]
    return counts == [number] * 3 and FullAudit(store).run().findings == []


@pytest.mark.parametrize("first", ["former", "holder"])
def test_what_the_former_holder_saved_meanwhile_is_merged_into_the_holder_s(
    folder: Callable[[], Folder], first: str
) -> None:
    """Whichever of them arrives first, after the holder has read the session."""
    one, other = folder(), folder()
    former = one.manager.start(*SESSION)
    work(former, "a1")
    one.send_all()
    one.is_open = other.is_open = False
    holder = other.manager.take_up(*SESSION)
    work(former, "a2", "a3")
    former.remember("late", {"text": "of the former"})
    work(holder, "b1")
    for each in (one, other) if first == "former" else (other, one):
        each.send_all()
    eventually(lambda: names(holder) == ["a1", "a2", "a3", "b1"])
    assert holder.state.memory_context == {"late": {"session_id": "s", "text": "of the former"}}
    eventually(lambda: is_counted(other, 4))
    eventually(lambda: former.fenced)
    with pytest.raises(FencedError):
        work(former, "a4")
    work(holder, "b2")
    eventually(lambda: is_counted(other, 5))


def test_it_is_merged_once_however_often_it_comes(folder: Callable[[], Folder]) -> None:
    """A later state of the former holder adds what is new in it."""
    one, other = folder(), folder()
    former = one.manager.start(*SESSION)
    one.send_all()
    holder = other.manager.take_up(*SESSION)
    one.is_open = False
    other.send_all()
    one.manager._registry.release(former)  # as if it was not told yet
    for number in range(3):
        former._fenced = False
        work(former, f"a{number}")
        one.send_all()
        one.is_open = False
        eventually(lambda: f"a{number}" in names(holder))  # noqa: B023 - called at once
        for stored in one.manager._runtime.outbox.newest(snapshots=True).values():
            engine = one.manager._runtime.backend.engine  # type: ignore[attr-defined]
            engine.publish(Outgoing("agent-state", stored))
    eventually(lambda: is_counted(other, 3))
    assert names(holder) == ["a0", "a1", "a2"]


@pytest.mark.parametrize("number", [3, 150, 450])
def test_tasks_that_the_history_keeps_no_more_are_counted_by_their_totals(
    folder: Callable[[], Folder], number: int
) -> None:
    one, other = folder(), folder()
    former = one.manager.start(*SESSION)
    work(former, *(f"before{n}" for n in range(150)))
    one.send_all()
    one.is_open = other.is_open = False
    holder = other.manager.take_up(*SESSION)
    work(holder, *(f"b{n}" for n in range(30)))
    work(former, *(f"a{n}" for n in range(number)))
    other.send_all()
    one.send_all()
    eventually(lambda: is_counted(other, 150 + 30 + number))


def test_a_resume_elsewhere_ends_the_session_with_what_the_former_saved_meanwhile(
    folder: Callable[[], Folder],
) -> None:
    for late_first in (True, False):
        one, other = folder(), folder()
        name = f"d{late_first}"
        former = one.manager.start("Developer", name, "s")
        work(former, "a1")
        one.send_all()
        one.is_open = other.is_open = False
        holder = other.manager.resume("Developer", name)
        work(former, "a2")
        work(holder, "b1")
        for each in (one, other) if late_first else (other, one):
            each.send_all()
        assert other.manager.settle()
        stored = value(other.manager.load("Developer", name, "s"))
        assert stored.status == "terminated"
        assert [each["task_id"] for each in stored.task_history] == ["a1", "a2"]
        assert stored.collaboration_context["resumed_as"] == holder.identity.session_id
        (kind,) = value(other.manager.learned("Developer", name)).kinds
        assert kind.tries == 3
    assert FullAudit(other.manager._runtime.backend.store()).run().findings == []


def test_what_comes_after_the_holder_has_ended_is_merged_by_the_next_one(
    folder: Callable[[], Folder],
) -> None:
    one, other, third = folder(), folder(), folder()
    former = one.manager.start(*SESSION)
    work(former, "a1")
    one.send_all()
    one.is_open = False
    one.stop_telling()
    holder = other.manager.take_up(*SESSION)
    work(holder, "b1")
    holder.terminate()
    assert other.manager.settle()
    other.close()
    work(former, "a2")
    one.send_all()
    assert one.manager.settle()
    next_one = third.manager.take_up(*SESSION)
    eventually(lambda: names(next_one) == ["a1", "a2", "b1"])
    eventually(lambda: is_counted(third, 3))


def test_a_folder_that_takes_its_session_back_takes_what_it_had_not_sent_along(
    folder: Callable[[], Folder],
) -> None:
    one, other = folder(), folder()
    former = cut_off(one)
    holder = other.manager.take_up(*SESSION)
    work(holder, "b1")
    other.send_all()
    eventually(lambda: former.fenced)
    again = one.manager.take_up(*SESSION)
    assert names(again) == ["a1", "a2", "b1"]
    one.send_all()
    eventually(lambda: is_counted(one, 3))


def test_what_was_forgotten_by_the_holder_does_not_come_back(
    folder: Callable[[], Folder],
) -> None:
    one, other = folder(), folder()
    former = one.manager.start(*SESSION)
    former.remember("secret", 1).remember("old", 1)
    one.send_all()
    one.is_open = False
    one.stop_telling()
    holder = other.manager.take_up(*SESSION)
    former.remember("old", 2)
    work(former, "a1")
    holder.forget("secret")
    other.send_all()
    one.send_all()
    eventually(lambda: names(holder) == ["a1"])
    assert holder.state.memory_context == {"old": 2}


def test_a_deleted_session_takes_what_is_late_with_it(folder: Callable[[], Folder]) -> None:
    one, other = folder(), folder()
    former = one.manager.start(*SESSION)
    one.send_all()
    one.is_open = False
    one.stop_telling()
    holder = other.manager.take_up(*SESSION)
    work(former, "a1")
    other.send_all()
    one.send_all()
    eventually(lambda: names(holder) == ["a1"])
    epoch = former.epoch
    store = other.manager._runtime.backend.store()
    path = f"{former.identity.state_path}/late/{epoch}"
    assert store.read(path) is not None
    holder.delete()
    work(former, "a2")
    one.send_all()
    other.send_all()
    assert value(other.manager.load(*SESSION)) is None


@pytest.mark.parametrize("seed", range(12))
def test_whatever_order_they_take_it_in_each_task_counts_once(
    folder: Callable[[], Folder], seed: int
) -> None:
    """Three folders take the session from one another, with their ways open or closed."""
    draw = random.Random(seed)
    folders = [folder() for _ in range(3)]
    agent = folders[0].manager.start(*SESSION)
    folders[0].send_all()
    handles = {0: agent}
    acknowledged = 0
    for step in range(24):
        number = draw.randrange(3)
        one = folders[number]
        one.is_open = draw.random() < 0.5
        if number not in handles or handles[number].fenced:
            handles[number] = one.manager.take_up(*SESSION)
        try:
            work(handles[number], f"t{step}")
            acknowledged += 1
        except FencedError:
            pass
        if draw.random() < 0.3:
            one.send_all()
    for each in folders:
        each.send_all()
        assert each.manager.settle()
    last = folder()
    work(last.manager.take_up(*SESSION), "last")
    eventually(lambda: is_counted(last, acknowledged + 1), 120)


class Fleet:
    """Three folders that do as they please with one agent; `acknowledged` counts its tasks."""

    def __init__(self, folder: Callable[[], Folder], draw: random.Random) -> None:
        self.draw = draw
        self.folders = [folder() for _ in range(3)]
        self.acknowledged = 0
        self._handles: list[tuple[Folder, Agent]] = []
        self._running: list[tuple[Agent, str]] = []
        self.sessions: list[str] = []
        self._hold(self.folders[0], self.folders[0].manager.start(*SESSION))
        self.folders[0].send_all()

    def step(self, number: int) -> None:
        """Do one thing in one of the folders, with its way open or closed."""
        one = self.draw.choice(self.folders)
        one.is_open = self.draw.random() < 0.5
        doings = (self._take_up, self._resume, self._go_on, self._work, self._begin, self._end)
        with suppress(FencedError, UnknownSessionError):  # not sent yet
            self.draw.choice((*doings, self._work))(one, f"t{number}")
        if self.draw.random() < 0.3:
            one.send_all()

    def _hold(self, one: Folder, agent: Agent) -> None:
        self._handles.append((one, agent))
        if agent.identity.session_id not in self.sessions:
            self.sessions.append(agent.identity.session_id)

    def _take_up(self, one: Folder, _: str) -> None:
        self._hold(one, one.manager.take_up(*WHO, self.draw.choice(self.sessions)))

    def _resume(self, one: Folder, name: str) -> None:
        self._hold(one, one.manager.resume(*WHO, name))

    def _go_on(self, one: Folder, _: str) -> None:
        self._hold(one, one.manager.agent(*WHO))

    def _handle(self, one: Folder) -> Agent | None:
        handles = [agent for each, agent in self._handles if each is one]
        return self.draw.choice(handles) if handles else None

    def _work(self, one: Folder, name: str) -> None:
        if (agent := self._handle(one)) is not None:
            work(agent, name)
            self.acknowledged += 1

    def _begin(self, one: Folder, name: str) -> None:
        if (agent := self._handle(one)) is not None:
            agent.begin_task(name, "code")
            self._running.append((agent, name))

    def _end(self, _one: Folder, _name: str) -> None:
        if self._running:
            agent, name = self._running.pop(self.draw.randrange(len(self._running)))
            agent.end_task(name)
            self.acknowledged += 1


class DisorderedWay:
    """Between folders and their store: messages come late, twice, and in any order."""

    def __init__(self, folders: list[Folder], draw: random.Random) -> None:
        self._draw = draw
        self._held: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._is_open = True
        for each in folders:
            self._join(each)

    def _join(self, folder: Folder) -> None:
        runtime = folder.manager._runtime
        gated, send = runtime.backend.send, type(runtime.backend).send

        def through(topic: str, messages: Sequence[bytes], writer: str) -> None:
            with self._lock:
                if folder.is_open and self._is_open:
                    for each in messages:
                        arrive = partial(send, runtime.backend, topic, [each], writer)
                        times = 1 + (self._draw.random() < 0.2)
                        self._held += times * [partial(runtime._worker.run, arrive)]
                    return
            gated(topic, messages, writer)

        runtime.backend.send = through  # type: ignore[method-assign]
        runtime.backend.is_near = False  # what was sent is not stored at once

    def deliver(self, most: int) -> None:
        for _ in range(min(most, len(self._held))):
            self._held.pop(self._draw.randrange(len(self._held)))()

    def deliver_all(self) -> None:
        with self._lock:
            self._is_open = False
        while self._held:
            self.deliver(len(self._held))


@pytest.mark.parametrize("seed", range(12))
def test_whatever_folders_do_with_an_agent_each_task_counts_once(
    folder: Callable[[], Folder], seed: int
) -> None:
    """They take it up, resume it, go on with it, and end what was under way as it was taken."""
    draw = random.Random(seed)
    fleet = Fleet(folder, draw)
    way = DisorderedWay(fleet.folders, draw) if seed % 2 else None
    for number in range(20):
        fleet.step(number)
        if way is not None:
            way.deliver(draw.randrange(4))
    for each in fleet.folders:
        each.send_all()
    if way is not None:
        way.deliver_all()
    for each in fleet.folders:
        each.send_all()
        assert each.manager.settle()
    last = folder()
    for session_id in fleet.sessions:  # what is late of one that nobody holds waits for that
        last.manager.take_up(*WHO, session_id)
    last.send_all()
    eventually(lambda: is_counted(last, fleet.acknowledged), 120)


def fill(agent: Agent) -> None:
    for number in range(2_000):
        agent.remember(f"k{number}", {"text": "x" * 600})


@pytest.mark.parametrize("how", ["take_up", "resume"])
def test_a_full_session_is_gone_on_with_elsewhere(folder: Callable[[], Folder], how: str) -> None:
    one, other = folder(), folder()
    former = one.manager.start(*SESSION)
    with pytest.raises(InvalidMessageError, match="size"):
        fill(former)
    known = len(former.state.memory_context)
    one.send_all()
    one.is_open = False
    work(former, "a1")
    holder = other.manager.take_up(*SESSION) if how == "take_up" else other.manager.resume(*WHO)
    assert len(holder.state.memory_context) == known
    work(holder, "b1")
    other.send_all()
    one.send_all()
    eventually(lambda: is_counted(other, 2))
