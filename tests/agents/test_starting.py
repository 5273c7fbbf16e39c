"""`start`: a session with a name of its own is not begun over one that is there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from firestate.audit.full import FullAudit
from firestate.errors import SessionExistsError
from tests.agents.environments import eventually, value

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate import StateManager
    from firestate.agents.agent import Agent
    from tests.agents.folders import Folder

WHO = ("Developer", "d")
SESSION = (*WHO, "s")


def work(agent: Agent, *tasks: str) -> None:
    for each in tasks:
        with agent.task(each, "code"):
            pass


def names(agent: Agent) -> list[str]:
    return sorted(each["task_id"] for each in agent.state.task_history)


@pytest.mark.parametrize("ends", ["living", "ended", "closed"])
def test_a_session_that_is_there_is_not_begun_anew(
    on_disk: Callable[[], StateManager], ends: str
) -> None:
    first = on_disk()
    agent = first.start(*SESSION)
    work(agent, "t1")
    if ends == "ended":
        agent.terminate()
    elif ends == "closed":
        first.close()
    second = on_disk()
    with pytest.raises(SessionExistsError, match=r"agent_states/Developer_d_s is there already"):
        second.start(*SESSION)
    assert names(second.agent(*SESSION)) == ["t1"]


def test_it_is_begun_anew_where_that_is_asked_for(on_disk: Callable[[], StateManager]) -> None:
    manager = on_disk()
    work(manager.start(*SESSION), "t1")
    assert manager.start(*SESSION, replace=True).state.task_history == []


def test_a_deleted_session_may_begin_again(on_disk: Callable[[], StateManager]) -> None:
    manager = on_disk()
    manager.start(*SESSION).delete()
    assert manager.start(*SESSION).save().state.status == "idle"
    assert manager.settle()
    assert value(manager.load(*SESSION)).status == "idle"


def test_without_a_name_nothing_is_read(
    on_disk: Callable[[], StateManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = on_disk()
    monkeypatch.setattr(type(manager._reader), "ask_aio", lambda *_: pytest.fail("it was read"))
    first, second = manager.start(*WHO), manager.start(*WHO)
    assert first.identity != second.identity


def test_it_may_be_awaited(on_disk: Callable[[], StateManager]) -> None:
    manager = on_disk()

    async def main() -> None:
        await manager.start.aio(*SESSION, status="busy")
        with pytest.raises(SessionExistsError):
            await manager.start.aio(*SESSION)

    asyncio.run(main())
    assert value(manager.load(*SESSION)).status == "busy"


def begin(manager: StateManager, how: str) -> Agent:
    return manager.start(*SESSION) if how == "start" else manager.agent(*SESSION)


@pytest.mark.parametrize("how", ["start", "agent"])
@pytest.mark.parametrize("goes_on", ["here", "in the next process"])
@pytest.mark.parametrize("is_there", [True, False])
def test_one_that_begins_unread_waits_until_it_could_be_read_and_is_merged(
    folder: Callable[..., Folder], how: str, goes_on: str, *, is_there: bool
) -> None:
    """Nothing of the session that is there is lost, nor of what was done meanwhile."""
    one, other = folder(), folder()
    before = []
    if is_there:
        former = one.manager.start(*SESSION)
        work(former, "a1")
        former.remember("both", {"of": "a"}).remember("a", {"of": "a"})
        one.send_all()
        before = ["a1"]
    other.close_reading()
    agent = begin(other.manager, how)
    assert not agent.fresh
    work(agent, "b1")
    agent.remember("both", {"of": "b"})
    assert not other.manager.flush(0.5), "it is not sent"
    assert names(agent) == ["b1"]
    if goes_on == "here":
        other.open_reading()
        eventually(lambda: agent.fresh)
    else:
        other.close()
        other = folder(other)
        agent = other.manager.agent(*SESSION)
    assert names(agent) == [*before, "b1"]
    other.send_all()
    state = value(other.manager.load(*SESSION))
    assert {key: entry["of"] for key, entry in state.memory_context.items()} == (
        {"both": "b", "a": "a"} if is_there else {"both": "b"}
    )
    work(agent, "b2")
    assert other.manager.settle()
    assert FullAudit(other.manager._runtime.backend.store()).run().findings == []
    (kind,) = value(other.manager.learned(*WHO)).kinds
    assert kind.tries == len(before) + 2
    if is_there:
        eventually(lambda: former.fenced)


def test_a_process_that_is_killed_as_it_merges_merges_once(
    folder: Callable[..., Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = folder(), folder()
    work(one.manager.start(*SESSION), "a1")
    one.send_all()
    other.close_reading()
    agent = other.manager.agent(*SESSION)
    work(agent, "b1")
    outbox = other.manager._runtime.outbox
    let_go: list[Any] = []
    monkeypatch.setattr(outbox, "let_go", let_go.append)
    other.open_reading()
    eventually(lambda: let_go)
    other.close()
    again = folder(other)
    last = again.manager.agent(*SESSION)
    assert names(last) == ["a1", "b1"]
    assert again.manager.settle()
    (kind,) = value(again.manager.learned(*WHO)).kinds
    assert kind.tries == 2


def test_one_that_begins_unread_and_is_deleted_deletes_what_is_there(
    folder: Callable[..., Folder],
) -> None:
    one, other = folder(), folder()
    work(one.manager.start(*SESSION), "a1")
    one.send_all()
    other.close_reading()
    other.manager.agent(*SESSION).delete()
    other.open_reading()
    assert other.manager.settle()
    eventually(lambda: value(other.manager.load(*SESSION)) is None)
