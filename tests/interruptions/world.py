"""One manager with an agent that is interrupted again and again, and what is stored then."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from firestate import StateManager
from firestate.audit.full import FullAudit
from firestate.errors import UnavailableError
from firestate.queries import ALL_KEPT

if TYPE_CHECKING:
    from pathlib import Path

    from firestate import Agent
    from firestate.schema.models import AgentState, CoordinationEvent

_NEWEST_EVENTS, _ALL_EVENTS = 20, 10_000  # to read all of them after each call takes long
MOST = 80
"""Interruptions of one world: so many children and tasks a state lists without leaving any out."""
_MOST_MINUTES = 3


def settled(manager: StateManager) -> bool:
    """Whether all is sent and counted: in a minute, or in more on a machine that still gets on."""
    backend: Any = manager._runtime.backend
    left = None
    for _ in range(_MOST_MINUTES - 1):
        try:
            return manager.settle(60)
        except UnavailableError:
            before, left = left, backend.store().triggers.count()
            if before is not None and left >= before:
                raise
    return manager.settle(60)


class World:
    """A manager, in memory or on disk, and an agent."""

    def __init__(
        self, folder: Path | None, *, as_next_process: bool = False, **options: Any
    ) -> None:
        """Open it; `as_next_process` finds there what another one has left."""
        self.folder = folder
        self._options = {"snapshot_interval_seconds": 0.02, "patience_seconds": 30.0, **options}
        self.manager = self._opened()
        if as_next_process:
            self.agent = self.manager.take_up("Worker", "w", "s")
        else:
            self.agent = self.manager.start("Worker", "w", session_id="s")
            self.other = self.manager.start("Helper", "h", session_id="s")
        self.made: dict[int, Agent] = {}
        self.results: dict[int, Any] = {}
        self.marks = 0
        self.is_marked = False
        self.most_events = _NEWEST_EVENTS

    def _opened(self) -> StateManager:
        return StateManager(project="", folder=self.folder, **self._options)

    def reopen(self) -> None:
        """Close the manager, and go on by another one as the next process would."""
        self.manager.close()
        if self.folder is None:
            return
        self.manager = self._opened()
        self.agent = self.manager.take_up("Worker", "w", "s")

    def close(self) -> None:
        self.manager.close()

    def state_of(self, *identity: str) -> AgentState | None:
        """Return the state of an agent as it is read; its session may be left out."""
        return self.manager.load(*identity).value

    @property
    def state(self) -> AgentState:
        """The agent's state as it is read."""
        found = self.state_of(*self.agent.identity)
        assert found is not None, "the agent has no state"
        return found

    def task(self, task_id: str) -> dict[str, Any]:
        """Return the entry of a task in the history, or nothing."""
        history = self.state.task_history
        found = [each for each in history if each["task_id"] == task_id]
        assert len(found) <= 1, f"task {task_id} is there {len(found)} times"
        return dict(found[0]) if found else {}

    def events(self, case: str) -> Counter[int]:
        """Return how often an event with each number is there."""
        return Counter(each.context["n"] for each in self._events() if self._is(each, case))

    @staticmethod
    def _is(event: CoordinationEvent, case: str) -> bool:
        return event.context.get("case") == case

    def _events(self) -> list[CoordinationEvent]:
        agent_id = self.agent.identity.agent_id
        return list(self.manager.events(agent_id=agent_id, limit=self.most_events).value)

    def has_event(self, case: str, number: int) -> bool:
        count = self.events(case)[number]
        assert count <= 1, f"event {case} {number} is there {count} times"
        return count == 1

    def mark(self, subject: Agent) -> None:
        """Have an agent save and remember something: that must work, and be what is read."""
        self.marks += 1
        self.is_marked = self.is_marked or subject.identity == self.agent.identity
        subject.save()
        subject.remember("marker", self.marks)
        assert not subject.fenced, "it is fenced"
        read = self.state_of(*subject.identity)
        assert read is not None, "nothing is stored"
        assert read.memory_context.get("marker") == self.marks, "an acknowledged note is lost"
        assert subject.state == read, "the memory is not what is stored"

    def verify(self) -> list[str]:
        """Let all be sent and counted; return what is wrong with what is stored then."""
        self.most_events = _ALL_EVENTS
        if not settled(self.manager):
            return ["what was saved is not sent in a minute"]
        problems: list[str] = []
        store = self.manager._runtime.backend.store()
        for agent in (self.agent, *self.made.values()):
            found = store.read(agent.identity.state_path)
            held = self.state_of(*agent.identity)
            if held is None:
                continue  # deleted, or never saved
            if found is None:
                problems.append(f"{agent.identity} is read, and not stored")
            elif dict(found.data["memory_context"]) != dict(held.memory_context):
                problems.append(f"the stored notes of {agent.identity} are not those that are read")
        mark = self.state.memory_context.get("marker", 0)
        if mark > self.marks or (self.is_marked and not mark):
            problems.append(f"the marker is {mark}, not {self.marks}")
        drift = FullAudit(store, timedelta(0)).run().findings
        problems += [f"drift: {each.as_json()}" for each in drift[:5]]
        kept = [each.data["code"] for each in store.query(ALL_KEPT.query())]
        problems += [f"a message is in quarantine: {code}" for code in kept[:5]]
        return problems
