"""What agents have learned, in a form to decide by, and to put into a prompt. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from firestate.counters.task_counts import TaskCounts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from firestate.schema.models import AgentMemory

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Pattern:
    """How tasks of one kind, or with one tool, went; `tries` leaves out the cancelled."""

    name: str
    tries: int
    successes: int
    mean_duration_ms: float | None
    last_seen: datetime | None
    cancelled: int = 0

    @property
    def success_rate(self) -> float:
        """The share of tries that completed, 0 to 1."""
        return self.successes / self.tries if self.tries else 0.0


@dataclass(frozen=True, slots=True)
class Experience:
    """What one agent, or all of a type, have learned over all sessions.

    `kinds` and `tools` are sorted, the best first: by success rate, then by tries; last those of
    which all was cancelled. `decisions` are
    the newest first: tasks ended, hand-overs made, agents spawned, each with its outcome.
    """

    agents: int = 0
    sessions: int = 0
    memories: int = 0
    kinds: Sequence[Pattern] = field(default_factory=tuple)
    tools: Sequence[Pattern] = field(default_factory=tuple)
    decisions: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    @property
    def best_kind(self) -> Pattern | None:
        """The kind of task that goes best."""
        return self.kinds[0] if self.kinds else None

    @property
    def worst_kind(self) -> Pattern | None:
        """The kind of task that goes worst, where there is more than one that was tried."""
        return _worst(self.kinds)

    @property
    def best_tool(self) -> Pattern | None:
        """The tool with which tasks go best."""
        return self.tools[0] if self.tools else None

    @property
    def worst_tool(self) -> Pattern | None:
        """The tool with which tasks go worst, where there is more than one that was tried."""
        return _worst(self.tools)

    def past_decisions(self, kind: str) -> list[Mapping[str, Any]]:
        """Give the decisions on tasks of a kind, the newest first."""
        return [each for each in self.decisions if each.get("kind") == kind]

    def as_prompt(self, kind: str | None = None) -> str:
        """Give it as a few lines for a prompt: for tasks of one `kind`, or in general."""
        if not self.kinds and not self.decisions:
            return "No experience yet."
        # What was only ever cancelled has taught nothing.
        kinds = [p for p in self.kinds if kind in (None, p.name) and p.tries]
        tools = [p for p in self.tools if p.tries]
        lines = [f"Experience from {self.sessions} sessions of {self.agents} agents:"]
        lines += [f"- {_sentence('tasks of the kind', each)}" for each in kinds[:_SHOWN]]
        if kind is None and len(kinds) > _SHOWN:
            lines.append(f"- {_sentence('worst: tasks of the kind', kinds[-1])}")
        lines += [f"- {_sentence('tasks with the tool', each)}" for each in tools[:_SHOWN]]
        past = self.decisions if kind is None else self.past_decisions(kind)
        lines += [f"- earlier: {_decision(each)}" for each in past[:_SHOWN]]
        return "\n".join(lines)


def experience_from(memories: Iterable[AgentMemory]) -> Experience:
    """Add memories up."""
    kinds: dict[str, TaskCounts] = {}
    tools: dict[str, TaskCounts] = {}
    agents = sessions = entries = 0
    decisions: list[Mapping[str, Any]] = []
    for memory in memories:
        agents += 1
        sessions += memory.learning_context.get("sessions", 0)
        entries += memory.memory_count
        _add(kinds, memory.learned_patterns.get("kinds", {}))
        _add(tools, memory.learned_patterns.get("tools", {}))
        who = {"agent_type": memory.agent_type, "agent_id": memory.agent_id}
        decisions += [who | each for each in memory.decision_history]
    decisions.sort(key=lambda each: each["at"], reverse=True)
    return Experience(agents, sessions, entries, _ranked(kinds), _ranked(tools), tuple(decisions))


def _add(group: dict[str, TaskCounts], patterns: Mapping[str, Mapping[str, Any]]) -> None:
    for name, pattern in patterns.items():
        # A memory counts as timed only what it says was.
        one = TaskCounts.from_fields({"tries": 0, "successes": 0, "timed": 0, **pattern})
        group[name] = group.get(name, TaskCounts()) + one


def _ranked(group: Mapping[str, TaskCounts]) -> tuple[Pattern, ...]:
    found = [
        Pattern(
            name,
            each.tries,
            each.successes,
            each.duration_ms / each.timed if each.timed else None,
            each.last_seen,
            each.cancelled,
        )
        for name, each in group.items()
    ]
    return tuple(sorted(found, key=lambda p: (not p.tries, -p.success_rate, -p.tries, p.name)))


def _worst(patterns: Sequence[Pattern]) -> Pattern | None:
    tried = [each for each in patterns if each.tries]
    return tried[-1] if len(tried) > 1 else None


def _sentence(what: str, pattern: Pattern) -> str:
    took = (
        ""
        if pattern.mean_duration_ms is None
        else f", {pattern.mean_duration_ms / 1000:.1f} s on average"
    )
    return f"{what} {pattern.name!r}: {pattern.successes} of {pattern.tries} tries succeeded{took}"


def _decision(each: Mapping[str, Any]) -> str:
    what = each.get("kind") or each.get("target_agent_type") or ""
    return f"{each['decision']} {what} ({each.get('id', '')}): {each['outcome']}"
