"""What the adapters share, on a StateManager in memory."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from firestate.adapters.failures import Failure
from firestate.adapters.recorder import Recorder
from firestate.agents.manager import StateManager

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firestate.schema.models import AgentState, CoordinationEvent


@pytest.fixture
def manager() -> Iterator[StateManager]:
    with StateManager.in_memory(snapshot_interval_seconds=0.05) as manager:
        yield manager


def state(manager: StateManager, name: str, session: str) -> AgentState:
    manager.settle()
    found = manager.load(name, name, session).value
    assert found is not None
    return found


def events(manager: StateManager, event_type: str) -> list[CoordinationEvent]:
    manager.settle()
    return manager.events(event_type=event_type, limit=1_000).value


def test_it_is_busy_while_any_of_its_runs_is(manager: StateManager) -> None:
    recorder = Recorder(manager, "s")
    session = recorder.session()
    one, other = recorder.begin(session, "a"), recorder.begin(session, "a")
    one.begin_tool("c1", "look_up")
    one.end_tool("c1")
    assert state(manager, "a", "s").status == "busy"
    one.fail(ValueError("no"))
    assert state(manager, "a", "s").status == "busy"
    other.end()
    assert state(manager, "a", "s").status == "error"
    recorder.begin(session, "a").end()
    assert state(manager, "a", "s").status == "idle"


def test_an_end_is_told_of_once(manager: StateManager) -> None:
    recorder = Recorder(manager, "s")
    run = recorder.begin(recorder.session(), "b", sources=["a", "b"])
    run.end()
    run.fail(ValueError("late"))
    run.end()
    run.end_tool("never begun")
    assert [event.success for event in events(manager, "handoff")] == [True]
    assert state(manager, "b", "s").status == "idle"


def test_one_exception_is_one_error(manager: StateManager) -> None:
    """On its way from a tool through agents that are in one another."""
    recorder = Recorder(manager, "s")
    outer = recorder.begin(recorder.session(), "outer")
    inner = recorder.begin(recorder.session(), "inner", parents=["outer"], sources=["outer"])
    error = LookupError("lost \ud800")
    inner.begin_tool("c", "look_up")
    inner.end_tool("c", error)
    inner.fail(error)
    outer.fail(error)
    (event,) = events(manager, "error")
    assert event.source_agent_id == "inner"
    assert event.context == {"error_type": "LookupError", "tool": "look_up"}
    assert event.error_message == r"LookupError: lost \ud800"
    assert {state(manager, name, "s").status for name in ("inner", "outer")} == {"error"}
    (handoff,) = events(manager, "handoff")
    assert not handoff.success


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt()])
def test_to_be_broken_off_is_no_error(manager: StateManager, error: BaseException) -> None:
    recorder = Recorder(manager, "s")
    run = recorder.begin(recorder.session(), "a", sources=["b"])
    run.begin_tool("c1", "one")
    run.begin_tool("c2", "two")
    run.end_tool("c1", error)
    run.fail(error)
    found = state(manager, "a", "s")
    assert found.status == "idle"
    assert [task["status"] for task in found.task_history] == ["cancelled", "cancelled"]
    assert not events(manager, "error")
    assert [event.success for event in events(manager, "handoff")] == [False]


def test_a_session_of_its_own_ends_with_it(manager: StateManager) -> None:
    recorder = Recorder(manager)
    session = recorder.session(own="run-1")
    recorder.begin(session, "a").end()
    recorder.begin(session, "b").fail(Failure("Timeout", "too slow"))
    late = recorder.begin(session, "c")
    recorder.close(session)
    assert state(manager, "a", "run-1").status == "terminated"
    assert state(manager, "b", "run-1").status == "error"
    assert state(manager, "c", "run-1").status == "busy"
    late.end()
    assert state(manager, "c", "run-1").status == "terminated"
    assert {event.source_agent_id for event in events(manager, "termination")} == {"a", "c"}


def test_a_named_session_goes_on(manager: StateManager) -> None:
    """Who takes it up fences off whoever had it; that one takes it up again with its next run."""
    first, second = Recorder(manager, "s/1"), Recorder(manager)
    here, there = first.session("other"), second.session("s/1")
    first.begin(here, "child", parents=["parent"]).end()
    again = second.begin(there, "child", parents=["parent"])
    again.begin_tool("c", "tool")
    again.end_tool("c")
    again.end()
    first.close(here)
    first.begin(here, "child", parents=["parent"]).end()
    found = state(manager, "child", "s-1")
    assert found.status == "idle"
    assert [task["tool"] for task in found.task_history] == ["tool"]
    assert found.parent_agent_id == "parent"
    assert len(events(manager, "spawn")) == 1


def test_its_own_trouble_stays_its_own(caplog: pytest.LogCaptureFixture) -> None:
    manager = StateManager.in_memory()
    recorder = Recorder(manager)
    session = recorder.session()
    before = recorder.begin(session, "a")
    manager.close()
    caplog.clear()
    with caplog.at_level(logging.ERROR, "firestate.adapters"):
        for run in (before, recorder.begin(session, "b", parents=["a"], sources=["a"])):
            run.begin_tool("c", "tool")
            run.end_tool("c", ValueError("no"))
            run.record_error(ValueError("no"))
            run.fail(ValueError("no"))
        recorder.make(session, "c")
        recorder.close(session)
    ours = [each for each in caplog.records if each.name == "firestate.adapters"]
    assert len(ours) == len({type(each.exc_info[1]) for each in ours if each.exc_info}) > 0


def test_many_threads(manager: StateManager) -> None:
    recorder = Recorder(manager, "s")
    session, rounds, threads = recorder.session(), 10, 6

    def work(number: int) -> None:
        for each in range(rounds):
            run = recorder.begin(session, f"w{each % 3}", parents=["lead"], sources=["lead"])
            run.begin_tool(f"{number}-{each}", "tool")
            run.end_tool(f"{number}-{each}")
            run.end()

    workers: list[Any] = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = [state(manager, f"w{n}", "s") for n in range(3)]
    assert {each.status for each in found} == {"idle"}
    assert sum(len(each.task_history) for each in found) == rounds * threads
    assert len(events(manager, "handoff")) == rounds * threads
    assert sorted(event.target_agent_id or "" for event in events(manager, "spawn")) == [
        "w0",
        "w1",
        "w2",
    ]


def test_of_many_lasting_sessions_only_some_are_held(
    manager: StateManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those let go are taken up again when they are needed, with what they had."""
    monkeypatch.setattr("firestate.adapters.recorder._MOST_HELD", 10)
    monkeypatch.setattr("firestate.adapters.recorder._FEWER", 5)
    recorder = Recorder(manager)
    running = recorder.begin(recorder.session("running"), "a")
    for number in range(30):
        run = recorder.begin(recorder.session(f"chat-{number}"), "a")
        run.begin_tool("c", "look_up")
        run.end_tool("c")
        run.end()
    assert len(recorder._held) <= 10
    assert len(manager._registry._held) <= 10
    running.end()
    again = recorder.begin(recorder.session("chat-0"), "a")
    assert again.held is not None
    assert [task["task_id"] for task in again.held.agent.state.task_history] == ["c"]
    again.end()
