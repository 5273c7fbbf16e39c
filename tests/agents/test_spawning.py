"""Spawning: a child, its event and its place in the list are one, however often it is asked for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from firestate import StateManager
from firestate.outbox.file import Outbox
from firestate.schema.ids import Identity
from tests.agents.environments import value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from firestate.agents.agent import Agent
    from firestate.outbox.entries import NewEntry


@pytest.fixture(params=["memory", "file"])
def manager(
    request: pytest.FixtureRequest, on_disk: Callable[[], StateManager]
) -> Iterator[StateManager]:
    if request.param == "file":
        yield on_disk()
    else:
        with StateManager.in_memory(snapshot_interval_seconds=0.0) as made:
            yield made


@pytest.fixture
def puts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[NewEntry, ...]]:
    """Note what each call of `Outbox.put` has kept."""
    noted: list[tuple[NewEntry, ...]] = []
    real = Outbox.put

    def put(outbox: Outbox, *entries: NewEntry) -> bool:
        is_kept = real(outbox, *entries)
        if is_kept:
            noted.append(entries)
        return is_kept

    monkeypatch.setattr(Outbox, "put", put)
    return noted


def spawns(manager: StateManager) -> list[tuple[str | None, str | None]]:
    found = value(manager.events(event_type="spawn", limit=1_000))
    return [(each.target_agent_type, each.target_agent_id) for each in found]


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if "is there already" in each.getMessage()]


def knowing(child: Agent) -> Agent:
    return child.remember("k", {"v": 1}).update(agent_config={"model": "m"})


def knows(child: Agent) -> bool:
    state = child.state
    memory: Any = state.memory_context.get("k")
    return bool(memory and memory["v"] == 1 and state.agent_config == {"model": "m"})


def test_a_child_of_this_process_is_taken_up(
    manager: StateManager, caplog: pytest.LogCaptureFixture
) -> None:
    father = manager.start("Father", "f", "s1")
    child = knowing(father.spawn("Dev", "d", agent_config={"model": "first"}))
    again = father.spawn("Dev", "d", agent_config={"model": "other"}, context={"why": "again"})
    assert again is child, "nobody is fenced off"
    assert knows(again), "and what was given is not looked at"
    assert warned(caplog) == [
        f"{child.identity.state_path} is there already: it was taken up, not spawned"
    ]
    assert spawns(manager) == [("Dev", "d")]
    assert father.state.child_agent_ids == ["d"]


@pytest.mark.parametrize("ends", ["closed", "crashed"])
def test_a_child_of_a_former_process_is_taken_up(
    on_disk: Callable[[], StateManager], caplog: pytest.LogCaptureFixture, ends: str
) -> None:
    first = on_disk()
    father = first.start("Father", "f", "s1")
    child = knowing(father.spawn("Dev", "d"))
    if ends == "closed":
        first.close()
    second = on_disk()
    again = second.take_up("Father", "f", "s1").spawn("Dev", "d")
    assert again.identity == child.identity
    assert knows(again)
    assert len(warned(caplog)) == 1
    assert spawns(second) == [("Dev", "d")]
    again.remember("more", 2)
    assert second.flush()
    assert knows(again)
    state = value(second.load(*again.identity))
    assert (state.parent_agent_id, state.memory_context["more"]) == ("f", 2)
    assert second.settle()
    assert value(second.system()).total_agents_spawned == 2


def test_a_child_that_has_ended_is_taken_up_and_is_active(
    manager: StateManager, caplog: pytest.LogCaptureFixture
) -> None:
    father = manager.start("Father", "f", "s1")
    knowing(father.spawn("Dev", "d")).terminate()
    assert father.save().state.child_agent_ids == []
    again = father.spawn("Dev", "d")
    assert knows(again)
    assert again.state.status == "active"
    assert father.state.child_agent_ids == ["d"]
    assert len(warned(caplog)) == 1
    assert spawns(manager) == [("Dev", "d")]
    again.begin_task("t1", "code")


def test_a_deleted_child_is_spawned_anew(
    manager: StateManager, caplog: pytest.LogCaptureFixture
) -> None:
    father = manager.start("Father", "f", "s1")
    knowing(father.spawn("Dev", "d")).delete()
    again = father.spawn("Dev", "d")
    assert again.state.memory_context == {}
    assert again.state.status == "idle", "as one that begins"
    assert warned(caplog) == []
    assert spawns(manager) == [("Dev", "d")] * 2
    assert father.state.child_agent_ids == ["d"]
    again.remember("k", 1)
    assert manager.flush()
    assert value(manager.load(*again.identity)).memory_context == {"k": 1}


def test_a_child_deleted_by_a_former_process_is_spawned_anew(
    on_disk: Callable[[], StateManager], caplog: pytest.LogCaptureFixture
) -> None:
    first = on_disk()
    knowing(first.start("Father", "f", "s1").spawn("Dev", "d")).delete()
    first.close()
    second = on_disk()
    again = second.take_up("Father", "f", "s1").spawn("Dev", "d")
    assert again.state.memory_context == {}
    assert warned(caplog) == []
    assert second.settle()
    assert value(second.load(*again.identity)).status == "idle"
    assert spawns(second) == [("Dev", "d")] * 2


def test_another_type_session_or_id_is_another_child(
    manager: StateManager, caplog: pytest.LogCaptureFixture
) -> None:
    father = manager.start("Father", "f", "s1")
    knowing(father.spawn("Dev", "d"))
    others = [
        father.spawn("QA", "d"),
        father.spawn("Dev", "d", session_id="own"),
        father.spawn("Dev", "e"),
    ]
    assert [each.state.memory_context for each in others] == [{}] * 3
    assert warned(caplog) == []
    assert len(spawns(manager)) == 4


def test_the_child_its_event_and_its_place_in_the_list_are_one_put(
    manager: StateManager, puts: list[tuple[NewEntry, ...]]
) -> None:
    father = manager.start("Father", "f", "s1")
    for each in ("d", "e"):
        puts.clear()
        child = father.spawn("Dev", each)
        (entries,) = puts
        documents = [entry.document for entry in entries]
        assert documents[:3] == [father.identity.state_path, *[child.identity.state_path] * 2]
        assert [entry.kind for entry in entries] == ["change", "expected", "snapshot", "event"]
    puts.clear()
    father.spawn("Dev", "d")
    assert all(entry.order is not None for entries in puts for entry in entries), "no event"


def test_a_spawn_that_misses_since_its_parent_has_moved_is_made_again_whole(
    manager: StateManager, puts: list[tuple[NewEntry, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    father = manager.start("Father", "f", "s1")
    real, moved = Outbox.put, list[int]()

    def put(outbox: Outbox, *entries: NewEntry) -> bool:
        if len(entries) > 1 and not moved:
            moved.append(1)
            father.remember("k", 1)  # as another thread does, or a signal handler
        return real(outbox, *entries)

    monkeypatch.setattr(Outbox, "put", put)
    puts.clear()
    child = father.spawn("Dev", "d")
    assert [len(entries) for entries in puts] == [1, 4]
    assert father.state.child_agent_ids == ["d"]
    assert father.state.memory_context == {"k": 1}
    assert spawns(manager) == [("Dev", "d")]
    assert child.remember("own", 2).state.memory_context == {"own": 2}


def test_threads_that_save_one_agent_lose_nothing_and_each_call_is_one_revision(
    manager: StateManager, puts: list[tuple[NewEntry, ...]]
) -> None:
    agent = manager.start("Dev", "d", "s1")
    threads, calls = 8, 12
    faults: list[BaseException] = []

    def work(name: int) -> None:
        try:
            for number in range(calls):
                agent.remember(f"{name}-{number}", number)
                with agent.task(f"{name}-{number}", "code"):
                    agent.save()
        except BaseException as error:  # noqa: BLE001 - told to the test
            faults.append(error)

    running = [threading.Thread(target=work, args=(name,)) for name in range(threads)]
    for each in running:
        each.start()
    for each in running:
        each.join(30)
    assert faults == []
    state = agent.state
    names = {f"{name}-{number}" for name in range(threads) for number in range(calls)}
    assert state.memory_context.keys() == names
    assert {entry["task_id"] for entry in state.task_history} == names
    assert {entry["status"] for entry in state.task_history} == {"completed"}
    saved = [e for entries in puts for e in entries if e.kind in {"snapshot", "change"}]
    orders = [e.order for e in saved if e.document == agent.identity.state_path]
    revisions = sorted(order[1] for order in orders if order is not None)
    assert revisions == list(range(1, 2 + threads * calls * 4))
    assert manager.flush()
    stored = value(manager.load(*agent.identity))
    assert stored.memory_context == state.memory_context
    assert stored.task_history == state.task_history


def test_a_child_asked_for_many_times_has_one_event(
    manager: StateManager, caplog: pytest.LogCaptureFixture
) -> None:
    father = manager.start("Father", "f", "s1")
    made = [father.spawn("Dev", "d") for _ in range(5)]
    assert len(set(map(id, made))) == 1
    assert len(warned(caplog)) == 4
    assert spawns(manager) == [("Dev", "d")]
    assert made[0].identity == Identity("Dev", "d", "s1")


def test_a_child_of_a_resumed_parent_takes_along_what_it_had(
    on_disk: Callable[[], StateManager],
) -> None:
    """A program that spawns by fixed ids is run again."""
    for run in range(3):
        manager = on_disk()
        child = manager.resume("Father", "f").spawn("Dev", "d")
        assert [each["task_id"] for each in child.state.task_history] == [
            f"t{number}" for number in range(run)
        ]
        with child.task(f"t{run}", "code"):
            pass
        assert manager.settle()
        assert value(manager.system()).current_agent_count == 2
        assert value(manager.system()).system_metrics["tasks"]["completed"] == run + 1
        manager.close()


def test_nothing_is_read_for_a_child_that_a_resumed_parent_does_not_list(
    on_disk: Callable[[], StateManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = on_disk()
    manager.start("Father", "f")
    father = manager.resume("Father", "f")
    reader = type(manager._reader)
    monkeypatch.setattr(reader, "ask", lambda *_: pytest.fail("it was read"))
    assert father.spawn("Dev", "new").state.task_history == []
