"""A folder is told of each of its messages that was refused, whichever process has sent it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from firestate.agents.refusals import document_in
from firestate.client.outgoing import Outgoing
from firestate.local.engine import LocalEngine
from firestate.operations.quarantined_messages import drop_quarantined
from firestate.operations.republish_quarantined import republish_quarantined
from firestate.schema.ids import event_path
from firestate.schema.messages import EVENT_TOPIC, STATE_TOPIC
from tests.agents.environments import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from firestate import Refused, StateManager
    from tests.agents.environments import Environment
    from tests.agents.folders import Folder


def refused_event(manager: StateManager, number: int) -> str:
    """Send an event that is too old to be stored; return where it would have been."""
    at = datetime.now(UTC) - timedelta(days=40, minutes=number)
    event = manager._runtime.submitter.put_event(
        {
            "event_id": f"old-{number}",
            "event_type": "handoff",
            "timestamp": at,
            "source_agent_type": "Developer",
            "source_agent_id": "d",
            "target_agent_type": "QA",
            "target_agent_id": "q",
            "context": {},
            "task_context": {},
            "success": True,
        }
    )
    return event_path(event.timestamp, event.event_id)


class Heard:
    """Listens to a manager."""

    def __init__(self, manager: StateManager) -> None:
        self.all: list[Refused] = []
        manager.on_refused(self.all.append)

    def wait(self, number: int) -> list[Refused]:
        eventually(lambda: len(self.all) >= number)
        return self.all


def test_a_refusal_is_told_and_logged_once_and_counted(
    here: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    """Which document, why, and where it waits; until it does not wait any more."""
    caplog.set_level(logging.ERROR, "firestate.refused")
    manager = here.ours
    assert manager is not None
    heard = Heard(manager)
    before = manager.connection.refused
    path = refused_event(manager, 1)
    (refused,) = heard.wait(1)
    assert (refused.document, refused.topic, refused.code) == (path, EVENT_TOPIC, "too_late")
    assert [each.field for each in refused.problems] == ["event.timestamp"]
    assert manager.connection.refused == before + 1
    assert manager.flush(30)
    assert not manager.settle(30)
    assert [each for each in caplog.messages if refused.path in each] == [
        f"{refused}; it waits in {refused.path}: see `firestate quarantine show`"
    ]
    assert Heard(manager).wait(1) == [refused]
    here.wait_quiet()
    assert drop_quarantined(here.store, refused.path.rpartition("/")[2])
    eventually(lambda: manager.connection.refused == before)
    assert manager.settle(30)
    assert heard.all == [refused]


def test_the_next_process_is_told_of_what_was_refused_since_the_last_one(
    on_disk: Callable[[], StateManager], tmp_path: Path
) -> None:
    """Of what the last one was told, it is not told again; it is counted all the same."""
    first = on_disk()
    heard = Heard(first)
    refused_event(first, 1)
    heard.wait(1)
    eventually(first._runtime.outbox.told)
    writer = first._runtime.outbox.writer
    first.close()
    second = on_disk()
    eventually(lambda: second.connection.refused == 1)
    assert second.settle(30)
    second.close()
    with LocalEngine(tmp_path / "state.db") as others:  # as functions do meanwhile
        others.publish(Outgoing(STATE_TOPIC, b"{", {"writer": writer}))
    third = on_disk()
    (refused,) = Heard(third).wait(1)
    assert (refused.document, refused.code) == ("", "json")
    assert third.connection.refused == 2
    assert not third.settle(30)


def test_each_process_of_a_folder_is_told(on_disk: Callable[[], StateManager]) -> None:
    """Whichever of them has sent it."""
    managers = [on_disk(), on_disk()]
    heard = [Heard(each) for each in managers]
    eventually(lambda: all(each._runtime.refusals._watch.is_current for each in managers))  # type: ignore[union-attr]
    refused_event(managers[0], 1)
    assert [len(each.wait(1)) for each in heard] == [1, 1]


def test_another_folder_is_not_told(folder: Callable[[], Folder]) -> None:
    """What a folder has sent is its own concern."""
    one, other = folder(), folder()
    heard, not_heard = Heard(one.manager), Heard(other.manager)
    refused_event(one.manager, 1)
    heard.wait(1)
    assert not one.manager.settle(30)
    assert other.manager.settle(30)
    assert (other.manager.connection.refused, not_heard.all) == (0, [])


def test_a_replay_that_is_refused_again_is_told_again(on_disk: Callable[[], StateManager]) -> None:
    """By the attribute, which a replay keeps; one that succeeds is not."""
    manager = on_disk()
    heard = Heard(manager)
    refused_event(manager, 1)
    (refused,) = heard.wait(1)
    engine = manager._runtime.backend.engine  # type: ignore[attr-defined]
    number = refused.path.rpartition("/")[2]
    republish_quarantined(engine.store, engine, number, datetime.now(UTC))
    assert [each.path for each in heard.wait(2)] == [refused.path] * 2
    assert manager.connection.refused == 1


def test_a_listener_that_fails_keeps_no_other_from_being_told(
    on_disk: Callable[[], StateManager],
) -> None:
    """It is logged, as with each callback."""
    manager = on_disk()

    def fail(_: Refused) -> None:
        raise ValueError

    manager.on_refused(fail)
    heard = Heard(manager)
    refused_event(manager, 1)
    heard.wait(1)


@pytest.mark.parametrize(
    ("data", "document"),
    [
        (b"", ""),
        (b"[1]", ""),
        (b"7", ""),
        (b'{"state": 1}', ""),
        (b'{"state": {"agent_type": "A_B", "agent_id": "1", "session_id": "s"}}', ""),
        (b'{"state": {"agent_type": "A", "agent_id": "1"}}', ""),
        (
            b'{"state": {"agent_type": "A", "agent_id": "1", "session_id": "s", "x": 1}}',
            "agent_states/A_1_s",
        ),
        (
            b'{"deleted": {"agent_type": "A", "agent_id": "1", "session_id": "s"}}',
            "agent_states/A_1_s",
        ),
        (b'{"event": {"event_id": "1"}}', ""),
    ],
)
def test_the_document_of_a_message(data: bytes, document: str) -> None:
    """As far as it can be told of what was refused."""
    assert document_in(data) == document
