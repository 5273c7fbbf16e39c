"""Who is who: ids that join alike, and ids that are no texts, in every world of an agent."""

from __future__ import annotations

from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from firestate.agents.manager import StateManager
from firestate.audit.full import FullAudit
from firestate.errors import FencedError, InvalidMessageError
from tests.agents.environments import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate.agents.backends.document_watch import Change
    from tests.agents.environments import Environment


@pytest.fixture
def manager(here: Environment) -> StateManager:
    return here.open()


ALIKE = [
    ("QA", "red_team", "lead_7"),
    ("QA", "red", "team_lead_7"),
    ("QA", "red_team_lead", "7"),
    ("QA", "red_team", "lead_7~8"),
    ("QA", "red_team_lead", "7~8"),
    ("QA", "x_session", "1"),
    ("QA", "x", "session_1"),
]
"""In sets, their ids join to the same text, or to the id of another."""


def busy_in(changes: list[Change]) -> list[Change]:
    return [each for each in changes if each.data and each.data["status"] == "busy"]


def test_agents_whose_ids_join_alike_are_nothing_to_each_other(
    here: Environment, manager: StateManager
) -> None:
    """Each is saved, read, watched, taken up and deleted by itself; none fences another."""
    seen: dict[tuple[str, str, str], list[Change]] = {}
    agents = {}
    for kind, name, session in ALIKE:
        who = (f"{kind}{here.run}", name, session)
        agents[who] = manager.start(*who)
        agents[who].remember("own", {"text": "/".join(who)})
        watch = manager.watch(*who, seen.setdefault(who, []).append)
        eventually(partial(getattr, watch, "is_current"))
    for who, agent in agents.items():
        agent.update(status="busy")
        assert not agent.fenced
        state = manager.load(*who).value
        assert state is not None
        assert state.memory_context["own"]["text"] == "/".join(who)
    for who, changes in seen.items():
        eventually(partial(busy_in, changes))
        assert {(x.data["agent_id"], x.data["session_id"]) for x in changes if x.data} == {who[1:]}
    assert manager.flush(30)
    other = here.open()
    first, *rest = agents
    other.take_up(*first).update(status="active")
    if here.name == "cloud":
        eventually(lambda: agents[first].fenced)
        with pytest.raises(FencedError):
            agents[first].save()
    else:
        assert agents[first].state.status == "active", "one folder shares a session"
    for each in rest:
        assert not agents[each].save().fenced
    manager.delete(*rest[0])
    assert manager.load(*rest[0]).value is None
    assert all(manager.load(*who).value is not None for who in agents if who != rest[0])


def test_fleets_of_such_agents_are_counted_exactly(tmp_path: Any) -> None:
    """After spawns, tasks, hand-overs and ends the audit finds 0 drift."""
    with StateManager(project="", folder=tmp_path) as manager:
        father = manager.start("Father", "f_1", "session_s_1")
        for number, (kind, name, session) in enumerate(ALIKE * 2):
            child = father.spawn(kind, name, session_id=f"{session}{number % 2}")
            with child.task("t", "code"), father.handoff(child):
                pass
            if number % 3 == 0:
                child.terminate()
        manager.settle()
        store = manager._runtime.backend.store()
        report = FullAudit(store).run()
        assert report.findings == []
        assert (report.states, report.at_former_paths) == (15, 0)
        assert manager.system().value.total_agents_spawned == 15


class Name(str, Enum):  # noqa: UP042 - as frameworks define them on Python 3.10
    """An enum whose members are texts."""

    ONE = "one"


@pytest.mark.parametrize(
    ("given", "text"),
    [(7, "7"), (0, "0"), (1.5, "1.5"), (UUID(int=3), str(UUID(int=3))), (Name.ONE, "one")],
)
def test_ids_that_are_no_texts_are_recorded_as_text(given: Any, text: str) -> None:
    """Whatever call names them, they are found by either."""
    with StateManager.in_memory() as manager:
        agent = manager.start("QA", given, given)
        assert agent.identity == ("QA", text, text)
        child = agent.spawn("Dev", given, session_id=given)
        assert child.identity == ("Dev", text, text)
        agent.handed_off(("Dev", given))
        manager.settle()
        for name in (given, text):
            state = manager.load("QA", name, name).value
            assert state is not None
            assert manager.load("QA", name).value is not None
            assert len(manager.active(session_id=name).value) == 2
            assert len(manager.children("QA", name, name).value) == 1
            assert len(manager.events(agent_id=name).value) == 2
            assert manager.learned("QA", name).value.sessions == 1
            assert manager.take_up("QA", name, name).identity == agent.identity
        assert manager.resume("QA", given).identity.agent_id == text
        manager.delete("Dev", given, given)
        assert manager.load("Dev", text, text).value is None


CALLS: list[tuple[str, Callable[[StateManager, Any], Any], str]] = [
    ("start", lambda m, bad: m.start("QA", bad), "agent_id"),
    ("start", lambda m, bad: m.start("QA", "a", bad), "session_id"),
    ("start", lambda m, bad: m.start(bad, "a"), "agent_type"),
    ("take_up", lambda m, bad: m.take_up("QA", "a", bad), "session_id"),
    ("take_up", lambda m, bad: m.take_up("QA", bad, "s", or_start=True), "agent_id"),
    ("resume", lambda m, bad: m.resume("QA", bad), "agent_id"),
    ("resume", lambda m, bad: m.resume("QA", "a", bad), "session_id"),
    ("load", lambda m, bad: m.load("QA", bad), "agent_id"),
    ("load", lambda m, bad: m.load("QA", "a", bad), "session_id"),
    ("delete", lambda m, bad: m.delete("QA", bad, "s"), "agent_id"),
    ("active", lambda m, bad: m.active(session_id=bad), "session_id"),
    ("children", lambda m, bad: m.children("QA", bad), "parent_agent_id"),
    ("events", lambda m, bad: m.events(agent_id=bad), "agent_id"),
    ("learned", lambda m, bad: m.learned("QA", bad), "agent_id"),
    ("watch", lambda m, bad: m.watch("QA", bad, "s", print), "agent_id"),
    ("spawn", lambda m, bad: m.start("QA", "a").spawn("Dev", bad), "agent_id"),
    ("spawn", lambda m, bad: m.start("QA", "a").spawn("Dev", "d", session_id=bad), "session_id"),
    ("handed_off", lambda m, bad: m.start("QA", "a").handed_off(("Dev", bad)), "target_agent_id"),
]


@pytest.mark.parametrize("bad", ["", "a/b", "\ud800", "__x__", True, b"x", ["x"], "x" * 401])
@pytest.mark.parametrize(("name", "call", "field"), CALLS)
def test_what_cannot_be_an_id_is_refused_by_the_call(
    name: str, call: Callable[[StateManager, Any], Any], field: str, bad: Any
) -> None:
    """With the field that is wrong, and nothing recorded of it."""
    with StateManager.in_memory() as manager:
        with pytest.raises(InvalidMessageError) as found:
            call(manager, bad)
        assert [problem.field for problem in found.value.problems] == [field], name
        manager.settle()
        assert manager.system().value.total_agents_spawned <= 1


@pytest.mark.parametrize("target", ["QA", ("QA",), ("QA", "a", "s"), 7, {"type": "QA"}])
def test_a_target_that_names_nobody_is_refused(target: Any) -> None:
    """A text is no pair of type and id, though it can be taken apart like one."""
    with StateManager.in_memory() as manager:
        agent = manager.start("QA", "a")
        with pytest.raises(InvalidMessageError, match="target"):
            agent.handed_off(target)


def test_times_that_are_yet_to_come_are_refused_by_the_call() -> None:
    """As ingest would refuse them, which nobody would hear of."""
    late = "9999-12-31T00:00:00Z"
    with StateManager.in_memory() as manager:
        agent = manager.start("QA", "a")
        entry = {"task_id": "t", "kind": "code", "status": "completed", "ended_at": late}
        totals = {"kinds": {"code": {"tries": 1, "successes": 1, "last_seen": late}}, "tools": {}}
        for wrong, place in (
            (lambda: agent.update(task_history=[entry]), "task_history[0].ended_at"),
            (lambda: agent.update(task_totals=totals), "task_totals.kinds.code.last_seen"),
            (lambda: agent.begin_task("t", "code", completed_at=late), "completed_at"),
            (
                lambda: manager.save({**agent.state.model_dump(), "created_at": late}),
                "created_at",
            ),
        ):
            before = agent.state
            with pytest.raises(InvalidMessageError) as found:
                wrong()
            assert found.value.code == "too_early"
            assert place in found.value.problems[0].field
            assert agent.state == before
        assert manager.settle()
