"""A folder is told of each of its messages that was refused, whichever of its processes has sent it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from firestate import FieldProblem, StateManager
from firestate.operations.quarantined_messages import drop_quarantined
from tests.agents.environments import eventually

if TYPE_CHECKING:

    from firestate import Refused
    from tests.agents.environments import Environment


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
    return f"coordination/{event.timestamp:%Y%m%dT%H%M%S.%fZ}_old-{number}"


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
    """On all worlds: which document, why, and where it waits."""
    caplog.set_level(logging.ERROR, "firestate.refused")
    manager = here.open()
    heard = Heard(manager)
    before = manager.connection.refused
    refused_event(manager, 1)
    (refused,) = heard.wait(1)
    assert refused.path.startswith("quarantine/")
    assert (refused.topic, refused.code) == ("agent-coordination", "too_late")
    assert refused.document.endswith("_old-1")
    assert refused.problems == (FieldProblem("event.timestamp", refused.problems[0].reason),)
    assert manager.connection.refused == before + 1
    assert not manager.settle(30)
    assert manager.flush(30)
    assert [each for each in caplog.messages if refused.path in each] == [
        f"{refused}; it waits in {refused.path}: see `firestate quarantine show`"
    ]
    late = Heard(manager)
    assert late.wait(1) == [refused]
    here.wait_quiet()
    drop_quarantined(
        here.store if here.name != "memory" else manager._runtime.backend.store(),
        refused.path.rpartition("/")[2],
    )
    eventually(lambda: manager.connection.refused == before)
    assert manager.settle(30)
    assert heard.all == [refused]
