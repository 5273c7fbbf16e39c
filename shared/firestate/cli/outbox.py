"""The command `firestate outbox`: what agents on this machine have to say that is not sent yet."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import Annotated, Any

import typer

from firestate.cli.connect import DEFAULT_FILE
from firestate.cli.output import JsonOption, ago, console, print_json, table
from firestate.cli.terminal_text import safe_text
from firestate.errors import ConfigurationError
from firestate.outbox.status import OutboxStatus, find_outboxes, read_status

_OLDEST = 5


def outbox(
    folder: Annotated[
        Path,
        typer.Option(help="Where agents keep their outbox: the `folder` of StateManager."),
    ] = DEFAULT_FILE.parent,
    project: Annotated[
        str | None,
        typer.Option("--project", "-p", help="Only the outbox for this project."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", "-f", dir_okay=False, help="Only the one beside this local engine's file."
        ),
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what waits in the outboxes of a folder, and why. Exits 1 if it is for over a minute.

    Nothing is changed, and nothing is asked of a network: it says how things are on this machine.

    Example: `firestate outbox --folder /srv/agents/.firestate`
    """
    found = [read_status(path, oldest=_OLDEST) for path in _chosen(folder, project, file)]
    now = datetime.now(UTC)
    if as_json:
        print_json([_as_json(each, now) for each in found])
    else:
        _print(found, folder, now)
    raise typer.Exit(1 if any(each.is_stuck(now) for each in found) else 0)


def _chosen(folder: Path, project: str | None, file: Path | None) -> list[Path]:
    if file is not None and project is not None:
        message = "name either a --project or a --file, not both"
        raise ConfigurationError(message)
    if file is not None:
        one = file.with_name("outbox.db")
    elif project is not None:
        one = folder / f"outbox-{project}.db"
    else:
        if not folder.is_dir():
            message = f"there is no folder {folder}: name that of your agents with --folder"
            raise ConfigurationError(message)
        return find_outboxes(folder)
    if not one.exists():
        message = f"there is no outbox {one}"
        raise ConfigurationError(message)
    return [one]


def _print(found: list[OutboxStatus], folder: Path, now: datetime) -> None:
    out = console()
    if not found:
        out.print(f"No outbox in {folder}: no agent has run with it.", markup=False)
        return
    rows = [
        (
            each.path.name,
            each.project or "this machine",
            each.messages,
            ", ".join(f"{one.topic} {one.messages:,}" for one in each.topics) or None,
            each.since,
            _size(each.bytes_on_disk),
            "a process" if each.has_sender else "nobody",
        )
        for each in found
    ]
    columns = ["file", "for", "waiting", "by topic", "since", "on disk", "sent by"]
    out.print(table("Outboxes", columns, rows))
    for each in found:
        style = "red" if each.is_stuck(now) else None
        out.print()
        text = safe_text(f"{each.path.name}: {_why(each)}")
        out.print(text, style=style, markup=False, soft_wrap=True)
        if each.oldest:
            oldest = [(one.document, one.topic, one.since, one.size) for one in each.oldest]
            out.print(table("The oldest", ["document", "topic", "since", "bytes"], oldest))


def _why(each: OutboxStatus) -> str:
    failed = f"first {ago(each.failing_since)}" if each.failing_since else ""
    if not each.messages:
        return "nothing waits."
    if not each.has_sender:
        last = f"The last one failed ({failed}): {each.failure}" if each.failure else ""
        return f"no process sends it: the next one of your agents in this folder will. {last}"
    if each.failure:
        return f"a process tries to send it and fails, {failed}: {each.failure}"
    return "a process is sending it."


def _as_json(each: OutboxStatus, now: datetime) -> dict[str, Any]:
    return {
        "file": str(each.path),
        "project": each.project,
        "messages": each.messages,
        "since": each.since,
        "topics": [one._asdict() for one in each.topics],
        "oldest": [one._asdict() for one in each.oldest],
        "bytes_on_disk": each.bytes_on_disk,
        "has_sender": each.has_sender,
        "failure": each.failure,
        "failing_since": each.failing_since,
        "stuck": each.is_stuck(now),
    }


def _size(number: int) -> str:
    return f"{number / 1e6:,.1f} MB"
