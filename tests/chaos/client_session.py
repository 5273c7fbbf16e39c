"""What one client knows of the session that it writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from firestate.schema.values import time_text

if TYPE_CHECKING:
    from datetime import datetime

_TOTALS = ("tries", "successes", "cancelled", "duration_ms")


@dataclass
class ClientSession:
    """One agent in one session, as the client that writes it knows it."""

    agent_type: str
    agent_id: str
    session_id: str
    writer: str
    epoch: int
    created_at: datetime
    uses_totals: bool = False
    revision: int = 0
    status: str = "idle"
    tasks: list[dict[str, Any]] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)
    totals: dict[str, dict[str, int]] = field(default_factory=dict)
    beats: int = 0
    deleted: bool = False

    def work(self, task_id: str, kind: str, outcome: str, seconds: float, now: datetime) -> None:
        """Note a task that has ended, in the history and in the totals."""
        entry = {
            "task_id": task_id,
            "kind": kind,
            "tool": "editor",
            "status": outcome,
            "duration_seconds": seconds,
            "ended_at": time_text(now),
            "session_id": self.session_id,
        }
        self.tasks = [*self.tasks, entry]
        total = self.totals.get(kind, dict.fromkeys(_TOTALS, 0))
        added = {
            "tries": 1,
            "successes": int(outcome == "completed"),
            "cancelled": int(outcome == "cancelled"),
            "duration_ms": round(seconds * 1000),
        }
        self.totals = self.totals | {kind: {name: total[name] + added[name] for name in total}}

    def saved(self, now: datetime) -> dict[str, Any]:
        """Give the next message with the whole state."""
        state: dict[str, Any] = {
            **self._identity(),
            "status": self.status,
            "created_at": time_text(self.created_at),
            "last_updated": time_text(now),
            "last_active": time_text(now),
            "memory_context": self.memory,
            "task_history": self.tasks,
            "performance_metrics": {"beats": float(self.beats)},
            "agent_config": {},
            "tools_enabled": ["editor"],
        }
        if self.uses_totals:
            state["task_totals"] = {"kinds": self.totals}
        return self._next() | {"state": state}

    def deletion(self, now: datetime) -> dict[str, Any]:
        """Give the next message, by which the state is deleted."""
        self.deleted = True
        return self._next() | {"deleted": self._identity() | {"deleted_at": time_text(now)}}

    def _identity(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("agent_id", "agent_type", "session_id")}

    def _next(self) -> dict[str, Any]:
        self.revision += 1
        return {"epoch": self.epoch, "revision": self.revision, "writer": self.writer}
