"""Coordination and the system: the same on the cloud engine, the local engine, and in memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from firestate.audit.findings import FindingKind
from firestate.audit.full import FullAudit
from firestate.errors import EmergencyStopError, InvalidMessageError
from firestate.queries import BY_SOURCE
from tests.agents.environments import Environment, eventually, value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firestate import StateManager
    from firestate.agents.backends.document_watch import Change


@pytest.fixture
def manager(here: Environment) -> StateManager:
    assert here.ours is not None
    return here.ours


def test_each_kind_of_event_is_recorded_and_read_at_once(
    here: Environment, manager: StateManager
) -> None:
    agent = manager.start("Developer", here.agent("a"))
    other = ("QA", here.agent("q"))
    agent.spawned(other)
    agent.handed_off(other, task_context={"task": "t1"}, duration_seconds=1.5)
    agent.collaborated(("Architect", here.agent("x")))
    agent.failed(ValueError("no"), other)
    agent.ended()
    found = value(manager.events(agent_id=here.agent("a")))
    assert [each.event_type for each in found] == [
        "termination",
        "error",
        "collaboration",
        "handoff",
        "spawn",
    ]
    error = found[1]
    assert (error.success, error.error_message) == (False, "ValueError: no")
    assert error.context == {"error_type": "ValueError"}
    assert all(each.session_id == agent.identity.session_id for each in found)
    of_type = value(manager.events(agent_id=here.agent("a"), event_type="handoff"))
    assert [each.duration_seconds for each in of_type] == [1.5]
    assert value(manager.events(agent_id=here.agent("a"), limit=2)) == found[:2]
    manager.flush()
    query = BY_SOURCE.query({"source_agent_id": here.agent("a")})
    eventually(lambda: len(list(here.store.query(query))) == 5)
    assert value(manager.events(agent_id=here.agent("a"))) == found


def test_a_hand_over_is_timed_and_its_error_recorded(
    here: Environment, manager: StateManager
) -> None:
    agent = manager.start("Developer", here.agent("a"))
    other = manager.start("QA", here.agent("q"))
    with agent.handoff(other, task_context={"task": "t1"}) as under_way:
        under_way.context["note"] = "well"
    with pytest.raises(KeyError), agent.handoff(other):
        raise KeyError("x")
    bad, good = value(manager.events(agent_id=here.agent("a")))
    assert (good.success, good.context, good.task_context) == (
        True,
        {"note": "well"},
        {"task": "t1"},
    )
    assert (bad.success, bad.context) == (False, {"error_type": "KeyError"})
    assert good.duration_seconds is not None
    assert bad.target_agent_id == here.agent("q")


def test_success_rates_are_by_type_pair_and_hour(here: Environment, manager: StateManager) -> None:
    kind = f"Kind-{here.run}"
    agent = manager.start(kind, here.agent("a"))
    for success in (True, True, False):
        agent.handed_off(("QA", "q"), success=success)
    rates = value(manager.success_rates(hours=1))
    pair = rates.by_pair[(kind, "QA")]
    assert (pair.total, pair.succeeded) == (3, 2)
    assert pair.rate == pytest.approx(2 / 3)
    assert rates.by_type["handoff"].total >= 3
    assert sum(each.total for each in rates.by_hour.values()) == rates.overall.total
    assert max(rates.by_hour) <= datetime.now(UTC)


def test_an_event_that_would_be_refused_is_refused_here(
    here: Environment, manager: StateManager
) -> None:
    agent = manager.start("Developer", here.agent("a"))
    with pytest.raises(InvalidMessageError, match=r"context\.deep\[0\]"):
        agent.handed_off(("QA", "q"), context={"deep": [[1]]})
    with pytest.raises(InvalidMessageError, match="target_agent_type"):
        agent.handed_off(("Q_A", "q"))
    assert value(manager.events(agent_id=here.agent("a"))) == []


def test_the_system_is_counted(here: Environment, manager: StateManager) -> None:
    here.wait_quiet()
    # On a busy machine the last roll-up of what other tests have sent comes after all else.
    eventually(
        lambda: all(
            finding.kind is not FindingKind.GLOBAL
            for finding in FullAudit(here.store, timedelta(0)).run().findings
        )
    )
    before = manager.system().value
    agent = manager.start("Developer", here.agent("a"))
    agent.handed_off(("QA", "q"), success=False)
    manager.settle()

    def counted() -> bool:
        now = value(manager.system())
        return bool(
            now.total_agents_spawned == before.total_agents_spawned + 1
            and now.current_agent_count == before.current_agent_count + 1
            and agent.identity.session_id in now.active_sessions
            and now.error_counts["by_event_type"].get("handoff", 0)
            == before.error_counts.get("by_event_type", {}).get("handoff", 0) + 1
        )

    eventually(counted)


def test_flags_are_live_and_have_a_default(here: Environment, manager: StateManager) -> None:
    heard: list[Any] = []
    assert manager.controls.flag("new-planner") is False
    assert manager.controls.flag("new-planner", default=True) is True
    manager.controls.on_change(lambda controls: heard.append(dict(controls)))
    here.set_controls(feature_flags={"new-planner": True}, global_config={"limit": 3})
    eventually(lambda: manager.controls.flag("new-planner"))
    assert manager.controls.settings == {"limit": 3}
    eventually(lambda: heard and heard[-1].get("feature_flags") == {"new-planner": True})


def test_while_the_emergency_stop_is_on_nothing_is_spawned(
    here: Environment, manager: StateManager
) -> None:
    heard: list[tuple[bool, str | None]] = []
    father = manager.start("Father", here.agent("f"))
    manager.controls.check()
    manager.controls.on_emergency(lambda on, reason: heard.append((on, reason)))
    here.set_controls(emergency_stop=True, emergency_reason="runaway costs")
    eventually(lambda: manager.controls.emergency_stop)
    with pytest.raises(EmergencyStopError, match="runaway costs"):
        manager.controls.check()
    with pytest.raises(EmergencyStopError):
        father.spawn("Developer", here.agent("d"))
    assert value(manager.load("Developer", here.agent("d"))) is None
    assert value(manager.events(agent_id=here.agent("f"))) == []
    here.set_controls(emergency_stop=False, emergency_reason=None)
    eventually(lambda: not manager.controls.emergency_stop)
    father.spawn("Developer", here.agent("d"))
    eventually(lambda: len(heard) == 2)
    assert heard == [(True, "runaway costs"), (False, None)]


def test_an_agent_can_watch_its_own_state_and_its_children(
    here: Environment, manager: StateManager
) -> None:
    own: list[Change] = []
    children: list[Change] = []
    father = manager.start("Father", here.agent("f"))
    watching = manager.watch(*father.identity, own.append)
    manager.watch_children(here.agent("f"), children.append)
    child = father.spawn("Developer", here.agent("d"))
    manager.flush()
    eventually(lambda: any(c.path == child.identity.state_path for c in children))
    eventually(lambda: own and _last(own).get("child_agent_ids") == [here.agent("d")])
    child.update(status="busy")
    eventually(lambda: _last(children)["status"] == "busy")
    watching.close()
    seen = len(own)
    father.update(status="busy")
    manager.flush()
    eventually(lambda: here.stored(father.identity.state_path)["status"] == "busy")
    assert len(own) == seen


def test_the_connection_tells_how_it_is(here: Environment, manager: StateManager) -> None:
    agent = manager.start("Developer", here.agent("a"))
    assert manager.flush()
    eventually(lambda: manager.connection.publishing.open)
    eventually(lambda: manager.connection.reading.open)
    assert manager.connection.up
    assert manager.connection.waiting == 0
    agent.update(status="busy").update(status="idle")
    assert manager.connection.waiting <= 1


def _last(changes: list[Change]) -> Mapping[str, Any]:
    data = changes[-1].data
    assert data is not None
    return data
