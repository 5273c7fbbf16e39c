"""Commands that show what is stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from pydantic import BaseModel

from firestate.cli.connect import FileOption, ProjectOption, open_store
from firestate.cli.output import JsonOption, console, counts_text, fail, print_json, table, title
from firestate.cli.read_documents import read_document, read_documents
from firestate.errors import ConfigurationError
from firestate.limits import LEASE_SECONDS
from firestate.lookup import Parent, children_among, look_up
from firestate.queries import (
    EVERY_EVENT_TYPE,
    EVERY_STATUS,
    LOOK_UP_AGENTS,
    LOOK_UP_EVENTS,
    LOOK_UP_LARGEST,
    LOOK_UP_LONG,
    LOOK_UP_LONG_TASKS,
    LOOK_UP_MEMORIES,
    LOOK_UP_STALE,
    WORKING_STATUSES,
)
from firestate.schema.enums import (  # typer reads them at run time
    AgentStatus,  # noqa: TC001 - see above
    CoordinationEventType,  # noqa: TC001 - see above
)
from firestate.schema.ids import id_problem, memory_path
from firestate.schema.models import AgentMemory, AgentState, CoordinationEvent
from firestate.schema.serialization import to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from firestate.queries import Shape

_MOST_ECHOED = 80

M = TypeVar("M", bound=BaseModel)

LimitOption = Annotated[
    int, typer.Option("--limit", "-n", min=1, max=10_000, help="Show at most so many.")
]


def agents(
    project: ProjectOption = None,
    file: FileOption = None,
    *,
    status: Annotated[AgentStatus | None, typer.Option(help="Only with this status.")] = None,
    agent_type: Annotated[str | None, typer.Option("--type", help="Only of this type.")] = None,
    session: Annotated[str | None, typer.Option(help="Only of this session, by status.")] = None,
    parent: Annotated[
        str | None, typer.Option(help="Only those spawned by this agent id, the eldest first.")
    ] = None,
    parent_type: Annotated[
        str | None, typer.Option(help="With --parent: whose agent type is this.")
    ] = None,
    parent_session: Annotated[
        str | None, typer.Option(help="With --parent: spawned in this session of it.")
    ] = None,
    since: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES",
            min=0,
            max=10_000_000,
            help="With --status: only those so for so many minutes, the longest first.",
        ),
    ] = None,
    task_since: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES",
            min=0,
            max=10_000_000,
            help="Only those whose task is in progress for so many minutes, the longest first.",
        ),
    ] = None,
    stale: Annotated[
        bool, typer.Option("--stale", help="Only those at work whose process has died.")
    ] = False,
    lease: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=1,
            max=1_000_000_000,
            help="With --stale: the lease of the fleet, in which a living process renews an agent.",
        ),
    ] = LEASE_SECONDS,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List agents, one line for each of their sessions; those that were active last come first."""
    wanted: dict[str, object] = {
        "status": status and status.value,
        "agent_type": agent_type,
        "session_id": session,
        "parent_agent_id": parent,
    }
    store = open_store(project, file)
    shapes, before = _shapes_for(status, since, task_since)
    if stale:
        if status or before is not None:
            raise ConfigurationError("name --stale, or --status or --task-since, not both")
        shapes, before = LOOK_UP_STALE, datetime.now(UTC) - timedelta(seconds=lease)
        wanted["status"] = WORKING_STATUSES
    if (parent_type or parent_session) and parent is None:
        raise ConfigurationError("--parent-type and --parent-session need --parent: whose id?")
    if before is not None:
        wanted |= {} if task_since is None else {"task_status": "in_progress"}
    elif status is None and session is None and parent is None:
        wanted["status"] = EVERY_STATUS
    of_parent = None if parent is None else Parent(parent, parent_type, parent_session)
    found = look_up(store, shapes, wanted, high=before, limit=None if of_parent else limit)
    if of_parent is not None:
        found = islice(children_among(store, of_parent, found), limit)
    states = list(read_documents(AgentState, found))
    if as_json:
        print_json([to_json(state) for state in states])
        return
    rows = [
        (s.agent_type, s.agent_id, s.session_id, s.status.value, s.current_task, s.last_active)
        for s in states
    ]
    columns = ["type", "agent", "session", "status", "task", "last active"]
    what = "Stale agents, by session" if stale else "Agents, by session"
    console().print(table(title(what, rows, limit), columns, rows))


def _shapes_for(
    status: AgentStatus | None, since: float | None, task_since: float | None
) -> tuple[Sequence[Shape], datetime | None]:
    """Return the queries to choose from, and the time before which a status or task began."""
    if since is not None and task_since is not None:
        raise ConfigurationError("name --since or --task-since, not both")
    if since is not None and status is None:
        raise ConfigurationError("--since needs --status: since when has it been so?")
    if since is not None:
        return LOOK_UP_LONG, datetime.now(UTC) - timedelta(minutes=since)
    if task_since is not None:
        return LOOK_UP_LONG_TASKS, datetime.now(UTC) - timedelta(minutes=task_since)
    return LOOK_UP_AGENTS, None


def events(
    project: ProjectOption = None,
    file: FileOption = None,
    *,
    event_type: Annotated[
        CoordinationEventType | None, typer.Option("--type", help="Only of this type.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Only by this agent id.")] = None,
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="TYPE TYPE", help="Only from agents of the first type to those of the second."
        ),
    ] = None,
    success: Annotated[
        bool | None, typer.Option("--succeeded/--failed", help="Only with this outcome.")
    ] = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List coordination events, newest first."""
    source_type, target_type = between or (None, None)
    wanted: dict[str, object] = {
        "event_type": event_type and event_type.value,
        "source_agent_id": source,
        "source_agent_type": source_type,
        "target_agent_type": target_type,
        "success": success,
    }
    if event_type is None and source is None and between is None:
        wanted["event_type"] = EVERY_EVENT_TYPE
    stored = look_up(open_store(project, file), LOOK_UP_EVENTS, wanted, limit=limit)
    found = list(read_documents(CoordinationEvent, stored))
    if as_json:
        print_json([to_json(event) for event in found])
        return
    rows = [
        (
            event.timestamp,
            event.event_type.value,
            event.source_agent_id,
            event.target_agent_id,
            _outcome(event),
        )
        for event in found
    ]
    columns = ["when", "event", "source", "target", "outcome"]
    console().print(table(title("Coordination events", rows, limit), columns, rows))


def memory(
    agent: Annotated[
        str | None, typer.Argument(help="An agent as TYPE_ID, such as Father_agent_001.")
    ] = None,
    project: ProjectOption = None,
    file: FileOption = None,
    *,
    agent_type: Annotated[str | None, typer.Option("--type", help="Only of this type.")] = None,
    limit: LimitOption = 50,
    most: Annotated[
        bool, typer.Option("--most", help="Those with most memories first, not the latest.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what agents have learned: all of them in short, or one in full."""
    store = open_store(project, file)
    if agent is not None:
        own_type, joint, own_id = agent.partition("_")
        problem = id_problem(own_type) or id_problem(own_id) if joint else "write TYPE_ID"
        if problem:
            raise ConfigurationError(f"{agent[:_MOST_ECHOED]!r} names no agent: {problem}")
        if agent_type or most:
            raise ConfigurationError("name an agent, or list with --type and --most: not both")
        stored = store.read(memory_path(own_type, own_id))
        if stored is None:
            fail(f"no memory of {agent[:_MOST_ECHOED]}: `firestate memory` lists those there are")
        one = read_document(AgentMemory, stored)
        print_json(to_json(one)) if as_json else _print_memory(one)
        return
    ways = LOOK_UP_LARGEST if most else LOOK_UP_MEMORIES
    found = look_up(store, ways, {"agent_type": agent_type}, limit=limit)
    memories = list(read_documents(AgentMemory, found))
    if as_json:
        print_json([to_json(one) for one in memories])
        return
    rows = [
        (
            f"{one.agent_type}_{one.agent_id}",
            one.learning_context["sessions"],
            one.memory_count,
            sum(one.learning_context["tasks"].values()),
            _percent(one.performance_insights.get("success_rate")),
            one.performance_insights.get("best_task_kind"),
            one.last_memory_sync,
        )
        for one in memories
    ]
    columns = ["agent", "sessions", "memories", "tasks", "success", "best at", "last change"]
    console().print(table(title("Agents' memories", rows, limit), columns, rows))


def _print_memory(one: AgentMemory) -> None:
    out = console()
    insights = one.performance_insights
    rows = [
        ("sessions", one.learning_context["sessions"]),
        ("memories", one.memory_count),
        ("  by type", counts_text(one.memory_types_count)),
        ("  by importance", counts_text(one.importance_distribution)),
        ("tasks", counts_text(one.learning_context["tasks"])),
        ("success rate", _percent(insights.get("success_rate"))),
        ("best at", insights.get("best_task_kind")),
        ("worst at", insights.get("worst_task_kind")),
        ("last change", one.last_memory_sync),
    ]
    out.print(table(f"{one.agent_type}_{one.agent_id}", ["", "value"], rows))
    columns = ["pattern", "tries", "success", "mean ms", "last seen"]
    patterns = [
        (
            f"{group[:-1]} {name}",
            p["tries"],
            _percent(p["success_rate"]),
            p["mean_duration_ms"],
            p["last_seen"],
        )
        for group in ("kinds", "tools")
        for name, p in sorted(one.learned_patterns[group].items())
    ]
    out.print(table("Learned patterns", columns, patterns))
    decisions = [
        (d["at"], d["decision"], d.get("kind") or d.get("target_agent_id"), d["outcome"])
        for d in one.decision_history[:10]
    ]
    out.print(table("Latest decisions", ["when", "decision", "what", "outcome"], decisions))


def _outcome(event: CoordinationEvent) -> str:
    if event.success:
        return "ok"
    return event.error_message or ("cancelled" if event.cancelled else "failed")


def _percent(rate: float | None) -> str | None:
    return None if rate is None else f"{rate:.0%}"
