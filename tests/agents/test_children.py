"""Children: who lists them, who finds them, and whose they are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from firestate.agents.manager import StateManager
from firestate.client.outgoing import outgoing
from firestate.errors import InvalidMessageError
from firestate.limits import MAX_CHILDREN, MAX_NAMES
from firestate.schema.ids import Identity
from tests.agents.environments import eventually
from tests.harness import event_message, state_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firestate.agents.agent import Agent
    from firestate.agents.backends.document_watch import Change


@pytest.fixture
def manager() -> Iterator[StateManager]:
    with StateManager.in_memory() as manager:
        yield manager


def ids(answer: Any) -> list[str]:
    assert answer.fresh
    return [each.agent_id for each in answer.value]


def test_a_child_names_its_parent_whole(manager: StateManager) -> None:
    """Type, id and session are in its state, so that namesakes are told apart."""
    one = manager.start("Father", "agent_001", "s1")
    other = manager.start("Mother", "agent_001", "s2")
    one.spawn("Dev", "a")
    one.spawn("Dev", "b", session_id="own")
    other.spawn("Dev", "c").terminate()
    state = manager.load("Dev", "b").value
    assert state is not None
    assert (state.parent_agent_type, state.parent_agent_id, state.parent_session_id) == one.identity
    assert ids(manager.children("Father", "agent_001")) == ["a", "b"]
    assert ids(manager.children("Mother", "agent_001")) == ["c"]
    assert ids(manager.children("Mother", "agent_001", "s1")) == []
    assert ids(manager.active(parent_agent_id="agent_001", parent_agent_type="Mother")) == []
    assert ids(manager.active(parent_agent_id="agent_001", parent_session_id="s1")) == ["a", "b"]
    assert ids(manager.active(parent_agent_id="agent_001")) == ["a", "b"]
    with pytest.raises(InvalidMessageError, match="parent_agent_id"):
        manager.active(parent_agent_type="Father")


def test_children_that_an_earlier_release_has_stored_are_told_by_their_spawn_events(
    manager: StateManager,
) -> None:
    """Their states name the parent by the id alone; a child without an event is nobody's."""
    engine: Any = manager._runtime.backend
    for name in ("a", "b", "foundling"):
        fields: dict[str, Any] = {
            "agent_id": name,
            "parent_agent_id": "agent_001",
            "session_id": "s1",
        }
        engine.engine.publish(outgoing(state_message(1, **fields)))
    for number, (parent, child) in enumerate([("Father", "a"), ("Mother", "b")]):
        event = event_message(
            f"e{number}",
            "spawn",
            source_agent_type=parent,
            source_agent_id="agent_001",
            target_agent_type="Developer",
            target_agent_id=child,
            session_id="s1",
        )
        engine.engine.publish(outgoing(event))
    assert ids(manager.children("Father", "agent_001")) == ["a"]
    assert ids(manager.children("Mother", "agent_001", "s1")) == ["b"]
    assert ids(manager.children("Mother", "agent_001", "s2")) == []
    assert sorted(ids(manager.active(parent_agent_id="agent_001"))) == ["a", "b", "foundling"]


def test_an_agent_lists_the_newest_that_have_not_ended(manager: StateManager) -> None:
    """However many it has spawned, and whoever has ended them; all are found by a query."""
    father = manager.start("Father", "f")
    children: list[Agent] = [father.spawn("Dev", f"d{number}") for number in range(250)]
    listed = father.state.child_agent_ids
    assert listed == [f"d{number}" for number in range(250 - MAX_CHILDREN, 250)]
    for child in children[200:]:
        child.terminate()
    children[199].delete()
    assert father.save().state.child_agent_ids == [f"d{number}" for number in range(150, 199)]
    assert len(ids(manager.children("Father", "f", limit=1_000))) == 249


def test_a_child_that_ends_is_listed_while_another_of_its_id_lives(manager: StateManager) -> None:
    """The list holds ids alone: of two children with one id, one may have ended."""
    father = manager.start("Father", "f")
    first, second = father.spawn("Dev", "x"), father.spawn("QA", "x")
    first.terminate()
    assert father.save().state.child_agent_ids == ["x"]
    second.terminate()
    assert father.save().state.child_agent_ids == []
    father.spawn("Dev", "x", session_id="again")
    assert father.state.child_agent_ids == ["x"]


@pytest.mark.parametrize("known", [MAX_NAMES - 1, MAX_NAMES])
def test_no_number_of_children_stops_an_agent(manager: StateManager, known: int) -> None:
    """Also where an earlier release has listed them all: it spawns, and resumes."""
    father = manager.start("Father", "f", child_agent_ids=[f"c{n}" for n in range(known)])
    father.spawn("Dev", "one").terminate()
    father.spawn("Dev", "two")
    assert len(father.state.child_agent_ids) == MAX_CHILDREN
    again = manager.resume("Father", "f")
    again.spawn("Dev", "three")
    assert again.state.child_agent_ids[-2:] == ["two", "three"]


def test_a_resumed_child_has_its_parent_still(manager: StateManager) -> None:
    """All three parts go along into the new session."""
    father = manager.start("Father", "f", "s1")
    father.spawn("Dev", "d")
    child = manager.resume("Dev", "d", "s2")
    state = child.state
    parent = Identity(
        state.parent_agent_type or "", state.parent_agent_id or "", state.parent_session_id or ""
    )
    assert parent == father.identity


def test_children_are_watched_by_their_parent(manager: StateManager) -> None:
    """A namesake's children are not told."""
    seen: list[Change] = []
    one, other = manager.start("Father", "x", "s1"), manager.start("Mother", "x", "s1")
    watch = manager.watch_children("x", seen.append, parent_agent_type="Father")
    other.spawn("Dev", "theirs")
    one.spawn("Dev", "mine")
    eventually(lambda: [c for c in seen if c.data and c.data["agent_id"] == "mine"])
    assert {c.data["agent_id"] for c in seen if c.data} == {"mine"}
    watch.close()


def test_a_child_may_end_in_any_way(manager: StateManager) -> None:
    """By its status, deleted by the manager, or after its parent has gone on in a new session."""
    father = manager.start("Father", "f", "s1")
    for name in ("a", "b", "c", "d"):
        father.spawn("Dev", name)
    manager.take_up("Dev", "a", "s1").update(status="terminated")
    manager.take_up("Dev", "b", "s1").release()
    manager.delete("Dev", "b", "s1")
    assert father.save().state.child_agent_ids == ["c", "d"]
    again = manager.resume("Father", "f", "s2")
    manager.take_up("Dev", "c", "s1").terminate()
    assert again.save().state.child_agent_ids == ["d"]


def test_children_end_in_threads_of_their_own(manager: StateManager) -> None:
    """While their parent spawns and saves: at the end it lists those that live."""
    father = manager.start("Father", "f")
    with ThreadPoolExecutor(4) as pool:
        for number in range(60):
            child = father.spawn("Dev", f"d{number}")
            if number % 2:
                pool.submit(child.terminate)
            father.save()
    assert father.save().state.child_agent_ids == [f"d{number}" for number in range(0, 60, 2)]


def test_another_parent_has_another_type_and_session(manager: StateManager) -> None:
    """Whoever names a new parent by its id alone does not mean a mixture of two."""
    father = manager.start("Father", "f", "s1")
    child = father.spawn("Dev", "d").update(parent_agent_id="other")
    state = child.state
    assert (state.parent_agent_id, state.parent_agent_type, state.parent_session_id) == (
        "other",
        None,
        None,
    )
