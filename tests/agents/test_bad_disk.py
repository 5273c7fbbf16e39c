"""A folder that vanishes, is moved or replaced under a live process, and a file that is locked."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from firestate import StateManager
from firestate.errors import OutboxError, OutboxFullError, UnavailableError
from firestate.outbox.entries import NewEntry
from firestate.outbox.file import Outbox
from tests.agents.environments import eventually
from tests.agents.outbox_fixtures import PLENTY, event, said, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from firestate import Agent

WHO = ("Developer", "d", "s")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "outbox.db"


@contextmanager
def locked(path: Path, how: str = "IMMEDIATE") -> Iterator[None]:
    """Have another connection write to a file, and not come to an end."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(f"BEGIN {how}")
        yield


def waiting(outbox: Outbox) -> list[tuple[str, int]]:
    listed = outbox.waiting(1_000)
    data = outbox.data(listed)
    return [said(data[each])[:2] for each in listed]


def spills(path: Path) -> list[Path]:
    return list(path.parent.glob("*.spill-*"))


def notes(manager: StateManager) -> dict[str, Any]:
    state = manager.load(*WHO).value
    assert state is not None
    return dict(state.memory_context)


def test_what_is_put_to_a_locked_file_is_kept_beside_it_and_comes_in_its_order(path: Path) -> None:
    outbox = Outbox(path, most_bytes=PLENTY)
    assert outbox.put(snapshot("a", 1))
    with locked(path):
        assert outbox.put(event("a", 2))
        assert outbox.put(snapshot("a", 3), event("a", 4))
        assert not outbox.put(snapshot("a", 3)), "it does not follow what is spilled"
        assert outbox.has_spilled
        assert outbox.head("agent_states/a") == (1, 3)
        assert said(outbox.newest(snapshots=True)["agent_states/a"]).number == 3
        assert len(outbox.newest(snapshots=False)) == 2
        assert spills(path)
    eventually(lambda: not outbox.has_spilled)
    assert waiting(outbox) == [("a", 2), ("a", 3), ("a", 4)]
    assert spills(path) == []
    assert outbox.put(event("a", 5))
    outbox.close()


def test_what_is_let_go_beside_a_locked_file_is_let_go_also_where_others_have_saved_it(
    path: Path,
) -> None:
    """They were first as the lock ended: what was spilled is merged into theirs."""
    held_back = NewEntry("agent_states/a", "a", "", b"", is_held_back=True)
    with closing(Outbox(path, most_bytes=PLENTY)) as outbox:

        def merge(*_: object) -> None:
            outbox.put(snapshot("a", 1, epoch=9))

        outbox.on_conflict(merge)
        outbox.put(held_back, snapshot("a", 1))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            outbox.put(snapshot("a", 1, epoch=2))
            outbox.let_go("agent_states/a")
            other.execute("UPDATE snapshots SET epoch = 3")
            other.execute("COMMIT")
        eventually(lambda: not outbox.has_spilled)
        assert outbox.head("agent_states/a") == (9, 1)
        assert outbox.held_back(in_file=True) == set()


def test_what_cannot_be_merged_lies_apart_and_holds_nothing_up(path: Path) -> None:
    """As of an outbox without agents, such as that of a command."""
    with closing(Outbox(path, most_bytes=PLENTY)) as outbox:
        outbox.put(snapshot("a", 1))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            outbox.put(snapshot("a", 2))
            outbox.put(event("b", 1))
            other.execute("UPDATE snapshots SET epoch = 3")
            other.execute("COMMIT")
        eventually(lambda: not outbox.has_spilled)
        assert ("b", 1) in waiting(outbox)
        (apart,) = path.parent.glob("*.unmerged-*")
        assert said(apart.read_bytes()).number == 2


def test_the_next_process_finds_what_waits_beside_a_locked_file(path: Path) -> None:
    outbox = Outbox(path, most_bytes=PLENTY)
    with locked(path):
        assert outbox.put(event("a", 1))
        outbox.close()
        again = Outbox(path, most_bytes=PLENTY)
        assert len(again.newest(snapshots=False)) == 1
        assert again.put(event("a", 2))
    again.adopt()
    eventually(lambda: not again.has_spilled)
    assert waiting(again) == [("a", 1), ("a", 2)]
    assert spills(path) == []
    again.close()


def test_what_was_cut_off_as_it_was_written_was_never_acknowledged(path: Path) -> None:
    outbox = Outbox(path, most_bytes=PLENTY)
    with locked(path):
        assert outbox.put(event("a", 1))
        outbox.close()
    (spill,) = spills(path)
    spill.write_bytes(spill.read_bytes() + spill.read_bytes()[:-1])
    again = Outbox(path, most_bytes=PLENTY)
    again.adopt()
    eventually(lambda: not again.has_spilled)
    assert waiting(again) == [("a", 1)]
    again.close()


def test_agents_go_on_while_their_files_are_locked(tmp_path: Path) -> None:
    with StateManager("", folder=tmp_path) as manager:
        agent = manager.start(*WHO)
        assert manager.settle()
        with locked(tmp_path / "outbox.db"), locked(tmp_path / "state.db"):
            for number in range(20):
                agent.remember(f"k{number}", number)
            child = agent.spawn("QA", "q")
            child.remember("own", 1)
            assert len(notes(manager)) == 20
            assert agent.state.memory_context == notes(manager)
            assert manager.connection.waiting > 0
        assert manager.settle()
        store = manager._runtime.backend.store()
        stored = store.read(agent.identity.state_path)
        assert stored is not None
        assert len(stored.data["memory_context"]) == 20
        assert store.read(child.identity.state_path) is not None
        assert manager._runtime.outbox.depth().messages == 0


def test_what_another_process_saves_first_is_merged(tmp_path: Path) -> None:
    """One has spilled; another one saves the same session before that is replayed."""
    with StateManager("", folder=tmp_path) as one, StateManager("", folder=tmp_path) as other:
        agent = one.start(*WHO, memory_context={"gone": 1, "old": 1})
        twin = other.agent(*WHO)
        spill = one._runtime.outbox._spill
        assert spill is not None
        replay, spill._replay = spill._replay, lambda: None  # type: ignore[method-assign]
        with locked(tmp_path / "outbox.db"):
            agent.remember("one", 1)
            agent.forget("gone")
            agent.end_task("t1")
        twin.remember("other", 2)
        twin.end_task("t2")
        spill._replay = replay  # type: ignore[method-assign]
        assert one.settle()
        assert notes(one) == {"old": 1, "one": 1, "other": 2}
        for each in (agent, twin):
            each.remember("after", each.epoch)
            tasks = {entry["task_id"] for entry in each.state.task_history}
            assert tasks == {"t1", "t2"}
        assert agent.state == twin.state


KILLED = """
import os, signal, sqlite3, sys
from firestate import StateManager
manager = StateManager("", folder=sys.argv[1])
agent = manager.agent("Developer", "d", "s")
manager.settle()
other = sqlite3.connect(sys.argv[1] + "/outbox.db", isolation_level=None)
other.execute("BEGIN IMMEDIATE")
for number in range(30):
    agent.remember(f"k{number}", number)
    agent.record("error", context={"n": number})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_while_the_file_is_locked_loses_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    with StateManager("", folder=tmp_path) as manager:
        assert notes(manager) == {f"k{number}": number for number in range(30)}
        assert manager.settle()
        found = manager.events(limit=100).value
        assert sorted(each.context["n"] for each in found) == list(range(30))
        assert spills(tmp_path / "outbox.db") == []


def save_until_noticed(manager: StateManager, agent: Agent, folder: Path) -> None:
    agent.remember("during", 1)

    def is_back() -> bool:
        agent.save()
        return all((folder / name).exists() for name in ("outbox.db", "state.db"))

    eventually(is_back)
    agent.remember("after", 1)
    assert manager.settle()


@pytest.mark.parametrize("how", ["removed", "moved", "file removed", "replaced", "emptied"])
def test_a_folder_that_vanishes_is_made_again_with_what_it_held(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "folder"
    with StateManager("", folder=folder) as manager:
        agent = manager.start(*WHO)
        agent.record("error", context={"n": 1})
        if how != "emptied":
            assert manager.settle()
        agent.remember("before", 1)
        agent.record("error", context={"n": 2})
        if how == "removed":
            shutil.rmtree(folder)
        elif how == "moved":
            folder.rename(tmp_path / "elsewhere")
        elif how == "replaced":
            folder.rename(tmp_path / "elsewhere")
            with StateManager("", folder=folder) as new:
                new.start("QA", "q", session_id="s")
        else:
            for each in folder.iterdir():
                each.unlink()
        save_until_noticed(manager, agent, folder)
        writer = manager._runtime.outbox.writer
    if (tmp_path / "elsewhere").exists():
        with StateManager("", folder=tmp_path / "elsewhere") as moved:
            assert moved._runtime.outbox.writer != writer, "two folders write under one name"
    with StateManager("", folder=folder) as manager:
        assert notes(manager) == {"before": 1, "during": 1, "after": 1}
        found = manager.events(limit=100).value
        assert sorted(each.context["n"] for each in found) == [1, 2]
        assert manager.agent(*WHO).save().fenced is False


def test_what_nobody_can_read_any_more_is_told_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(path, most_bytes=PLENTY)
    again: list[bool] = []
    outbox.on_loss(lambda: again.append(outbox.put(snapshot("a", 7))))
    assert outbox.put(event("a", 1))
    monkeypatch.setattr(outbox._connections, "retire", lambda: None)
    shutil.rmtree(path.parent)
    outbox._look_at = 0.0
    with pytest.raises(OutboxError, match="vanished, and what waited there is lost"):
        outbox.put(event("a", 2))
    assert outbox.losses == 1
    assert again == [True]
    assert outbox.put(event("a", 3))
    outbox.close()


def test_a_loss_is_said_by_the_first_settle_that_can_say_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: float) -> None:
        raise UnavailableError("triggers are left")

    with StateManager("", folder=tmp_path) as manager:
        assert manager.settle()
        backend: Any = manager._runtime.backend
        manager._runtime.outbox.losses += 1
        with monkeypatch.context() as patch:
            patch.setattr(backend.engine, "settle", fail)
            with pytest.raises(UnavailableError, match="triggers are left"):
                manager.settle()
        assert not manager.settle()
        assert manager.settle()


def test_where_there_can_be_no_file_each_call_says_so(path: Path) -> None:
    outbox = Outbox(path, most_bytes=PLENTY)
    assert outbox.put(event("a", 1))
    shutil.rmtree(path.parent)
    path.parent.write_text("a file where the folder was")
    outbox._look_at = 0.0
    for _ in range(2):
        with pytest.raises(OutboxError, match="cannot be used"):
            outbox.put(event("a", 2))
    path.parent.unlink()
    assert outbox.put(event("a", 3))
    eventually(lambda: outbox.depth().messages == 2)
    outbox.close()


def test_a_disk_that_is_full_for_the_spill_file_refuses(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(path, most_bytes=PLENTY)
    with locked(path):
        assert outbox.put(event("a", 1))
        write = os.write
        with monkeypatch.context() as patch:
            patch.setattr("os.write", lambda handle, data: write(handle, data[:-1]))
            with pytest.raises(OutboxError, match="No space left"):
                outbox.put(event("a", 2))
        assert outbox.put(event("a", 3))
    eventually(lambda: not outbox.has_spilled)
    assert waiting(outbox) == [("a", 1), ("a", 3)]
    outbox.close()


def test_a_spill_file_has_the_outbox_s_bound(path: Path) -> None:
    outbox = Outbox(path, most_bytes=10_000)
    with locked(path):
        assert outbox.put(event("a", 1, size=20_000))
        with pytest.raises(OutboxFullError):
            outbox.put(event("a", 2))
    outbox.close()


def test_a_file_that_cannot_be_written_is_named(path: Path) -> None:
    outbox = Outbox(path, most_bytes=PLENTY)
    assert outbox.put(event("a", 1))
    outbox._connections._idle[False][0].execute("PRAGMA query_only = 1")
    with pytest.raises(OutboxError, match=r"outbox\.db.*readonly.*let this process write"):
        outbox.put(event("a", 2))
    outbox.close()


def test_a_put_that_is_interrupted_by_one_that_spills_does_not_pass_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a signal handler: it holds a connection already, and the lock is gone as it goes on."""
    outbox = Outbox(path, most_bytes=PLENTY)
    assert outbox.put(snapshot("a", 1))
    spill, connections = outbox._spill, outbox._connections
    assert spill is not None
    replay = spill._replay
    monkeypatch.setattr(spill, "_replay", lambda: None)
    interrupted: list[bool] = []

    def interrupt(*_: object, **__: object) -> None:
        if not interrupted:
            interrupted.append(True)
            with locked(path):
                assert outbox.put(snapshot("a", 2), event("a", 3))

    monkeypatch.setattr(connections, "_set_bound", interrupt)
    assert not outbox.put(snapshot("a", 2)), "two have saved one revision"
    assert outbox.has_spilled
    monkeypatch.setattr(spill, "_replay", replay)
    eventually(lambda: not outbox.has_spilled)
    assert waiting(outbox) == [("a", 2), ("a", 3)]
    outbox.close()
