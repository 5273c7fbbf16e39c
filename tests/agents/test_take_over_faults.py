"""Faults about a take-over: who is killed, comes twice, is late or of an earlier release."""

from __future__ import annotations

import json
import time
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest

from firestate import StateManager
from firestate.agents.agent import Agent
from firestate.agents.reading.answers import ReadRequest
from firestate.agents.registry import AgentRegistry
from firestate.client.outgoing import Outgoing
from firestate.errors import (
    InvalidMessageError,
    OutboxError,
    UnavailableError,
    UnknownSessionError,
)
from firestate.schema.ids import Identity
from firestate.schema.messages import STATE_TOPIC
from firestate.stores.protocol import Update
from tests.agents.environments import eventually, value
from tests.agents.test_take_overs import SESSION, WHO, cut_off, is_counted, names, work
from tests.harness import task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from firestate.agents.reading.answers import Find
    from tests.agents.folders import Folder

IDENTITY = Identity(*SESSION)
PATH = IDENTITY.state_path
LEASE = 1.0


@pytest.fixture
def leased(tmp_path: Path) -> Iterator[Callable[[], StateManager]]:
    """Open managers with a short lease on one folder, each as a process of its own would."""
    made: list[StateManager] = []

    def make() -> StateManager:
        options: dict[str, Any] = {"lease_seconds": LEASE, "snapshot_interval_seconds": 0.0}
        made.append(StateManager("", folder=tmp_path, **options))
        return made[-1]

    yield make
    for each in made:
        each.close(timeout_seconds=0.0)


def die(manager: StateManager) -> None:
    """Have a process die: it renews and sends nothing any more, and says nothing of it."""
    assert manager.flush()
    manager._runtime.leases.close()
    manager._runtime.sender.close()


def stored(folder: Folder) -> dict[str, Any]:
    """Return the document of the session."""
    found = folder.manager._runtime.backend.store().read(PATH)
    assert found is not None
    return found.data


def writer(folder: Folder) -> str:
    return folder.manager._runtime.submitter.writer


def is_held_back(folder: Folder) -> bool:
    """Whether the session waits until it could be read."""
    return PATH in folder.manager._runtime.outbox.held_back()


# Taken over, or resumed, by several at once or one after the other.


def test_of_two_processes_of_a_folder_that_take_a_session_at_once_the_second_goes_on_with_it(
    folder: Callable[..., Folder],
) -> None:
    former, first = folder(), folder()
    second = folder(first)
    work(former.manager.start(*SESSION), "a1")
    former.send_all()
    read = second.manager._reader.ask(ReadRequest(IDENTITY, lambda found, _: found))
    first.is_open = second.is_open = False
    taken = first.manager.take_up(*SESSION)
    work(taken, "b1")
    again = second.manager._taken_up(read)  # as it was before the first has taken it
    assert again is not None
    work(again, "c1")
    first.is_open = True
    second.send_all()
    assert names(again) == ["a1", "b1", "c1"]
    assert names(taken) == ["a1", "b1", "c1"]


def test_a_resume_takes_along_what_another_process_of_the_folder_does_meanwhile(
    folder: Callable[..., Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That one takes the session from its former holder after the resume has read it."""
    former, one = folder(), folder()
    other = folder(one)
    work(former.manager.start(*SESSION), "a1")
    former.send_all()
    one.is_open = other.is_open = False
    registry = other.manager._registry
    begin, calls = registry.begin, list[int]()

    def late(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            work(one.manager.take_up(*SESSION), "b1")
        return begin(*args, **kwargs)

    monkeypatch.setattr(registry, "begin", late)
    resumed = other.manager.resume(*WHO)
    one.is_open = True
    other.send_all()
    assert other.manager.settle()
    ended = value(other.manager.load(*SESSION)).task_history
    assert {each["task_id"] for each in ended} | set(names(resumed)) == {"a1", "b1"}


def test_a_former_holder_that_stop_telling_yet_takes_its_session_back(
    folder: Callable[[], Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = folder(), folder()
    work(one.manager.start(*SESSION), "a1")
    one.send_all()
    for each in one.manager._registry._watches:
        monkeypatch.setattr(each, "_tell", lambda _: None)
    work(other.manager.take_up(*SESSION), "b1")
    other.send_all()
    again = one.manager.take_up(*SESSION)
    assert names(again) == ["a1", "b1"]
    work(again, "a2")
    one.send_all()
    assert one.manager.settle()
    assert stored(one)["writer"] == writer(one)


@pytest.mark.parametrize("number", [20, 250])
def test_what_an_earlier_release_takes_over_counts_once(
    folder: Callable[[], Folder], number: int
) -> None:
    """It copies the notes of whom it takes the session from, and makes none of its own."""
    one, two, three = folder(), folder(), folder()
    work(one.manager.start(*SESSION), "a1")
    one.send_all()
    work(two.manager.take_up(*SESSION), *(f"b{n}" for n in range(number)))
    two.send_all()
    assert two.manager.settle()
    message = json.loads(two.manager._runtime.outbox.newest(snapshots=True)[PATH])
    message |= {"epoch": time.time_ns() // 1000 + 1000, "revision": 1, "writer": "host-12-deadbeef"}
    message["state"]["status"] = "active"
    engine = two.manager._runtime.backend.engine  # type: ignore[attr-defined]
    engine.publish(Outgoing("agent-state", json.dumps(message).encode()))
    assert two.manager.settle()
    assert stored(two)["writer"] == "host-12-deadbeef"
    assert "late" not in stored(two), "it has taken all of it along"
    work(three.manager.take_up(*SESSION), "c1")
    three.send_all()
    eventually(lambda: is_counted(three, number + 2))


# What comes late.


@pytest.mark.parametrize("how", ["terminated", "closed", "released"])
def test_what_comes_late_for_a_session_that_is_held_no_more_is_merged_by_its_folder(
    folder: Callable[..., Folder], how: str
) -> None:
    one, two = folder(), folder()
    cut_off(one)
    holder = two.manager.take_up(*SESSION)
    work(holder, "b1")
    if how == "terminated":
        holder.terminate()
    elif how == "released":
        holder.release()
    two.send_all()
    if how == "closed":
        two.close()
        two = folder(two)
        two.manager.agent("Other", "o").save()
    one.send_all()
    eventually(lambda: is_counted(two, 3))
    has_ended = value(two.manager.load(*SESSION)).status == "terminated"
    assert has_ended is (how == "terminated")


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_comes_late_is_merged_by_who_goes_on_with_the_agent_of_a_folder_that_has_ended(
    folder: Callable[[], Folder], when: str
) -> None:
    """Whether it comes before that one goes on, or after."""
    one, two, three = folder(), folder(), folder()
    cut_off(one)
    work(two.manager.take_up(*SESSION), "b1")
    two.send_all()
    two.close()  # before it is told
    if when == "before":
        one.send_all()
    work(three.manager.agent(*WHO), "c1")
    three.send_all()
    one.send_all()
    eventually(lambda: is_counted(three, 4))


def test_what_comes_late_is_merged_after_a_fault_that_passes(
    folder: Callable[[], Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = folder(), folder()
    cut_off(one)
    holder = two.manager.take_up(*SESSION)
    two.send_all()
    merge, calls = Agent.merge, list[int]()

    def failing(agent: Agent, *args: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            message = "database is locked"
            raise OutboxError(message)
        merge(agent, *args)

    monkeypatch.setattr(Agent, "merge", failing)
    one.send_all()
    eventually(lambda: names(holder) == ["a1", "a2"])
    assert len(calls) > 1


@pytest.mark.parametrize("first", ["former", "resumer"])
def test_what_comes_late_for_a_session_that_was_held_and_then_resumed_takes_nothing_away(
    folder: Callable[[], Folder], first: str
) -> None:
    """Not what its last holder has done there, nor what was under way as it was resumed."""
    one, two = folder(), folder()
    cut_off(one)
    holder = two.manager.take_up(*SESSION)
    work(holder, "b1")
    holder.begin_task("b2", "code")
    two.send_all()
    two.is_open = False
    two.manager.resume(*WHO, "next")
    for each in (one, two) if first == "former" else (two, one):
        each.send_all()
    holder.end_task("b2")
    two.send_all()
    eventually(lambda: is_counted(two, 4))


@pytest.mark.parametrize("again", ["third", "resumer"])
def test_what_comes_late_in_parts_for_a_session_that_has_ended_and_is_taken_up_counts_once(
    folder: Callable[[], Folder], again: str
) -> None:
    """One part while it has ended, and one after; the history keeps not all, its totals tell."""
    one, two, three = folder(), folder(), folder()
    one.stop_telling()
    former = one.manager.start(*SESSION)
    work(former, *(f"a{n}" for n in range(250)))
    one.send_all()
    one.is_open = False
    two.manager.resume(*WHO, "next")
    two.send_all()
    work(former, "late")
    one.send_all()
    one.is_open = False
    assert one.manager.settle()
    work(former, "later")
    holder = three if again == "third" else two
    agent = holder.manager.take_up(*SESSION)
    work(agent, "c1")
    holder.send_all()
    one.send_all()
    eventually(lambda: is_counted(holder, 253))
    eventually(lambda: {"late", "c1", "later"} < set(names(agent)))


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_of_a_resumed_session_what_comes_late_of_all_former_holders_counts(
    folder: Callable[[], Folder], order: tuple[int, ...]
) -> None:
    eldest, former, resumer = folders = [folder() for _ in range(3)]
    first = eldest.manager.start(*SESSION)
    work(first, "a1")
    eldest.send_all()
    eldest.is_open = False
    work(first, "a2")
    second = former.manager.take_up(*SESSION)
    work(second, "b1")
    former.send_all()
    former.is_open = False
    work(second, "b2")
    resumer.is_open = False
    resumer.manager.resume(*WHO, "next")
    for each in order:
        folders[each].send_all()
    eventually(lambda: is_counted(resumer, 4))


@pytest.mark.parametrize("again", ["third", "resumer"])
def test_what_is_remembered_late_for_an_ended_session_is_taken_by_who_takes_it_up(
    folder: Callable[[], Folder], again: str
) -> None:
    one, two, three = folder(), folder(), folder()
    one.stop_telling()
    former = one.manager.start(*SESSION)
    former.remember("plan", "a")
    work(former, "a1")
    one.send_all()
    one.is_open = False
    two.manager.resume(*WHO, "next")
    two.send_all()
    former.remember("plan", "b")
    former.remember("new", "n")
    work(former, "a2")
    holder = three if again == "third" else two
    agent = holder.manager.take_up(*SESSION)
    holder.send_all()
    one.send_all()
    eventually(lambda: names(agent) == ["a1", "a2"])
    assert agent.state.memory_context == {"plan": "b", "new": "n"}


def ended_by(one: Folder, two: Folder) -> None:
    """Have a folder resume a session whose former holder has more to say."""
    cut_off(one)
    two.manager.resume(*WHO, "next")
    two.send_all()
    assert two.manager.settle()


def test_what_was_saved_apart_to_an_ended_session_is_not_replaced(
    folder: Callable[[], Folder],
) -> None:
    """Beside a locked file, by another process of the folder that has resumed it."""
    one, two = folder(), folder()
    ended_by(one, two)
    kept = two.manager._runtime.registry._kept(IDENTITY)
    assert kept is not None
    fields = kept.state.model_dump(mode="json")
    spilled = {**fields, "task_history": [*fields["task_history"], task(77)]}
    kept.merge_apart(None, spilled, "apart", kept.epoch + 5)
    two.send_all()
    one.send_all()
    eventually(lambda: is_counted(two, 3))


@pytest.mark.parametrize("is_ended", [True, False])
def test_the_work_of_a_holder_of_an_earlier_release_is_not_replaced(
    folder: Callable[[], Folder], *, is_ended: bool
) -> None:
    """It copies all notes that it finds."""
    one, two, three = folder(), folder(), folder()
    ended_by(one, two)
    kept = two.manager._runtime.outbox.state(PATH)
    assert kept is not None
    message = json.loads(kept.message or b"")
    state = message["state"]
    state["status"] = "active"
    if not is_ended:
        del state["collaboration_context"]["resumed_as"]
    state["task_history"].append({**state["task_history"][0], "task_id": "old1"})
    message |= {"epoch": message["epoch"] + 1_000, "revision": 5, "writer": "vm-old"}
    runtime = three.manager._runtime
    data = [json.dumps(message).encode()]
    runtime._worker.run(lambda: runtime.backend.send("agent-state", data, "vm-old"))
    assert three.manager.settle()
    found = value(three.manager.load(*SESSION)), stored(three)
    runtime.registry.begin(Identity(*WHO, "n2"), [found])
    three.send_all()
    one.send_all()
    assert three.manager.settle()
    assert "old1" in [each["task_id"] for each in stored(three)["task_history"]]


def test_a_whole_state_that_is_saved_to_an_ended_session_is_not_replaced(
    folder: Callable[[], Folder],
) -> None:
    one, two = folder(), folder()
    ended_by(one, two)
    fields = value(two.manager.load(*SESSION)).model_dump(mode="json")
    fields["task_history"].append({**fields["task_history"][0], "task_id": "b1"})
    two.manager.save(fields)
    two.send_all()
    one.send_all()
    eventually(lambda: is_counted(two, 3))


def end_and_let_go(one: Folder, two: Folder) -> None:
    """Have a folder take a session, and end a task there that its history keeps no more.

    It keeps the newest 200, and says nothing of those before.
    """
    one.manager.start(*SESSION).begin_task("a1", "code", tool="t")
    one.send_all()
    assert one.manager.settle()
    holder = two.manager.take_up(*SESSION)
    holder.end_task("a1")
    work(holder, *(f"b{number}" for number in range(210)))
    two.send_all()
    assert two.manager.settle()


def put_clock_ahead(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what a folder begins be above whatever others begin within a minute."""
    submitter = folder.manager._runtime.submitter
    new_epoch = submitter.new_epoch
    monkeypatch.setattr(submitter, "new_epoch", lambda *args: new_epoch(*args) + 60_000_000)


def test_a_task_that_the_other_folder_has_ended_and_let_go_is_not_under_way_again(
    folder: Callable[[], Folder],
) -> None:
    one, two = folder(), folder()
    end_and_let_go(one, two)
    assert "a1" not in names(one.manager.take_up(*SESSION))
    one.send_all()
    eventually(lambda: is_counted(one, 211))


def test_a_task_that_was_ended_more_take_overs_ago_than_are_remembered_is_not_under_way_again(
    folder: Callable[[], Folder],
) -> None:
    one, two, three = folder(), folder(), folder()
    end_and_let_go(one, two)
    for by in 4 * (three, two) + (three,):
        by.manager.take_up(*SESSION)
        by.send_all()
        assert by.manager.settle()
    assert "a1" not in names(one.manager.take_up(*SESSION))


@pytest.mark.parametrize("back", ["takes it back", "says it late"])
def test_what_a_folder_does_after_its_epoch_has_risen_counts_once(
    folder: Callable[[], Folder], back: str
) -> None:
    """As after its outbox was lost: the other folder has taken it from the epoch before."""
    one, two = folder(), folder()
    agent = one.manager.start(*SESSION)
    work(agent, *(f"a{number}" for number in range(50)))
    agent.begin_task("open", "code", tool="t")
    one.send_all()
    assert one.manager.settle()
    one.is_open = False
    agent.rise_above(agent.epoch)
    work(agent, "a50")
    holder = two.manager.take_up(*SESSION)
    holder.end_task("open")
    work(holder, *(f"b{number}" for number in range(210)))
    two.send_all()
    assert two.manager.settle()
    if back == "takes it back":
        assert "open" not in names(one.manager.take_up(*SESSION))
    one.send_all()
    eventually(lambda: is_counted(two, 262))


def test_what_a_folder_does_after_its_epoch_has_risen_twice_counts_once(
    folder: Callable[[], Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it said in between comes last, after the other folder has merged the newest."""
    one, two = folder(), folder()
    agent = one.manager.start(*SESSION)
    work(agent, "a1")
    one.send_all()
    assert one.manager.settle()
    one.is_open = two.is_open = False
    put_clock_ahead(two, monkeypatch)  # whatever the other one rises to is below it
    work(two.manager.take_up(*SESSION), "b1")
    agent.rise_above(agent.epoch)
    work(agent, *(f"c{number}" for number in range(30)))
    between = one.manager._runtime.outbox.newest(snapshots=True)[PATH]
    agent.rise_above(agent.epoch)
    work(agent, *(f"d{number}" for number in range(230)))
    two.send_all()
    one.send_all()
    eventually(lambda: is_counted(two, 262))
    two.send_all()
    runtime = two.manager._runtime
    writer = json.loads(between)["writer"]
    runtime._worker.run(lambda: runtime.backend.send(STATE_TOPIC, [between], writer))
    two.send_all()
    time.sleep(1.0)  # it is told of what is late
    two.send_all()
    assert two.manager.settle()
    assert is_counted(two, 262)


def test_what_a_start_replaces_does_not_come_back_where_its_clock_is_behind(
    folder: Callable[[], Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = folder(), folder()
    put_clock_ahead(two, monkeypatch)
    work(two.manager.start(*SESSION), "b1", "b2")
    two.send_all()
    assert two.manager.settle()
    agent = one.manager.start(*SESSION, replace=True)
    work(agent, "a1")
    eventually(lambda: agent.is_above)
    one.send_all()
    time.sleep(1.0)  # it would be told of what is late
    one.send_all()
    assert names(agent) == ["a1"]
    eventually(lambda: is_counted(one, 1))


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_task_begun_since_the_session_was_taken_is_under_way_as_it_is_taken_back(
    folder: Callable[[], Folder], *, goes_on: bool
) -> None:
    """Also where the other folder has gone on with it in another session."""
    one, two = folder(), folder()
    former = cut_off(one)
    former.begin_task("a3", "code", tool="t")
    two.manager.take_up(*SESSION)
    if goes_on:
        two.manager.resume(*WHO, "next")
    two.send_all()
    assert two.manager.settle()
    agent = one.manager.take_up(*SESSION)
    agent.end_task("a3")
    one.send_all()
    eventually(lambda: is_counted(one, 3))
    (code,) = value(one.manager.learned(*WHO)).kinds
    assert (code.name, code.tries) == ("code", 3)


@pytest.mark.parametrize("way", ["resume", "resume_from"])
def test_a_session_that_was_sent_and_is_not_stored_yet_is_not_begun_anew(
    folder: Callable[..., Folder], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what was sent long ago the outbox knows where it stands, and no more."""
    monkeypatch.setattr("firestate.agents.manager._MOVING_SECONDS", 0.5)
    one = folder()
    work(one.manager.start(*SESSION), "a1")
    one.send_all()
    runtime = one.manager._runtime
    runtime.backend.is_near = False  # what was sent is not stored at once
    send, held = runtime.backend.send, list[Any]()
    monkeypatch.setattr(runtime.backend, "send", lambda *sent: held.append(sent))
    going_on = one.manager.start(*WHO, "next")
    going_on.remember("k", "v")
    one.send_all()
    going_on.release()
    monkeypatch.setattr("firestate.outbox.file._KEPT_SENT_SECONDS", -5)
    runtime.outbox.tidy()
    if way == "resume":
        assert one.manager.resume(*WHO, "next").identity.session_id != "next"
    else:
        with pytest.raises(UnknownSessionError, match="not stored yet"):
            one.manager.resume_from(*WHO, SESSION[2], "next")
    monkeypatch.setattr(runtime.backend, "send", send)
    for sent in held:
        runtime._worker.run(partial(send, *sent))
    one.send_all()
    state = value(one.manager.load(*WHO, "next"))
    assert state is not None
    assert state.memory_context["k"] == "v"


def test_what_has_ended_is_merged_where_there_is_no_room_for_what_is_under_way(
    folder: Callable[[], Folder],
) -> None:
    one, two = folder(), folder()
    former = cut_off(one)
    for number in range(100):
        former.begin_task(f"open{number}", "code", tool="t", note="x" * 3_000)
    holder = two.manager.take_up(*SESSION)

    def fill() -> None:
        for number in range(1_000):
            holder.remember(f"m{number}", "y" * 5_000)

    with pytest.raises(InvalidMessageError, match="size"):
        fill()
    two.send_all()
    assert two.manager.settle()
    one.manager.take_up(*SESSION)
    one.send_all()
    eventually(lambda: is_counted(one, 2))


@pytest.mark.parametrize("way", ["resume", "resume_from"])
def test_a_session_that_was_deleted_is_begun_anew_at_once(
    folder: Callable[[], Folder], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = folder()
    work(one.manager.start(*SESSION), "a1")
    one.manager.start(*WHO, "next").delete()
    one.send_all()
    asked: list[object] = []
    reader = one.manager._runtime.reader
    read = reader._asked

    def counted(find: Find) -> object:
        asked.append(find)
        return read(find)

    monkeypatch.setattr(reader, "_asked", counted)
    if way == "resume":
        agent = one.manager.resume(*WHO, "next")
    else:
        agent = one.manager.resume_from(*WHO, SESSION[2], "next")
    assert agent.identity == Identity(*WHO, "next")
    assert names(agent) == ["a1"]
    assert len(asked) <= 4


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_resume_does_not_wait_for_what_was_sent_and_is_not_stored(
    folder: Callable[[], Folder], monkeypatch: pytest.MonkeyPatch, *, is_kept: bool
) -> None:
    """What this folder has no more is taken along as soon as it can be read."""
    monkeypatch.setattr("firestate.agents.manager._MOVING_SECONDS", 0.5)
    one = folder()
    former = one.manager.start(*SESSION)
    work(former, "a1")
    one.send_all()
    runtime = one.manager._runtime
    send, held = runtime.backend.send, list[Any]()
    monkeypatch.setattr(runtime.backend, "send", lambda *sent: held.append(sent))
    work(former, "a2")
    one.send_all()
    if not is_kept:
        monkeypatch.setattr("firestate.outbox.file._KEPT_SENT_SECONDS", -5)
        runtime.outbox.tidy()
    began = time.monotonic()
    agent = one.manager.resume(*WHO, "next")
    assert time.monotonic() - began < 10
    assert agent.fresh is is_kept
    monkeypatch.setattr(runtime.backend, "send", send)
    for sent in held:
        runtime._worker.run(partial(send, *sent))
    eventually(lambda: agent.fresh)
    assert names(agent) == ["a1", "a2"]
    one.send_all()
    eventually(lambda: is_counted(one, 2))


@pytest.mark.parametrize("number", [20, 250])
def test_what_an_unknown_holder_has_done_is_the_difference_to_what_both_have_begun_with(
    folder: Callable[[], Folder], number: int
) -> None:
    """Who takes the session knows of neither of the two that had it in between."""
    eldest, former, resumer, last = (folder() for _ in range(4))
    work(eldest.manager.start(*SESSION), *(f"e{n}" for n in range(number)))
    eldest.send_all()
    read = last.manager._reader.ask(ReadRequest(IDENTITY, lambda found, _: found))
    second = former.manager.take_up(*SESSION)
    work(second, "f1")
    former.send_all()
    former.is_open = False
    work(second, "f2")  # it does not know yet
    resumer.manager.resume(*WHO, "next")
    resumer.send_all()
    last.is_open = False
    agent = last.manager._taken_up(read)
    assert agent is not None
    work(agent, "l1")
    former.send_all()
    assert former.manager.settle()
    last.send_all()
    eventually(lambda: is_counted(last, number + 3))


@pytest.mark.parametrize("how", ["resume", "take_up"])
def test_two_who_take_a_session_at_once_lose_nothing_that_the_former_saves_in_between(
    folder: Callable[[], Folder], how: str
) -> None:
    """One has it in its own state, which is late for the other: that knows an earlier one."""
    one, first, second = folder(), folder(), folder()
    former = one.manager.start(*SESSION)
    one.send_all()
    for each in (one, first, second):
        each.is_open = False
    for number, each in enumerate((first, second)):
        if how == "resume":
            each.manager.resume(*WHO, f"n{number}")
        else:
            each.manager.take_up(*SESSION)
    work(former, "a1")  # it does not know yet
    first.send_all()
    one.send_all()
    agent = first.manager.take_up(*SESSION)
    eventually(lambda: names(agent) == ["a1"])
    first.send_all()
    second.send_all()
    eventually(lambda: is_counted(second, 1))


@pytest.mark.parametrize("end", [Agent.fence, Agent.delete], ids=["taken", "deleted"])
def test_what_comes_late_for_a_session_that_is_gone_meanwhile_is_left_to_who_has_it(
    folder: Callable[[], Folder], end: Callable[[Agent], object]
) -> None:
    one = folder()
    holder = one.manager.start(*SESSION)
    work(holder, "a1")
    one.send_all()
    assert one.manager.settle()
    late = {**stored(one), "epoch": holder.epoch - 1}
    end(holder)
    AgentRegistry._merge_late(holder, [late])  # where it raised, others would wait for that


def test_what_comes_late_for_a_session_that_has_ended_and_is_taken_up_again_counts_once(
    folder: Callable[[], Folder],
) -> None:
    """The history keeps no more all that the ended one has taken along; its totals tell."""
    one, two = folder(), folder()
    former = one.manager.start(*SESSION)
    work(former, *(f"a{n}" for n in range(250)))
    one.send_all()
    one.is_open = False
    work(former, "late")
    two.manager.resume(*WHO, "next")
    two.send_all()
    work(two.manager.take_up(*SESSION), "b1")
    two.send_all()
    one.send_all()
    eventually(lambda: is_counted(two, 252))


# Adopted.


def test_a_session_whose_adopter_was_killed_is_taken_up_by_the_next_one(
    folder: Callable[[], Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed once its message has arrived, before it has saved anything."""
    one, two, three = folder(), folder(), folder()
    one.manager.start(*SESSION, status="busy")
    die(one.manager)
    two.manager._runtime.leases.lease_seconds = 0.2
    eventually(lambda: value(two.manager.stale()))

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(two.manager._runtime.adoption, "_is_mine", killed)
    with pytest.raises(KeyboardInterrupt):
        two.manager.adopt()
    two.close()
    work(three.manager.take_up(*SESSION), "c1")
    three.send_all()
    assert three.manager.settle()
    assert stored(three)["writer"] == writer(three)
    assert [each["task_id"] for each in stored(three)["task_history"]] == ["c1"]


def test_what_a_process_saves_as_another_one_of_its_folder_adopts_its_session_is_kept(
    leased: Callable[[], StateManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken for dead, and wakes up."""
    one, other = leased(), leased()
    agent = one.start(*SESSION, status="busy")
    die(one)
    other._runtime.sender.close()
    eventually(lambda: value(other.stale()))
    adoption = other._runtime.adoption
    is_mine = adoption._is_mine

    def awake(*args: Any) -> bool:
        work(agent, "a1")
        return is_mine(*args)

    monkeypatch.setattr(adoption, "_is_mine", awake)
    (adopted,) = other.adopt()
    assert names(adopted) == ["a1"]
    assert names(agent) == ["a1"]


def test_who_could_not_adopt_a_session_may_try_again_at_once(
    leased: Callable[[], StateManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = leased(), leased()
    one.start(*SESSION, status="busy")
    die(one)
    eventually(lambda: value(other.stale()))

    def closed(*_: Any) -> None:
        message = "the way is closed"
        raise UnavailableError(message)

    with monkeypatch.context() as fault:
        fault.setattr(other._runtime.backend, "send", closed)
        with pytest.raises(UnavailableError):
            other.adopt()
    assert [each.identity for each in other.adopt()] == [IDENTITY]


def test_one_that_cannot_be_adopted_hides_none_of_those_that_were(
    leased: Callable[[], StateManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = leased(), leased()
    for name in ("a0", "a1"):
        one.start("T", name, "s", status="busy")
    die(one)
    eventually(lambda: len(value(other.stale())) == 2)
    adoption = other._runtime.adoption
    is_mine, calls = adoption._is_mine, list[int]()

    def failing(*args: Any) -> bool:
        calls.append(1)
        if len(calls) == 2:
            message = "the store is busy"
            raise UnavailableError(message)
        return is_mine(*args)

    monkeypatch.setattr(adoption, "_is_mine", failing)
    (first,) = other.adopt()
    (second,) = eventually(other.adopt)
    assert {each.identity.agent_id for each in (first, second)} == {"a0", "a1"}


# Begun before it could be read.


def test_a_session_of_former_days_that_begins_unread_keeps_what_was_sent_of_it(
    folder: Callable[..., Folder],
) -> None:
    """The outbox has forgotten it meanwhile."""
    one = folder()
    agent = one.manager.start(*SESSION)
    work(agent, "a1", "a2")
    one.send_all()
    one.close()
    again = folder(one)
    again.send_all()
    outbox = again.manager._runtime.outbox
    outbox._connections.change("UPDATE snapshots SET sent_at = sent_at - 700")
    outbox.tidy()
    assert outbox.snapshot(PATH) is None
    again.close_reading()
    agent = again.manager.agent(*SESSION)
    assert not agent.fresh
    work(agent, "b1")
    again.open_reading()
    eventually(lambda: agent.fresh)
    again.send_all()
    assert again.manager.settle()
    assert [each["task_id"] for each in stored(again)["task_history"]] == ["a1", "a2", "b1"]


def test_a_session_that_a_killed_process_has_begun_unread_goes_out_by_another_of_its_folder(
    folder: Callable[..., Folder],
) -> None:
    one = folder()
    two = folder(one)  # runs all the time
    for each in (one, two):
        each.close_reading()
    work(one.manager.agent(*SESSION), "a1")
    one.manager._runtime.background_reads.close()  # killed
    one.manager._runtime.leases.close()
    one.manager._runtime.sender.close()
    agent = two.manager.agent(*SESSION)
    work(agent, "a2")
    two.open_reading()
    two.send_all()
    assert two.manager.settle()
    assert [each["task_id"] for each in stored(two)["task_history"]] == ["a1", "a2"]


def test_a_session_whose_unread_beginning_was_interrupted_goes_out(
    folder: Callable[[], Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = folder()
    one.close_reading()

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as fault:
        fault.setattr(one.manager._registry, "release_all", interrupted)
        with pytest.raises(KeyboardInterrupt):
            one.manager.agent(*SESSION)
    assert is_held_back(one)
    work(one.manager.agent(*SESSION), "a1")
    one.open_reading()
    one.send_all()
    assert not is_held_back(one)


def test_what_was_remembered_unread_is_left_where_both_have_no_room(
    folder: Callable[[], Folder],
) -> None:
    """What is stored stays, and what was done meanwhile."""
    one, two = folder(), folder()
    former = one.manager.start(*SESSION)
    for n in range(8):
        former.remember(f"a{n}", "x" * 90_000)
    one.send_all()
    two.close_reading()
    agent = two.manager.agent(*SESSION)
    for n in range(3):
        agent.remember(f"b{n}", "y" * 90_000)
    work(agent, "b1")
    two.open_reading()
    eventually(lambda: agent.fresh)
    two.send_all()
    assert sorted(agent.state.memory_context) == [f"a{n}" for n in range(8)]
    assert names(agent) == ["b1"]


def test_a_stored_state_that_cannot_be_read_is_not_written_over(
    folder: Callable[[], Folder], caplog: pytest.LogCaptureFixture
) -> None:
    """Such as one of a later release."""
    one, two = folder(), folder()
    work(one.manager.start(*SESSION), "a1")
    one.send_all()
    assert one.manager.settle()
    store = one.manager._runtime.backend.store()
    found = store.read(PATH)
    assert found is not None
    of_the_future = {"schema_version": 99, "task_history": [{"task_id": "of the future"}]}
    store.commit([Update(PATH, found.token, of_the_future)])
    two.close_reading()
    work(two.manager.agent(*SESSION), "b1")
    two.open_reading()
    eventually(lambda: not is_held_back(two) or "in a form that cannot be read" in caplog.text)
    assert not two.manager.flush(0.5), "it is not sent"
    assert stored(two)["task_history"] == [{"task_id": "of the future"}]


def test_sessions_that_are_held_back_keep_no_other_from_going_out_after_a_failure(
    folder: Callable[[], Folder],
) -> None:
    one = folder()
    one.close_reading()
    for number in range(10):
        one.manager.agent("T", f"a{number}", "s")
    one.is_open = False
    path = one.manager.start("T", "other").identity.state_path  # needs no reading
    runtime = one.manager._runtime
    eventually(lambda: runtime.sender._pause)
    one.is_open = True
    eventually(lambda: path not in {each.document for each in runtime.outbox.waiting(1000)})
    assert len(runtime.outbox.held_back()) == 10


# Deleted.


@pytest.mark.parametrize("is_begun_anew", [False, True])
def test_a_session_that_another_process_of_the_folder_has_deleted_begins_anew(
    on_disk: Callable[[], StateManager], *, is_begun_anew: bool
) -> None:
    """In the process that has held it meanwhile, with what that other one has begun anew."""
    one, other = on_disk(), on_disk()
    one.agent(*SESSION).remember("k", 1)
    other.agent(*SESSION).delete()
    before = ["b1"] if is_begun_anew else []
    if is_begun_anew:
        work(other.agent(*SESSION), "b1")
    agent = one.agent(*SESSION)
    work(agent, "c1")
    assert names(agent) == [*before, "c1"]
    assert agent.state.memory_context == {}


def test_an_agent_that_is_deleted_again_and_again_costs_no_more_each_time(
    on_disk: Callable[[], StateManager],
) -> None:
    """The outbox does not go through all that were deleted before it."""
    manager = on_disk()
    identities = set()
    for _ in range(20):
        agent = manager.agent("T", "a")
        identities.add(agent.identity)
        agent.delete()
    assert len(identities) == 20
    assert list(manager._runtime.outbox._rows("SELECT count(*) FROM begun")) == [(1,)]
