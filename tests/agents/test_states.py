"""Agents and their states: the same on the cloud engine, the local engine, and in memory."""

from __future__ import annotations

import asyncio
import copy
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from firestate import StateManager
from firestate.agents.clean_up import CleanUp
from firestate.errors import FencedError, InvalidMessageError, UnknownSessionError
from firestate.queries import CURRENT_STATUSES
from firestate.schema.enums import AgentStatus
from firestate.schema.ids import Identity
from firestate.schema.models import AgentState
from firestate.stored_states import identity_in
from tests.agents.environments import Environment, eventually, value
from tests.harness import state_message


@pytest.fixture
def manager(here: Environment) -> StateManager:
    assert here.ours is not None
    return here.ours


def test_what_is_saved_is_read_at_once_and_is_stored_soon(
    here: Environment, manager: StateManager
) -> None:
    agent = manager.start("Developer", here.agent("a"), tools_enabled=["editor"])
    agent.update(status="busy", current_task="t1", task_status="in_progress")
    read = value(manager.load("Developer", here.agent("a")))
    assert read == agent.state
    assert (read.status, read.current_task, read.tools_enabled) == ("busy", "t1", ["editor"])
    eventually(lambda: here.stored(agent.identity.state_path).get("status") == "busy")
    assert value(manager.load("Developer", here.agent("a"))) == read


def test_each_call_that_changes_something_is_one_later_version(
    here: Environment, manager: StateManager
) -> None:
    agent = manager.start("Developer", here.agent("a"))
    agent.remember("style", {"type": "fact", "importance": 0.7}).measure(tokens=12).save()
    agent.forget("style").remember("other", "words")
    assert manager.settle()
    path = agent.identity.state_path
    eventually(lambda: "other" in here.stored(path).get("memory_context", {}))
    stored = here.stored(path)
    assert stored["revision"] == 6
    assert stored["performance_metrics"] == {"tokens": 12}
    assert stored["memory_context"] == {"other": "words"}


def test_of_two_keys_that_are_one_in_json_the_later_stays(
    here: Environment, manager: StateManager
) -> None:
    agent = manager.start("Developer", here.agent("a"))
    agent.update(memory_context={"map": {1: "former", "1": "later"}})
    assert value(manager.load(*agent.identity)).memory_context == {"map": {"1": "later"}}
    path = agent.identity.state_path
    eventually(lambda: here.stored(path).get("memory_context") == {"map": {"1": "later"}})


def test_a_task_counts_once_as_it_ended(here: Environment, manager: StateManager) -> None:
    agent = manager.start("Developer", here.agent("a"))
    with agent.task("t1", "code", tool="editor") as notes:
        assert agent.state.status == "busy"
        notes["lines"] = 12
    with pytest.raises(ZeroDivisionError), agent.task("t2", "review"):
        1 / 0  # noqa: B018 - it raises
    agent.begin_task("t3", "code").end_task("t3", "cancelled")
    agent.end_task("t4", kind="code")
    history = agent.state.task_history
    assert [(e["task_id"], e["status"]) for e in history] == [
        ("t1", "completed"),
        ("t2", "failed"),
        ("t3", "cancelled"),
        ("t4", "completed"),
    ]
    assert history[0]["lines"] == 12
    assert "ZeroDivisionError" in history[1]["error"]
    assert agent.state.status == "active"
    learned = eventually(
        lambda: (found := manager.learned("Developer", here.agent("a")).value).decisions and found
    )
    eventually(lambda: len(manager.learned("Developer", here.agent("a")).value.decisions) == 4)
    learned = value(manager.learned("Developer", here.agent("a")))
    assert {k.name: (k.tries, k.successes) for k in learned.kinds} == {
        "code": (2, 2),
        "review": (1, 0),
    }
    assert learned.best_kind.name == "code"
    assert learned.worst_kind.name == "review"
    assert learned.best_tool.name == "editor"
    assert [d["id"] for d in learned.past_decisions("review")] == ["t2"]
    assert "'code': 2 of 2 tries succeeded" in learned.as_prompt("code")
    together = value(manager.learned_by_type("Developer"))
    assert together.agents >= 1
    assert any(d["agent_id"] == here.agent("a") for d in together.decisions)


def test_agents_are_listed_by_session_type_and_parent(
    here: Environment, manager: StateManager
) -> None:
    father = manager.start("Father", here.agent("f"))
    dev = father.spawn("Developer", here.agent("d"))
    other = father.spawn("QA", here.agent("q"), session_id=f"own-{here.run}")
    session = father.identity.session_id

    def ids(**wanted: Any) -> set[str]:
        return {each.agent_id for each in value(manager.active(**wanted))}

    assert ids(session_id=session) == {here.agent("f"), here.agent("d")}
    assert ids(parent_agent_id=here.agent("f")) == {here.agent("d"), here.agent("q")}
    assert here.agent("q") in ids(agent_type="QA")
    assert {here.agent("f"), here.agent("d"), here.agent("q")} <= ids(limit=10_000)
    assert father.state.child_agent_ids == [here.agent("d"), here.agent("q")]
    assert dev.state.parent_agent_id == here.agent("f")
    other.terminate()
    assert ids(parent_agent_id=here.agent("f")) == {here.agent("d")}
    eventually(lambda: here.stored(other.identity.state_path).get("status") == "terminated")
    assert ids(parent_agent_id=here.agent("f")) == {here.agent("d")}


def test_a_resumed_agent_carries_on_and_its_former_session_ends(
    here: Environment, manager: StateManager
) -> None:
    first = manager.start("Developer", here.agent("a"), agent_config={"model": "m"})
    with first.task("t1", "code"):
        pass
    first.remember("style", {"type": "fact"}).measure(tokens=5)
    manager.flush()
    eventually(lambda: here.stored(first.identity.state_path).get("performance_metrics"))
    second = here.open().resume("Developer", here.agent("a"))
    assert second.fresh
    assert second.identity.session_id != first.identity.session_id
    state = second.state
    assert [e["task_id"] for e in state.task_history] == ["t1"]
    assert state.task_history[0]["session_id"] == first.identity.session_id
    assert state.memory_context == {
        "style": {"type": "fact", "session_id": first.identity.session_id}
    }
    assert state.performance_metrics == {"tokens": 5}
    assert state.agent_config == {"model": "m"}
    eventually(lambda: first.fenced)
    with pytest.raises(FencedError, match="fenced off"):
        first.save()
    old = first.identity.state_path
    eventually(lambda: here.stored(old).get("status") == "terminated")
    resumed_as = here.stored(old)["collaboration_context"]["resumed_as"]
    assert resumed_as == second.identity.session_id
    newest = eventually(lambda: manager.load("Developer", here.agent("a")).value)
    assert newest.session_id == second.identity.session_id


def test_an_agent_that_never_was_begins_when_it_is_resumed(
    here: Environment, manager: StateManager
) -> None:
    agent = manager.resume("Developer", here.agent("new"))
    assert agent.fresh
    assert agent.state.task_history == []


def test_a_session_is_taken_up_as_it_was_and_its_former_folder_learns_so(
    here: Environment, manager: StateManager
) -> None:
    told: list[Any] = []
    first = manager.start("Developer", here.agent("a"))
    first.on_fenced(told.append)
    first.remember("k", 1)
    manager.flush()
    path = first.identity.state_path
    eventually(lambda: here.stored(path).get("memory_context"))
    second = here.open().take_up(*first.identity)
    assert second.state.memory_context == {"k": 1}
    if here.name == "cloud":
        assert second.epoch > first.epoch
        eventually(lambda: told == [first])
        with pytest.raises(FencedError):
            first.remember("k", 2)
    else:
        assert first.remember("k", 2).state == second.state, "one folder shares a session"
        assert told == []
    second.remember("k", 3)
    eventually(lambda: here.stored(path)["memory_context"] == {"k": 3})


def test_a_session_that_is_not_there_is_not_taken_up(
    here: Environment, manager: StateManager
) -> None:
    with pytest.raises(UnknownSessionError, match="there is no session"):
        manager.take_up("Developer", here.agent("a"), "none")


def test_whole_states_are_saved_as_they_are_given(here: Environment, manager: StateManager) -> None:
    given = state_message(1, agent_id=here.agent("a"))["state"]
    agent = manager.save(given)
    assert agent.state == AgentState.model_validate(given)
    manager.save(agent.state.model_copy(update={"status": AgentStatus.BUSY}))
    assert value(manager.load("Developer", here.agent("a"), "s1")).status == "busy"
    with pytest.raises(InvalidMessageError, match=r"agent_id: .*status: "):
        manager.save({"session_id": "s", "agent_type": "Developer"})


def test_a_deleted_state_is_gone_and_stays_counted(
    here: Environment, manager: StateManager
) -> None:
    agent = manager.start("Developer", here.agent("a"))
    manager.flush()
    eventually(lambda: here.store.read(agent.identity.state_path))
    agent.delete()
    assert value(manager.load(*agent.identity)) is None
    assert value(manager.load("Developer", here.agent("a"))) is None
    other = manager.start("Developer", here.agent("b"))
    manager.delete(*other.identity)
    with pytest.raises(UnknownSessionError, match="was deleted"):
        other.save()
    manager.settle()
    paths = [agent.identity.state_path, other.identity.state_path]
    eventually(lambda: all(here.stored(path).get("deleted") for path in paths))


def _save_as_of(
    here: Environment, manager: StateManager, name: str, *, days: float, status: str
) -> Identity:
    """Save a state that was last active days ago; return whose it is."""
    at = (datetime.now(UTC) - timedelta(days=days)).isoformat()
    fields = {"agent_id": here.agent(name), "status": status, "last_active": at}
    return manager.save(state_message(1)["state"] | fields).identity


def test_what_has_ended_days_ago_is_cleaned_up_and_what_lives_is_not(
    here: Environment, manager: StateManager
) -> None:
    old = _save_as_of(here, manager, "old", days=9, status="terminated")
    stay = [
        _save_as_of(here, manager, "new", days=1, status="terminated"),
        *(_save_as_of(here, manager, status, days=9, status=status) for status in CURRENT_STATUSES),
    ]
    cleaned = value(manager.clean_up(days=7))
    assert old in cleaned.sessions
    assert not set(stay) & set(cleaned.sessions)
    assert cleaned == len(cleaned.sessions)
    assert value(manager.load(*old)) is None
    assert all(value(manager.load(*each)) is not None for each in stay)
    manager.settle()
    eventually(lambda: here.stored(old.state_path).get("deleted"))
    assert not [each for each in stay if here.stored(each.state_path).get("deleted")]


def test_a_dry_run_says_what_would_be_deleted_and_deletes_nothing(
    here: Environment, manager: StateManager
) -> None:
    old = _save_as_of(here, manager, "old", days=9, status="terminated")
    would = value(manager.clean_up(days=7, dry_run=True))
    assert old in would.sessions
    assert value(manager.load(*old)) is not None
    assert value(manager.clean_up(days=7)) == would
    assert value(manager.clean_up(days=7, dry_run=True)) == 0


def test_what_is_taken_up_while_it_is_cleaned_up_lives(
    here: Environment, manager: StateManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = _save_as_of(here, manager, "old", days=9, status="terminated")
    manager.flush()
    eventually(lambda: here.stored(old.state_path))
    other = here.open()

    def taken_up_first(document: dict[str, Any]) -> Identity | None:
        if identity_in(document) == old:
            other.take_up(*old)
        return identity_in(document)

    monkeypatch.setattr("firestate.agents.manager.identity_in", taken_up_first)
    manager.clean_up(days=7)
    assert manager.flush()
    assert other.flush()
    here.wait_quiet()
    assert value(other.load(*old)).status == "active"
    eventually(lambda: here.stored(old.state_path).get("status") == "active")


@pytest.mark.parametrize("days", [0, -1, 1e9, float("nan"), float("inf"), True, "7", None])
def test_no_age_is_cleaned_up(days: Any) -> None:
    with StateManager.in_memory() as manager:
        ended = manager.start("Developer", "a").terminate()
        with pytest.raises(InvalidMessageError, match="days: must be a number of days, more than"):
            manager.clean_up(days)
        assert value(manager.load(*ended.identity)) is not None


def test_what_was_cleaned_up_can_be_copied() -> None:
    cleaned = CleanUp([Identity("QA", "a", "s"), Identity("QA", "b", "s")])
    for copied in (copy.copy(cleaned), pickle.loads(pickle.dumps(cleaned))):  # noqa: S301 - our own
        assert (copied, copied.sessions) == (2, cleaned.sessions)


def test_asyncio_code_makes_the_same_calls(here: Environment, manager: StateManager) -> None:
    async def work() -> None:
        agent = manager.start("Developer", here.agent("a"))
        with agent.task("t1", "code"):
            await asyncio.sleep(0)
        read = await manager.load.aio("Developer", here.agent("a"))
        assert value(read).task_history[0]["task_id"] == "t1"
        active = await manager.active.aio(session_id=agent.identity.session_id)
        assert [each.agent_id for each in value(active)] == [here.agent("a")]
        again = await manager.resume.aio("Developer", here.agent("a"))
        assert again.state.task_history[0]["task_id"] == "t1"

    asyncio.run(work())
