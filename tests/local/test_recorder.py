"""What the adapters share, on a StateManager in memory."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from firestate.adapters.failures import Failure
from firestate.adapters.recorder import Recorder
from firestate.agents.manager import StateManager
from firestate.schema.sanitize import id_text

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


def test_a_failed_tool_is_counted_by_its_error(manager: StateManager) -> None:
    """Beside the event of the error, which counts by itself."""
    recorder = Recorder(manager, "s")
    run = recorder.begin(recorder.session(), "a")
    run.begin_tool("c1", "one")
    run.end_tool("c1", TimeoutError("slow"))
    run.end()
    manager.settle()
    counts = manager.system().value.error_counts
    assert counts["by_task_error_type"] == {"TimeoutError": 1}
    assert counts["by_error_type"] == {"TimeoutError": 1}


def test_sessions_whose_names_are_made_fit_alike_are_two(manager: StateManager) -> None:
    """What an id cannot hold is replaced, and a digest tells the names apart."""
    recorder = Recorder(manager)
    for name in ("tenant/a", "tenant-a", "", "-", "\ud800", "\ud801"):
        recorder.begin(recorder.session(name), "a").end()
    manager.settle()
    assert manager.system().value.total_agents_spawned == 6


def test_a_session_stored_by_an_earlier_release_under_its_plain_name_goes_on(
    manager: StateManager,
) -> None:
    """`a/b` was stored as `a-b`: it is taken along, once, by whoever comes first."""
    manager.start("a", "a", "tenant-b").remember("fact", 1)
    recorder = Recorder(manager)
    recorder.begin(recorder.session("tenant/b"), "a").end()
    assert state(manager, "a", id_text("tenant/b")).memory_context["fact"] == 1
    other = recorder.session("x", former="tenant-b")
    recorder.begin(other, "a").end()
    assert "fact" not in state(manager, "a", "x").memory_context


def test_of_a_session_of_an_earlier_release_all_agents_go_on_together(
    manager: StateManager,
) -> None:
    """Not one agent with one user, another one with the next."""
    for name in ("root", "billing"):
        manager.start(name, name, "main").remember("fact", {"of": name})
    alice, bob = Recorder(manager), Recorder(manager)
    first = alice.session("shop:alice:main", former="main")
    second = bob.session("shop:bob:main", former="main")
    alice.begin(first, "root").end()
    bob.begin(second, "billing").end()
    alice.begin(first, "billing").end()
    assert "fact" in state(manager, "root", "shop:alice:main").memory_context
    assert "fact" in state(manager, "billing", "shop:alice:main").memory_context
    assert "fact" not in state(manager, "billing", "shop:bob:main").memory_context


@pytest.mark.parametrize("given", ["7", 7, 0, 1.5, "", "a/b", "\ud800", UUID(int=1)])
def test_a_session_of_any_name_goes_on(manager: StateManager, given: object) -> None:
    """Frameworks name sessions as they like: each is recorded as text, and found again."""
    for _ in range(2):
        recorder = Recorder(manager)
        recorder.begin(recorder.session(given), "a").end()
    manager.settle()
    assert manager.system().value.total_agents_spawned == 1


def test_names_that_are_made_fit_alike_are_one_agent(manager: StateManager) -> None:
    """Two handles of one stored agent would fence each other off."""
    recorder = Recorder(manager, "s")
    one, other = (recorder.begin(recorder.session(), name) for name in ("a/b", "a-b"))
    one.end()
    other.end()
    assert state(manager, "a-b", "s").status == "idle"
    assert len(events(manager, "error")) == 0


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
    handoffs = events(manager, "handoff")
    assert [(event.success, event.cancelled) for event in handoffs] == [(False, True)]
    assert manager.success_rates().value.by_type["handoff"].total == 0
    assert manager.system().value.error_counts["by_event_type"] == {}


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
    found = state(manager, "child", id_text("s/1"))
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
