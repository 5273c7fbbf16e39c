"""The demo's story: a Father and his team over three sprints, and a network that behaves badly.

A Father spawns an Architect, who spawns Developers, who hand over to QA. Tests fail, work is
handed back and tried again; from sprint to sprint agents are resumed and carry their history
along; in the end most are terminated. On the way some messages come twice, some late, and some
are nonsense.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from firestate.client.outgoing import Outgoing, outgoing
from firestate.demo.bad_network import badly_delivered
from firestate.schema.values import time_text

if TYPE_CHECKING:
    from datetime import datetime

_SPRINTS = ("sprint-1", "sprint-2", "sprint-3")
_SEED = 7


def scenario(start: datetime) -> list[Outgoing]:
    """Give the messages in the order in which they are sent; about 150."""
    story = _Story(start)
    for number, sprint in enumerate(_SPRINTS):
        story.sprint(sprint, last=number == len(_SPRINTS) - 1)
    return badly_delivered(story.messages)


@dataclass(slots=True)
class _Agent:
    agent_type: str
    agent_id: str
    parent: str | None = None
    session: str = ""
    status: str = "idle"
    revision: int = 0
    epoch: int = 0
    created_at: str = ""
    task: str | None = None
    children: list[str] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)


class _Story:
    def __init__(self, start: datetime) -> None:
        self._now = start
        self._random = random.Random(_SEED)  # noqa: S311 - a story, not a secret
        self.messages: list[Outgoing] = []
        self.father = _Agent("Father", "father")
        self.architect = _Agent("Architect", "ada", "father")
        self.developers = [_Agent("Developer", name, "ada") for name in ("dev_1", "dev_2")]
        self.qa = _Agent("QA", "quinn", "ada")

    def sprint(self, session: str, *, last: bool) -> None:
        self._begin(self.father, session)
        self._spawn(self.father, self.architect, session)
        self._work(self.architect, "design", "diagram", seconds=40)
        for developer in self.developers:
            self._spawn(self.architect, developer, session)
        self._spawn(self.architect, self.qa, session)
        for number, developer in enumerate(self.developers):
            task = f"{session}-feature-{number}"
            self._event("handoff", self.architect, developer, {"task": task}, seconds=2)
            self._work(developer, "code", "editor", task=task, seconds=300)
            self._event("handoff", developer, self.qa, {"task": task}, seconds=1)
            if self._work(self.qa, "test", "pytest", task=f"{task}-test", seconds=60, odds=0.5):
                continue
            self._event(
                "handoff",
                self.qa,
                developer,
                {"task": task, "error_type": "TestFailure"},
                success=False,
            )
            self._work(developer, "fix", "editor", task=f"{task}-fix", seconds=120)
            self._event("handoff", developer, self.qa, {"task": task}, seconds=1)
            self._work(self.qa, "test", "pytest", task=f"{task}-retest", seconds=60)
        self._event("collaboration", self.architect, self.qa, {"topic": "review"}, seconds=20)
        self._event("error", self.developers[0], None, {"error_type": "ToolTimeout"}, success=False)
        for agent in (*self.developers, self.qa, self.architect):
            self._event("termination", self.father, agent, {})
            self._save(agent, "terminated")
        self._save(self.father, "terminated" if not last else "idle")

    def _begin(self, agent: _Agent, session: str) -> None:
        """Start in a session; from the second on it is a resumption that carries the past along."""
        self._tick()
        agent.session, agent.revision = session, 0
        agent.epoch = round(self._now.timestamp() * 1_000_000)
        agent.created_at = time_text(self._now)
        agent.children = []
        self._save(agent, "idle")

    def _spawn(self, parent: _Agent, child: _Agent, session: str) -> None:
        self._event("spawn", parent, child, {})
        parent.children.append(child.agent_id)
        self._begin(child, session)

    def _work(
        self,
        agent: _Agent,
        kind: str,
        tool: str,
        *,
        seconds: int,
        task: str = "",
        odds: float = 1.0,
    ) -> bool:
        agent.task = task or f"{agent.session}-{kind}"
        self._save(agent, "busy")
        self._save(agent, "busy")  # a heartbeat: nothing that counts has changed
        success = self._random.random() < odds
        agent.history.append(
            {
                "task_id": agent.task,
                "kind": kind,
                "tool": tool,
                "status": "completed" if success else "failed",
                "duration_seconds": seconds + self._random.randrange(10),
                "ended_at": time_text(self._now),
                "session_id": agent.session,
            }
        )
        agent.memory[f"{agent.task}-note"] = {
            "type": "lesson" if not success else "fact",
            "importance": round(self._random.random(), 2),
            "text": f"{kind} of {agent.task}: {'done' if success else 'it broke'}",
            "session_id": agent.session,
        }
        agent.task = None
        self._save(agent, "active" if success else "error")
        return success

    def _save(self, agent: _Agent, status: str) -> None:
        self._tick()
        agent.status = status
        agent.revision += 1
        state: dict[str, Any] = {
            "agent_id": agent.agent_id,
            "agent_type": agent.agent_type,
            "session_id": agent.session,
            "status": status,
            "created_at": agent.created_at,
            "last_updated": time_text(self._now),
            "last_active": time_text(self._now),
            "memory_context": dict(agent.memory),
            "task_history": list(agent.history),
            "performance_metrics": {"tasks": float(len(agent.history))},
            "agent_config": {"model": "demo", "temperature": 0.2},
            "tools_enabled": ["editor", "pytest"],
            "child_agent_ids": list(agent.children),
        }
        if agent.task:
            state |= {"current_task": agent.task, "task_status": "in_progress"}
        if agent.parent:
            state["parent_agent_id"] = agent.parent
        self._send(
            {
                "schema_version": 1,
                "epoch": agent.epoch,
                "revision": agent.revision,
                "writer": f"demo-{agent.session}",
                "state": state,
            }
        )

    def _event(
        self,
        kind: str,
        source: _Agent,
        target: _Agent | None,
        context: dict[str, Any],
        *,
        success: bool = True,
        seconds: float | None = None,
    ) -> None:
        self._tick()
        event: dict[str, Any] = {
            "event_id": f"demo-{len(self.messages)}",
            "event_type": kind,
            "timestamp": time_text(self._now),
            "source_agent_id": source.agent_id,
            "source_agent_type": source.agent_type,
            "context": context,
            "task_context": {},
            "success": success,
            "session_id": source.session,
        }
        if target is not None:
            event |= {
                "target_agent_id": target.agent_id,
                "target_agent_type": target.agent_type,
            }
        if seconds is not None:
            event["duration_seconds"] = seconds
        if not success:
            event["error_message"] = f"{context.get('error_type', 'error')} in {source.session}"
        self._send({"schema_version": 1, "event": event})

    def _send(self, message: dict[str, Any]) -> None:
        sent = outgoing(message)
        number = len(self.messages)
        trace = {"traceparent": f"00-{number + 1:032x}-{number + 1:016x}-01"}
        self.messages.append(Outgoing(sent.topic, sent.data, trace))

    def _tick(self) -> None:
        self._now += timedelta(milliseconds=90)  # as fast as it is sent
