"""The commands `firestate quarantine ...`: what was refused, looked at, sent again or dropped."""

from __future__ import annotations

from typing import Annotated

import typer

from firestate.cli.connect import FileOption, ProjectOption, open_publisher, open_store
from firestate.cli.output import JsonOption, console, notes, print_json, table, title
from firestate.cli.quarantine_selection import (
    AllOption,
    CodeOption,
    Done,
    IdArguments,
    YesOption,
    chosen,
    confirm,
    one_by_one,
)
from firestate.cli.quarantine_show import show
from firestate.cli.read_commands import LimitOption  # noqa: TC001 - typer reads it at run time
from firestate.cli.read_documents import read_documents
from firestate.cli.terminal_text import cut, safe_json, safe_text
from firestate.lookup import look_up
from firestate.operations.quarantined_messages import drop_quarantined
from firestate.operations.republish_quarantined import republish_quarantined
from firestate.queries import LOOK_UP_KEPT, WAITING_OR_NOT
from firestate.schema.quarantine_document import QuarantineDocument
from firestate.schema.serialization import to_json

app = typer.Typer(help="Look at messages that were refused; publish them again, or drop them.")

_SHOWN_ID = 12
_MOST_TEXT = 80


@app.command("list")
def list_kept(
    project: ProjectOption = None,
    file: FileOption = None,
    code: CodeOption = None,
    topic: Annotated[str | None, typer.Option(help="Only of this topic.")] = None,
    limit: LimitOption = 50,
    *,
    everything: Annotated[
        bool, typer.Option("--all/--waiting", help="Also those that were replayed since.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List refused messages, the latest first."""
    waiting = WAITING_OR_NOT if everything else True
    wanted = {"code": code, "topic": topic, "waiting": waiting}
    store = open_store(project, file)
    found = list(
        read_documents(QuarantineDocument, look_up(store, LOOK_UP_KEPT, wanted, limit=limit))
    )
    if as_json:
        typer.echo(safe_json([to_json(each) for each in found]))
        return
    rows = [
        (
            each.id[:_SHOWN_ID],
            each.topic,
            each.code,
            next((cut(f"{one.field}: {one.reason}", _MOST_TEXT) for one in each.errors), None),
            each.size,
            each.deliveries,
            each.last_seen,
            "waiting" if each.waiting else "replayed",
        )
        for each in found
    ]
    safe_rows = [
        [safe_text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows
    ]
    columns = ["id", "topic", "code", "problem", "bytes", "came", "last seen", "now"]
    console().print(table(title("In quarantine", rows, limit), columns, safe_rows))


app.command("show")(show)


@app.command("replay")
def replay(
    ids: IdArguments = None,
    project: ProjectOption = None,
    file: FileOption = None,
    code: CodeOption = None,
    *,
    everything: AllOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Publish messages again as they came: after an upgrade, or once a fault is put right.

    With --all or --code: of those that wait. Publishing one twice has no second effect.
    """
    store = open_store(project, file)
    named = chosen(store, ids, code, everything=everything, waiting=True)
    confirm("publish again", named, sure=yes or bool(ids and len(named) == 1))
    done = Done()
    if named:
        publisher = open_publisher(project, file)
        done = one_by_one(
            "Publishing",
            named,
            lambda each: republish_quarantined(store, publisher, each, store.now()),
        )
    _tell(done, "published", as_json=as_json)
    if done.number and not as_json:
        console().print("`firestate quarantine list` shows what is refused again.")
    raise typer.Exit(done.exit_code)


@app.command("drop")
def drop_kept(
    ids: IdArguments = None,
    project: ProjectOption = None,
    file: FileOption = None,
    code: CodeOption = None,
    *,
    everything: AllOption = False,
    replayed: Annotated[
        bool, typer.Option("--replayed", help="With --all or --code: what was replayed since.")
    ] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove messages with their bytes, for good."""
    store = open_store(project, file)
    named = chosen(store, ids, code, everything=everything, waiting=False if replayed else None)
    confirm("drop for good", named, sure=yes or bool(ids and len(named) == 1))
    done = one_by_one("Dropping", named, lambda each: drop_quarantined(store, each))
    _tell(done, "dropped", as_json=as_json)
    raise typer.Exit(done.exit_code)


def _tell(done: Done, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json({what: done.number, "gone": done.gone, "damaged": done.damaged})
        return
    console().print(f"{done.number:,} {what}.")
    if done.gone:
        notes().print(f"firestate: {done.gone:,} were dropped meanwhile", style="yellow")
