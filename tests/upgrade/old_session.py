"""What one client of the release before knows of the session that it writes, and what it says.

Messages of version 1, written out as they are on the wire, not made by classes, which may say
another version by now. In `task_totals` a cancelled task is among the tries, as version 1 has it;
they come with a session's 201st task, or from its first on where a client keeps totals of its own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

TOOLS = ("editor", "shell", "browser")

_COUNTS = ("tries", "successes", "cancelled", "duration_ms", "timed")
_OWN_COUNTS = _COUNTS[:4]
_MOST_HISTORY = 200


class Names(NamedTuple):
    """Which agent, in which session."""

    agent_type: str
    agent_id: str
    session_id: str


@dataclass
class OldSession:
    """One agent in one session, as the client that writes it knows it."""

    names: Names
    writer: str
    epoch: int
    created_at: datetime
    own_totals: bool
    parent: str | None = None
    revision: int = 0
    status: str = "idle"
    history: list[dict[str, Any]] = field(default_factory=list)
    kinds: dict[str, dict[str, Any]] = field(default_factory=dict)
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    trimmed: bool = False
    memory: dict[str, Any] = field(default_factory=dict)
    children: list[str] = field(default_factory=list)
    running: str | None = None
    beats: int = 0
    deleted: bool = False

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be expected of it."""
        return self.deleted or self.status == "terminated"

    def begin(self, task_id: str, kind: str, now: datetime) -> None:
        """Put a task into the history as in progress."""
        self.running, self.status = task_id, "busy"
        self._append(self.entry(task_id, kind, "in_progress") | {"started_at": now.isoformat()})

    def end(self, entry: dict[str, Any], now: datetime) -> None:
        """Note a task that has ended, in the history and in the totals."""
        ended = {**entry, "ended_at": now.isoformat()}
        if begun := [each for each in self.history if each["task_id"] == entry["task_id"]]:
            ended = {**begun[0], **ended}
            self.history = [ended if each is begun[0] else each for each in self.history]
        self.running = None
        for group, name in ((self.kinds, ended["kind"]), (self.tools, ended["tool"])):
            _count(group, name, ended)
        if not begun:
            self._append(ended)

    def saved(self, now: datetime) -> dict[str, Any]:
        """Return the next message with the whole state."""
        at = now.isoformat()
        return self._next() | {
            "state": {
                **self.names._asdict(),
                "status": self.status,
                "created_at": self.created_at.isoformat(),
                "last_updated": at,
                "last_active": at,
                "memory_context": self.memory,
                "task_history": self.history,
                "performance_metrics": {"beats": float(self.beats)},
                "agent_config": {"model": "m"},
                "tools_enabled": list(TOOLS),
                "current_task": self.running,
                "task_status": "in_progress" if self.running else None,
                "parent_agent_id": self.parent,
                "child_agent_ids": self.children,
                "collaboration_context": {},
                "task_totals": self._totals(),
            }
        }

    def deletion(self, now: datetime) -> dict[str, Any]:
        """Return the next message, by which the state is deleted."""
        self.deleted = True
        return self._next() | {"deleted": self.names._asdict() | {"deleted_at": now.isoformat()}}

    def outcomes(self) -> Counter[str]:
        """Return how many tasks of it ended how, as its last message says."""
        kinds = [] if self.deleted else self.kinds.values()
        tries, done, cancelled = (sum(kind[name] for kind in kinds) for name in _COUNTS[:3])
        return Counter(completed=done, cancelled=cancelled, failed=tries - done - cancelled)

    def entry(self, task_id: str, kind: str, status: str) -> dict[str, Any]:
        """Return an entry of the history."""
        session_id = self.names.session_id
        return {"task_id": task_id, "kind": kind, "status": status, "session_id": session_id}

    def _append(self, entry: dict[str, Any]) -> None:
        history = [*self.history, entry]
        self.trimmed |= len(history) > _MOST_HISTORY
        self.history = history[-_MOST_HISTORY:]

    def _totals(self) -> dict[str, Any] | None:
        if not (self.own_totals or self.trimmed):
            return None
        if self.trimmed:
            return {"kinds": self.kinds, "tools": self.tools}
        # A client's own: of its kinds alone, and all of them timed.
        return {"kinds": {k: {n: one[n] for n in _OWN_COUNTS} for k, one in self.kinds.items()}}

    def _next(self) -> dict[str, Any]:
        self.revision += 1
        order = {"epoch": self.epoch, "revision": self.revision}
        return {"schema_version": 1, **order, "writer": self.writer}


def _count(group: dict[str, dict[str, Any]], name: str, ended: dict[str, Any]) -> None:
    known = group.get(name, dict.fromkeys(_COUNTS, 0))
    seconds = ended.get("duration_seconds")
    one = {
        "tries": 1,
        "successes": int(ended["status"] == "completed"),
        "cancelled": int(ended["status"] == "cancelled"),
        "duration_ms": round((seconds or 0) * 1000),
        "timed": int(seconds is not None),
    }
    group[name] = {key: known[key] + one[key] for key in _COUNTS} | {"last_seen": ended["ended_at"]}
