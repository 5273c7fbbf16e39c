"""What agents did, in the words that Firestate and the frameworks' own transcripts share."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from firestate.audit.full import FullAudit
from firestate.queries import ALL_KEPT
from firestate.schema.enums import CoordinationEventType as Type
from firestate.schema.ids import CONTROLS
from firestate.stores.protocol import replacing

if TYPE_CHECKING:
    from firestate.agents.manager import StateManager


@dataclass
class Story:
    """Who did what how often; agents by their id."""

    agents: dict[str, str] = field(default_factory=dict)
    """The status in which each was left."""
    spawns: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Parent and child."""
    handoffs: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    """Source, target, success."""
    tools: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Agent, tool, outcome."""
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Agent, type of the error."""


def stored(manager: StateManager) -> Story:
    """Read all that is stored, once it is counted: the counters must tell the same."""
    assert manager.settle()
    story = Story()
    states = manager.active().value
    events = manager.events(limit=10_000).value
    for event in events:
        source, target = event.source_agent_id, event.target_agent_id
        if event.event_type == Type.SPAWN:
            story.spawns[source, str(target)] += 1
        elif event.event_type == Type.HANDOFF:
            assert event.duration_seconds is not None or not event.success
            assert bool(event.error_message) is not event.success
            story.handoffs[source, str(target), event.success] += 1
        elif event.event_type == Type.ERROR:
            assert event.error_message
            story.errors[source, event.context["error_type"]] += 1
        elif event.event_type == Type.TERMINATION:
            state = manager.load(event.source_agent_type, source, event.session_id).value
            assert state is not None
            states.append(state)
    for state in states:
        assert state.agent_id not in story.agents, "one agent, one session"
        story.agents[state.agent_id] = state.status
        for task in state.task_history:
            assert task["kind"] == "tool"
            assert task["duration_seconds"] >= 0
            story.tools[state.agent_id, task["tool"], task["status"]] += 1
        children = {child for parent, child in story.spawns if parent == state.agent_id}
        assert set(state.child_agent_ids) <= children  # those that have not ended
    system = manager.system().value
    assert system.total_agents_spawned == len(states)
    counted = system.system_metrics["coordination"]
    assert counted["total"] + counted.get("cancelled", 0) == len(events)
    return story


ALIKE = [("red_team", "lead_7"), ("red", "team_lead_7"), ("red_team_lead", "7")]
"""Agents, each with a session, whose ids join to the same text."""


def check_alike(manager: StateManager) -> None:
    """Check that each of ALIKE was recorded by itself, and that all of it is counted."""
    assert manager.settle()
    store = manager._runtime.backend.store()
    assert FullAudit(store).run().findings == []
    for agent_id, session_id in ALIKE:
        agent_type = agent_id.replace("_", "-")
        state = manager.load(agent_type, agent_id, session_id).value
        assert state is not None
        assert (state.agent_id, state.session_id, state.status) == (agent_id, session_id, "idle")
    assert store.total(ALL_KEPT.query()) == {"count": 0}


def stop_all(manager: StateManager) -> None:
    """Set the emergency stop, as an operator does, and wait until the agents know."""
    fields = {"emergency_stop": True, "emergency_reason": "runaway costs"}
    manager._runtime.backend.store().commit(replacing(None, CONTROLS, fields))
    while not manager.controls.emergency_stop:
        time.sleep(0.01)
