"""The command `firestate clean-up`: sessions that have ended long ago are deleted."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from firestate.cli.connect import FileOption, ProjectOption, open_store, writable_store
from firestate.cli.output import JsonOption, console, fail, notes, print_json, table
from firestate.cli.quarantine_selection import Done, YesOption, one_by_one
from firestate.errors import ConfigurationError
from firestate.operations.clean_up import delete_ended, ended_sessions
from firestate.schema.ages import age_problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from firestate.operations.clean_up import EndedSession

_MOST_SHOWN = 20


def clean_up(
    days: Annotated[
        float,
        typer.Option(
            "--older-than-days",
            metavar="N",
            help="Only sessions that were last active more than N days ago; more than 0.",
        ),
    ],
    project: ProjectOption = None,
    file: FileOption = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be deleted, and delete nothing.")
    ] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete the states of sessions that have ended, with the status terminated, long ago.

    An agent that is idle, active, busy or in error is never deleted. It first shows what would
    go, and asks; elsewhere than on a terminal it needs --yes. What a session has contributed goes
    with it, tasks and what its agent has learned there; that it was spawned stays counted.

    Example: `firestate clean-up --older-than-days 30 --dry-run`
    """
    if problem := age_problem(days):
        raise ConfigurationError(f"--older-than-days {problem}")
    store = open_store(project, file)
    before = store.now() - timedelta(days=days)
    # All are looked up before any is deleted: what is shown is what goes.
    found = list(ended_sessions(store, before))
    result: dict[str, Any] = {"dry_run": dry_run, "before": before, "found": len(found)}
    if dry_run:
        if as_json:
            print_json(result | {"sessions": [_as_json(each) for each in found]})
        else:
            _show(console(), found, days)
        return
    _show(notes(), found, days)
    _confirm(found, sure=yes)
    done = Done()
    if found:
        store = writable_store(project, file)
        done = one_by_one(
            "Deleting",
            found,
            lambda each: delete_ended(store, each.identity, before, store.now()),
        )
    if as_json:
        print_json(result | {"deleted": done.number, "kept": done.gone, "damaged": done.damaged})
    else:
        console().print(f"{done.number:,} deleted.")
        if done.gone:
            text = f"firestate: {done.gone:,} were taken up or deleted meanwhile"
            notes().print(text, style="yellow")
    raise typer.Exit(done.exit_code)


def _show(out: Console, found: Sequence[EndedSession], days: float) -> None:
    if not found:
        out.print(f"No session has ended that was last active more than {days:g} days ago.")
        return
    by_type = Counter(each.identity.agent_type for each in found)
    rows = [(agent_type, number) for agent_type, number in sorted(by_type.items())]
    out.print(f"Ended, and last active more than {days:g} days ago: {len(found):,} sessions.")
    out.print(table("", ["type", "sessions"], rows))
    shown = [(*each.identity, each.last_active) for each in found[:_MOST_SHOWN]]
    out.print(table("", ["type", "agent", "session", "last active"], shown))
    if more := len(found) - len(shown):
        out.print(f"... and {more:,} more: --dry-run --json lists all.")


def _confirm(found: Sequence[EndedSession], *, sure: bool) -> None:
    if sure or not found:
        return
    if not sys.stdin.isatty():
        message = "nobody can be asked here: look with --dry-run, then delete with --yes"
        raise ConfigurationError(message)
    if not typer.confirm(f"Delete the states of {len(found):,} sessions for good?", err=True):
        fail("nothing was done")


def _as_json(session: EndedSession) -> dict[str, Any]:
    return session.identity._asdict() | {"last_active": session.last_active}
