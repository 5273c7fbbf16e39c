"""Agents whose process is killed: what their calls have returned for, arrives, once."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from firestate import StateManager
from firestate.audit.full import FullAudit
from firestate.errors import UnknownSessionError
from firestate.queries import BY_SOURCE
from firestate.schema.ids import Identity, memory_path
from tests.chaos.agent_processes import Log, environment_of, process
from tests.chaos.observed_states import ObservedStates
from tests.chaos.settings import kills, seeds, tell

if TYPE_CHECKING:
    from pathlib import Path

    from tests.load.runner import Runner

AGENTS = [Identity("Developer", f"agent-{number}", "session") for number in range(20)]
_CALLS_BETWEEN_KILLS = 50
_PAUSE_SECONDS = 0.004
_LONGEST_LIFE_SECONDS = 0.5
_PATIENCE_SECONDS = 30.0  # on a busy machine


def work_on(log: Log, folder: Path, total: int) -> None:
    """Go on where the log ends: saves and events, one after the other."""
    returned = [line["number"] for line in log.lines() if "number" in line]
    with StateManager(folder=folder, patience_seconds=_PATIENCE_SECONDS) as manager:
        agents = []
        for identity in AGENTS:
            try:
                agent = manager.take_up(*identity)
            except UnknownSessionError:
                agent = manager.start(*identity)
            assert agent.fresh
            found = agent.state.performance_metrics.get("number", -1)
            log.write(took_up=identity.agent_id, found=found)
            agents.append(agent)
        for number in range(max(returned, default=-1) + 1, total):
            agent = agents[number % len(agents)]
            if number // len(agents) % 2:
                event = agent.handed_off(("QA", "q"), context={"number": number})
                log.write(number=number, event=event.event_id, agent=agent.identity.agent_id)
            else:
                agent.measure(number=number)
                log.write(number=number, save=number, agent=agent.identity.agent_id)
            time.sleep(_PAUSE_SECONDS)
        log.write(flushed=manager.flush(60))


@pytest.mark.timeout(1200)
def test_what_has_returned_takes_effect_once(tmp_path: Path, empty_pipeline: Runner) -> None:
    """Killed at random moments, each time gone on with by the next process."""
    pipeline = empty_pipeline
    chance = random.Random(seeds()[0])
    total = kills() * _CALLS_BETWEEN_KILLS
    log = Log(tmp_path / "log")
    seen = ObservedStates()
    pipeline.router.listeners.append(seen)
    killed = 0
    while not any(line.get("flushed") for line in log.lines()):
        child = process(
            environment_of(pipeline), work_on, tmp_path / "log", tmp_path / "outbox", total
        )
        if killed < kills():
            child.join(chance.uniform(0.05, _LONGEST_LIFE_SECONDS))
            if child.exitcode is None:
                child.kill()
                killed += 1
        child.join()
    assert not [line["broken"] for line in log.lines() if "broken" in line]
    pipeline.wait_quiet(60)
    told = _compared(pipeline, log)
    pipeline.wait_quiet(60)
    assert FullAudit(pipeline.store).run().drift == 0
    assert seen.gone_back() == []
    tell(f"{killed} kills in {total:,} calls, {told}, 0 drift")
    assert killed == kills()


def _compared(pipeline: Runner, log: Log) -> str:
    saves: dict[str, int] = {}
    events: dict[str, set[str]] = defaultdict(set)
    for line in log.lines():
        if "took_up" in line:
            # What the process before has returned for, or the one save that it had under way.
            newest = saves.get(line["took_up"], -1)
            assert line["found"] >= newest, line
            saves[line["took_up"]] = line["found"]
        elif "save" in line:
            saves[line["agent"]] = line["save"]
        elif "event" in line:
            events[line["agent"]].add(line["event"])
    under_way = 0
    for identity in AGENTS:
        own = _until_stored(pipeline, identity, events[identity.agent_id], saves)
        under_way += len(own) - len(events[identity.agent_id])
    returned = sum(map(len, events.values()))
    return f"{returned} events and {len(saves)} agents as returned, {under_way} more under way"


def _until_stored(
    pipeline: Runner, identity: Identity, returned: set[str], saves: dict[str, int]
) -> set[str]:
    deadline = time.monotonic() + 60
    while True:
        query = BY_SOURCE.query({"source_agent_id": identity.agent_id})
        stored = [each.data["event_id"] for each in pipeline.store.query(query)]
        state = pipeline.store.read(identity.state_path)
        memory = pipeline.store.read(memory_path(identity.agent_type, identity.agent_id))
        with suppress(AssertionError, KeyError, AttributeError):
            assert returned <= set(stored)
            assert len(stored) == len(set(stored))
            assert _field(state, "performance_metrics")["number"] == saves[identity.agent_id]
            counted = _field(memory, "learning_context")["coordination"]["total"]
            assert counted == len(stored)
            return set(stored)
        assert time.monotonic() < deadline, (
            f"{identity}: {len(returned - set(stored))} of {len(returned)} events are missing, "
            f"stored {state and state.data.get('performance_metrics')}, saved {saves}"
        )
        time.sleep(0.2)


def _field(document: Any, name: str) -> Any:
    return document.data[name]
