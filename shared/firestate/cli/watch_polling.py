"""Looking at the system again and again, for no more reads than there is news."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from firestate.cli.read_documents import read_document
from firestate.queries import BY_EVENT_TYPE, BY_STATUS, EVERY_EVENT_TYPE, EVERY_STATUS
from firestate.schema.ids import GLOBAL_CONFIG
from firestate.schema.models import SystemState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firestate.stores.protocol import Store, Stored

AGENT_FIELDS = ("agent_type", "agent_id", "session_id", "status", "current_task", "last_active")
EVENT_FIELDS = (
    "event_id",
    "timestamp",
    "event_type",
    "source_agent_id",
    "target_agent_id",
    "success",
    "cancelled",
    "error_message",
)
_LONG = ("active_sessions",)
"""Of `global_config`, what may be a thousand names: counted beside, and in no line of changes."""


class PolledSystem(NamedTuple):
    """What was seen: the counters, the agents that were active last, the newest events."""

    system: Stored | None = None
    agents: tuple[Stored, ...] = ()
    events: tuple[Stored, ...] = ()


class SystemPoller:
    """One look after the other.

    Each reads `global_config`. Only where that was written since the last one, which is once a
    second at most, are agents and events asked for: each costs one read more. What changes nothing
    that is counted, such as a sign of life, is not seen before the next thing that does.
    """

    def __init__(self, store: Store, *, agents: int, events: int) -> None:
        """Take a store, and how many agents and events to ask it for."""
        self._store = store
        self._agents = agents
        self._events = events
        self.last = PolledSystem()
        """What was seen last."""

    def look(self) -> PolledSystem:
        """Look now. Raises DamagedDocumentError where the counters cannot be read."""
        system = self._store.read(GLOBAL_CONFIG)
        known = self.last.system
        if system is None or (known is not None and known.token == system.token):
            return self.last
        read_document(SystemState, system)  # what cannot be shown is named
        agents = BY_STATUS.query({"status": EVERY_STATUS}, limit=self._agents, fields=AGENT_FIELDS)
        events = BY_EVENT_TYPE.query(
            {"event_type": EVERY_EVENT_TYPE}, limit=self._events, fields=EVENT_FIELDS
        )
        self.last = PolledSystem(
            system,
            tuple(self._store.query(agents)) if self._agents else (),
            tuple(self._store.query(events)) if self._events else (),
        )
        return self.last


def changes(before: PolledSystem, now: PolledSystem) -> Iterator[dict[str, Any]]:
    """Give what is new in a look, the oldest first: agents, events, and then the counters."""
    for kind, then, listed in (
        ("agent", before.agents, now.agents),
        ("event", before.events, now.events),
    ):
        known = {each.path: each.data for each in then}
        for each in reversed(listed):
            if known.get(each.path) != each.data:
                yield {"kind": kind, **each.data}
    if now.system is not None and (before.system is None or before.system.data != now.system.data):
        counters = {name: each for name, each in now.system.data.items() if name not in _LONG}
        yield {"kind": "counters", **counters}


def line_of(look: PolledSystem) -> str:
    """Give the counters as one line."""
    data = look.system.data if look.system else {}
    metrics = data.get("system_metrics", {})
    tasks, coordination = metrics.get("tasks", {}), metrics.get("coordination", {})
    parts = [
        f"agents now {data.get('current_agent_count', 0):,}{_by_status(metrics)}",
        f"ever {data.get('total_agents_spawned', 0):,}",
        f"tasks completed {tasks.get('completed', 0):,}, failed {tasks.get('failed', 0):,}",
        f"events {coordination.get('total', 0):,}, succeeded {coordination.get('succeeded', 0):,}",
    ]
    if data.get("emergency_stop"):
        parts.append("EMERGENCY STOP")
    return " · ".join(parts)


def _by_status(metrics: dict[str, Any]) -> str:
    counts = metrics.get("agents_by_status", {})
    listed = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()) if count)
    return f" ({listed})" if listed else ""
