"""A loop of mixed calls of one agent that can be interrupted anywhere, and what it must leave.

What a call did counts as acknowledged when it has returned; where it was interrupted, its effect
may be there or not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate import Agent, StateManager


@dataclass
class Ledger:
    """What was acknowledged of the calls of one agent."""

    notes: dict[str, int] = field(default_factory=dict)
    """The value of each note by its key: keys are few, and used again."""
    unsure_notes: dict[str, set[int]] = field(default_factory=dict)
    """Values that an interrupted call may have given since."""
    events: set[int] = field(default_factory=set)
    unsure_events: set[int] = field(default_factory=set)
    tasks: set[int] = field(default_factory=set)
    children: set[int] = field(default_factory=set)
    unsure_children: set[int] = field(default_factory=set)


_KEYS = 25
SPAWN_EVERY = 40
_COMPARED_TASKS = 20


def key_of(number: int) -> str:
    """Return under which key a call with a number puts its note."""
    return f"k{number % _KEYS}"


class MixedCalls:
    """Calls one after the other, each with a number of its own."""

    def __init__(
        self,
        manager: StateManager,
        agent: Agent,
        acknowledged: Callable[[str, int], None] = lambda *_: None,
    ) -> None:
        self.manager = manager
        self.agent = agent
        self.ledger = Ledger()
        self.number = 0
        self._acknowledged = acknowledged

    def next(self) -> None:
        """Make one call; when that is interrupted, its effect is noted as unsure before."""
        self.number += 1
        calls = (self._remember, self._event, self._task, self._handoff, self._read)
        call = self._spawn if self.number % SPAWN_EVERY == 0 else calls[self.number % len(calls)]
        call(self.number)

    def _remember(self, number: int) -> None:
        key = key_of(number)
        ledger = self.ledger
        ledger.unsure_notes.setdefault(key, set()).add(number)
        self.agent.remember(key, number)
        ledger.notes[key] = number
        ledger.unsure_notes[key] = set()
        self._acknowledged("note", number)

    def _event(self, number: int) -> None:
        self.ledger.unsure_events.add(number)
        self.agent.collaborated(("Helper", "h"), context={"n": number})
        self.ledger.events.add(number)
        self._acknowledged("event", number)

    def _handoff(self, number: int) -> None:
        self.ledger.unsure_events.add(number)
        with self.agent.handoff(("Helper", "h"), context={"n": number}):
            pass
        self.ledger.events.add(number)
        self._acknowledged("event", number)

    def _task(self, number: int) -> None:
        with self.agent.task(f"t{number}", "code"):
            pass
        self.ledger.tasks.add(number)
        self._acknowledged("task", number)

    def _read(self, _: int) -> None:
        assert self.manager.load(*self.agent.identity).value is not None

    def _spawn(self, number: int) -> None:
        self.ledger.unsure_children.add(number)
        child = self.agent.spawn("Child", f"c{number}", context={"n": number})
        self.ledger.children.add(number)
        self._acknowledged("child", number)
        child.terminate()

    def problems(self) -> list[str]:
        """Compare what is stored with what was acknowledged."""
        return problems(self.manager, self.agent.identity, self.ledger)


def problems(manager: StateManager, identity: tuple[str, ...], ledger: Ledger) -> list[str]:
    """Return what is not as a ledger says, as read by any manager."""
    found: list[str] = []
    state = manager.load(*identity).value
    if state is None:
        return ["the agent is not there"]
    for key, number in ledger.notes.items():
        allowed = {number, *ledger.unsure_notes.get(key, ())}
        if state.memory_context.get(key) not in allowed:
            found.append(f"{key} is {state.memory_context.get(key)}, not {sorted(allowed)}")
    found += _compare_tasks(state.task_history, ledger)
    events = manager.events(agent_id=identity[1], limit=100_000).value
    numbers = [each.context["n"] for each in events if each.event_type.value != "spawn"]
    found += _compare("events", numbers, ledger.events, ledger.unsure_events)
    spawns = [each.context["n"] for each in events if each.event_type.value == "spawn"]
    found += _compare("spawn events", spawns, ledger.children, ledger.unsure_children)
    children = manager.children(*identity, limit=100_000).value
    made = [int(each.agent_id[1:]) for each in children]
    found += _compare("children", made, ledger.children, ledger.unsure_children)
    if half := set(made) ^ set(spawns):
        found.append(f"of these spawns half is there: {sorted(half)}")
    return found


def _compare(what: str, there: list[int], sure: set[int], unsure: set[int]) -> list[str]:
    found = []
    if lost := sure - set(there):
        found.append(f"{what} are lost: {sorted(lost)[:10]}")
    if unknown := set(there) - sure - unsure:
        found.append(f"{what} that nobody has made: {sorted(unknown)[:10]}")
    if len(there) != len(set(there)):
        found.append(f"{what} are there twice")
    return found


def _compare_tasks(history: list[dict[str, Any]], ledger: Ledger) -> list[str]:
    """Compare the newest tasks: the history holds no more than 200, and those that run on."""
    kept = {int(each["task_id"][1:]): each["status"] for each in history if "task_id" in each}
    newest = sorted(ledger.tasks)[-_COMPARED_TASKS:]
    lost = [(each, kept.get(each)) for each in newest if kept.get(each) != "completed"]
    return [f"tasks are not completed: {lost}"] if lost else []
