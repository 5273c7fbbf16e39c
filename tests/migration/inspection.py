"""What is seen of an engine that something was migrated into."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from firestate.audit.full import FullAudit
from firestate.schema.ids import GLOBAL_CONFIG
from tests.harness import everything

if TYPE_CHECKING:
    from firestate.local.engine import LocalEngine

STATE = "agent_states/Developer_dev_1_s1"


def settled(engine: LocalEngine) -> int:
    """Let all be counted; give how many things are not as the documents say."""
    engine.settle()
    return FullAudit(engine.store, timedelta(0)).run().drift


def counts(engine: LocalEngine) -> dict[str, Any]:
    """Give the current counts of the system, without the total of agents ever spawned."""
    engine.settle()
    stored = engine.store.read(GLOBAL_CONFIG)
    assert stored is not None
    metrics = {k: v for k, v in stored.data["system_metrics"].items() if k != "folded_at"}
    return {
        **{k: stored.data[k] for k in ("active_sessions", "current_agent_count", "error_counts")},
        **metrics,
    }


def memories(engine: LocalEngine) -> dict[str, Any]:
    """Give the agents' memories, without when they were last changed."""
    return {
        path: {k: v for k, v in data.items() if k not in ("last_memory_sync", "counted")}
        for path, data in everything(engine.store).items()
        if path.startswith("agent_memory/") and "/sessions/" not in path
    }


def visible(engine: LocalEngine) -> list[str]:
    """Give the migrated documents that can be seen."""
    return [
        path
        for path, data in everything(engine.store).items()
        if (path.startswith("agent_states/") and data["epoch"] == 0 and not data.get("deleted"))
        or "migrated_by" in data
    ]


def paths(engine: LocalEngine) -> list[str]:
    rows = engine.store._file.execute("SELECT path FROM documents", ())
    return [path for (path,) in rows]
