"""The command `firestate system`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from firestate.cli.connect import FileOption, ProjectOption, open_store
from firestate.cli.output import JsonOption, console, counts_text, fail, print_json, table
from firestate.cli.read_documents import read_document
from firestate.cli.terminal_text import safe_text
from firestate.pipeline.sweep import swept_figures
from firestate.schema.ids import GLOBAL_CONFIG
from firestate.schema.models import SystemState
from firestate.schema.serialization import to_json

if TYPE_CHECKING:
    from collections.abc import Mapping


def system(
    project: ProjectOption = None, file: FileOption = None, *, as_json: JsonOption = False
) -> None:
    """Show the system as a whole: agents, sessions, tasks, coordination, errors, controls."""
    store = open_store(project, file)
    stored = store.read(GLOBAL_CONFIG)
    if stored is None:
        fail("nothing is stored yet: publish a message, or run `firestate demo`")
    # What the sweep counts every 15 minutes is counted here and now.
    stored.data["system_metrics"] |= swept_figures(store, store.now())
    state = read_document(SystemState, stored)
    if as_json:
        print_json(to_json(state))
        return
    out = console()
    out.print(system_table(stored.data))
    if state.emergency_stop:
        out.print(emergency_text(stored.data))


def emergency_text(data: Mapping[str, Any]) -> Text:
    """Give the line that says that all agents are to stop, and why."""
    reason = data.get("emergency_reason") or "no reason given"
    return Text(safe_text(f"EMERGENCY STOP: {reason}"), style="bold red")


def system_table(data: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a rich table
    """Give the counters of `global_config` as a table of name and value.

    One that was written by an earlier release may lack any of them.
    """
    metrics, errors = data["system_metrics"], data["error_counts"]
    coordination = metrics.get("coordination", {})
    by_type = {name: each["total"] for name, each in coordination.get("by_type", {}).items()}
    rows = [
        ("agents ever spawned", data["total_agents_spawned"]),
        ("agents now", data["current_agent_count"]),
        ("  by status", counts_text(metrics.get("agents_by_status", {}))),
        ("  by type", counts_text(metrics.get("agents_by_type", {}))),
        ("  stale", metrics.get("stale_agent_count")),
        ("active sessions", metrics.get("active_session_count")),
        ("tasks", counts_text(metrics.get("tasks", {}))),
        ("coordination events", coordination.get("total")),
        ("  succeeded", coordination.get("succeeded")),
        ("  cancelled", coordination.get("cancelled") or None),
        ("  by type", counts_text(by_type)),
        ("errors by event type", counts_text(errors.get("by_event_type", {}))),
        ("errors by error type", counts_text(errors.get("by_error_type", {}))),
        ("failed tasks by error type", counts_text(errors.get("by_task_error_type", {}))),
        ("in quarantine", metrics.get("quarantine_count")),
        ("feature flags", counts_text(data.get("feature_flags", {}))),
        ("folded", metrics.get("folded_at")),
    ]
    return table("System", ["", "value"], [row for row in rows if row[1] not in (None, "-")])
