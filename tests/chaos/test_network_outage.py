"""Agents whose way to the cloud is cut off: they go on, and what they did arrives later."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from firestate import StateManager
from firestate.audit.full import FullAudit
from firestate.queries import BY_SOURCE
from tests.chaos.agent_processes import environment_of
from tests.chaos.settings import seconds, tell
from tests.chaos.tcp_proxy import Cut, TcpProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from firestate.agents.agent import Agent
    from tests.load.runner import Runner

_AGENTS = 5
_ROUND_SECONDS = 0.05
_LEAST_ROUNDS = 120  # more reads than agents in a hundred: one of each notices that it is cut off
_EVENT_EACH = 10  # rounds: what the functions of one machine take in within 10 s must suffice
_PATIENCE_SECONDS = 30.0
"""So long nothing may arrive: how long it all took is told, a busy machine is no fault of ours."""
_MOST_RATIO = 2.0
_FEW = 300
_WAKING = "waking"
"""How much longer than it should a wait takes: as busy as the machine is at the moment."""
_LEAST_P99_SECONDS = 0.01
"""Below this it is Python's threads, which take turns of 5 ms each, and not the network."""


@pytest.fixture
def ways(empty_pipeline: Runner, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[TcpProxy]]:
    environment = environment_of(empty_pipeline)
    with contextlib.ExitStack() as stack:
        ways = []
        for name in ("FIRESTORE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST"):
            ways.append(stack.enter_context(TcpProxy(environment[name])))
            environment[name] = ways[-1].address
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield ways


class Fleet:
    """Agents at work in threads of their own; notes how long each call takes, and what it said."""

    def __init__(self, manager: StateManager, name: str) -> None:
        self._manager = manager
        self._agents = [manager.start("Developer", f"{name}-{n}") for n in range(_AGENTS)]
        self._took: dict[str, list[float]] = defaultdict(list)
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(a,)) for a in self._agents]
        self.raised: list[BaseException] = []
        self.events: dict[Agent, list[str]] = defaultdict(list)
        self.last: dict[Agent, int] = {}
        self.answers: list[bool] = []
        for thread in self._threads:
            thread.start()

    def took(self) -> dict[str, list[float]]:
        """Give how long calls took since the last time this was asked."""
        took, self._took = self._took, defaultdict(list)
        return took

    def go_on(self, part: float = 1) -> None:
        """Wait until each has done so many rounds more: not so long, on a busy machine."""
        done = dict(self.last)
        for agent in self._agents:
            while self.last.get(agent, 0) < done.get(agent, 0) + _rounds() * part:
                assert self.raised == []
                time.sleep(_ROUND_SECONDS)

    def end(self) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _run(self, agent: Agent) -> None:
        number = 0
        due = time.perf_counter() + _ROUND_SECONDS
        while not self._ending.wait(_ROUND_SECONDS):
            self._took[_WAKING].append(max(time.perf_counter() - due, 0.0))
            try:
                self._round(agent, number)
            except BaseException as error:
                self.raised.append(error)
                raise
            number += 1
            due = time.perf_counter() + _ROUND_SECONDS

    def _round(self, agent: Agent, number: int) -> None:
        self._timed("save", lambda: agent.measure(number=number))
        self.last[agent] = number
        if number % _EVENT_EACH == 0:
            event = self._timed("event", lambda: agent.handed_off(("QA", "q")))
            self.events[agent].append(event.event_id)
        self._timed("flag", lambda: self._manager.controls.flag("any"))
        answer = self._timed("load", lambda: self._manager.load(*agent.identity))
        assert answer.value is not None
        assert answer.value.performance_metrics["number"] == number
        self.answers.append(answer.fresh)

    def _timed(self, what: str, call: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        try:
            return call()
        finally:
            self._took[what].append(time.perf_counter() - begin)


@pytest.mark.parametrize("how", ["frozen", "refused", "unreachable"])
@pytest.mark.timeout(300)
def test_cut_off_in_the_middle(
    how: Cut, ways: list[TcpProxy], empty_pipeline: Runner, tmp_path: Path
) -> None:
    """No call raises or takes longer, reads say what they are, and all arrives in the end."""
    pipeline = empty_pipeline
    heard: list[Any] = []
    with StateManager(folder=tmp_path / "outbox") as manager:
        manager.on_connection(heard.append)
        fleet = Fleet(manager, how)
        fleet.go_on()
        before = fleet.took()
        fleet.answers.clear()
        for way in ways:
            way.cut(how)
        fleet.go_on(1 / 2)
        _until(lambda: manager.connection.publishing.open is False)
        _until(lambda: manager.connection.reading.open is False)
        noticed = len(fleet.answers)
        fleet.go_on(1 / 2)
        during, answers = fleet.took(), list(fleet.answers)
        assert manager.connection.publishing.open is False
        assert manager.connection.reading.open is False
        assert manager.connection.waiting > 0
        fleet.end()
        for way in ways:
            way.mend()
        arrived = _arrived_after(pipeline, fleet)
        assert fleet.raised == []
        assert len(answers) > noticed
        assert not any(answers[noticed:])
        _until(lambda: manager.connection.publishing.open and manager.connection.reading.open)
        agent = manager.load(*next(iter(fleet.last)).identity)
        assert agent.fresh
    shown = []
    waking = _p99(during.pop(_WAKING))
    for what in during:
        p99, then = _p99(during[what]), _p99(before[what])
        shown.append(f"{what} {1000 * then:.2f} to {1000 * p99:.2f} ms")
        assert p99 <= _MOST_RATIO * max(then, waking, _LEAST_P99_SECONDS), (shown, waking)
    assert len(heard) >= 4
    pipeline.wait_quiet(60)
    assert FullAudit(pipeline.store).run().drift == 0
    tell(f"{how} for {seconds()} s: p99 {', '.join(shown)}; all there after {arrived:.1f} s")


@pytest.mark.parametrize("how", ["frozen", "refused", "unreachable"])
@pytest.mark.timeout(300)
def test_absent_at_the_start(
    how: Cut, ways: list[TcpProxy], empty_pipeline: Runner, tmp_path: Path
) -> None:
    """Agents begin, are resumed, work and end without the cloud; all arrives when it comes."""
    pipeline = empty_pipeline
    with StateManager(folder=tmp_path / "elsewhere") as before:
        former = before.start("Developer", f"former-{how}")
        former.end_task("t1", kind="code").remember("k", {"text": "kept"})
    while pipeline.store.read(former.identity.state_path) is None:
        time.sleep(0.05)
    for way in ways:
        way.cut(how)
    with StateManager(folder=tmp_path / "outbox") as manager:
        fleet = Fleet(manager, f"absent-{how}")
        resumed = manager.resume("Developer", f"former-{how}")
        assert not resumed.fresh
        resumed.end_task("t2", kind="code")
        assert manager.active().value
        assert manager.system().value.total_agents_spawned >= 0
        time.sleep(seconds())
        fleet.end()
        assert fleet.raised == []
        assert not any(fleet.answers)
        for way in ways:
            way.mend()
        arrived = _arrived_after(pipeline, fleet)
        _until(lambda: resumed.fresh)
        assert [task["task_id"] for task in resumed.state.task_history] == ["t1", "t2"]
        assert resumed.state.memory_context["k"]["text"] == "kept"
        pipeline.wait_for(lambda: _status(pipeline, former) == "terminated", _PATIENCE_SECONDS)
    tell(f"{how} at the start: all there after {arrived:.1f} s")


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _arrived_after(pipeline: Runner, fleet: Fleet) -> float:
    begin = time.monotonic()
    try:
        pipeline.wait_for(lambda: not _missing(pipeline, fleet), _PATIENCE_SECONDS)
    except TimeoutError:
        assert _missing(pipeline, fleet) == []
    return time.monotonic() - begin


def _status(pipeline: Runner, agent: Agent) -> object:
    stored = pipeline.store.read(agent.identity.state_path)
    return stored and stored.data["status"]


def _missing(pipeline: Runner, fleet: Fleet) -> list[str]:
    found = []
    for agent, number in fleet.last.items():
        stored = pipeline.store.read(agent.identity.state_path)
        if stored is None or stored.data["performance_metrics"] != {"number": number}:
            found.append(f"the newest state of {agent.identity.agent_id}")
        query = BY_SOURCE.query({"source_agent_id": agent.identity.agent_id}, fields=["event_id"])
        there = {each.data["event_id"] for each in pipeline.store.query(query)}
        if left := set(fleet.events[agent]) - there:
            found.append(f"{len(left)} events of {agent.identity.agent_id}")
    return found


def _rounds() -> int:
    return max(_LEAST_ROUNDS, round(seconds() / _ROUND_SECONDS))


def _p99(times: list[float]) -> float:
    """Of few the ninth tenth: the worst of them may be anything."""
    return sorted(times)[int(len(times) * (0.99 if len(times) > _FEW else 0.9))]
