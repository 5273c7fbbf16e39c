"""Agents that save far more often than anything need be stored."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from firestate import StateManager
from tests.chaos.agent_processes import environment_of
from tests.chaos.settings import seconds, tell

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from firestate.agents.agent import Agent
    from tests.load.runner import Runner

_AGENTS = 50
_SAVES_A_SECOND = 40
_MOST_GROWTH_BYTES = 20_000_000
_SETTLED_AFTER = 0.3  # of the time: until then buffers and caches fill


@pytest.mark.timeout(600)
def test_fifty_agents_saving_forty_times_a_second(
    tmp_path: Path, empty_pipeline: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One snapshot a second goes out for each, memory stays flat, the newest is what is stored."""
    pipeline = empty_pipeline
    for name, value in environment_of(pipeline).items():
        monkeypatch.setenv(name, value)
    with StateManager(folder=tmp_path / "outbox") as manager:
        sent = _sent_by(manager, monkeypatch)
        agents = [manager.start("Developer", f"agent-{n:02}") for n in range(_AGENTS)]
        memory = _save_for(agents, seconds())
        assert manager.flush(30)
        pipeline.wait_quiet(60)
        for agent in agents:
            stored = pipeline.store.read(agent.identity.state_path)
            assert stored is not None
            assert stored.data["performance_metrics"] == agent.state.performance_metrics
            assert stored.data["revision"] == agent.state.performance_metrics["number"] + 2
    gaps = [after - before for times in sent.values() for before, after in pairwise(times)]
    assert len(sent) == _AGENTS
    assert min(gaps) >= 1.0
    settled = memory[int(len(memory) * _SETTLED_AFTER) :]
    growth = settled[-1] - settled[0]
    saves = _AGENTS * _SAVES_A_SECOND * seconds()
    tell(
        f"{saves:,} saves in {seconds()} s, {sum(map(len, sent.values())):,} snapshots sent, "
        f"{min(gaps):.3f} s apart at least, memory grew by {growth / 1e6:.1f} MB"
    )
    assert growth < _MOST_GROWTH_BYTES


def _sent_by(manager: StateManager, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """Note when each session's snapshot begins to be sent, on its real way."""
    engine: Any = manager._runtime.backend
    sent: dict[str, list[float]] = defaultdict(list)
    send = engine.send

    def noted(topic: str, messages: Sequence[bytes], writer: str) -> None:
        now = time.monotonic()
        for each in messages:
            sent[json.loads(each)["state"]["agent_id"]].append(now)
        send(topic, messages, writer)

    monkeypatch.setattr(engine, "send", noted)
    return sent


def _save_for(agents: list[Agent], duration: int) -> list[int]:
    """Let each agent save, evenly, from ten threads; give the memory as it went."""
    memory: list[int] = []
    own = psutil.Process()
    begin = time.monotonic()

    def work(some: list[Agent]) -> None:
        for number in range(duration * _SAVES_A_SECOND):
            for agent in some:
                agent.measure(number=number)
            time.sleep(max(0.0, begin + (number + 1) / _SAVES_A_SECOND - time.monotonic()))

    threads = [threading.Thread(target=work, args=(agents[n::10],)) for n in range(10)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        memory.append(own.memory_info().rss)
        time.sleep(0.2)
    return memory
