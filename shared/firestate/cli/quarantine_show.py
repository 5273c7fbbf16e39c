"""The command `firestate quarantine show`: one refused message, and where it is at fault."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from firestate.cli.connect import FileOption, ProjectOption, open_store
from firestate.cli.output import JsonOption, console, fail, notes, table
from firestate.cli.quarantine_message_view import view
from firestate.cli.quarantine_selection import find_id
from firestate.cli.terminal_text import safe_json, safe_text
from firestate.errors import ConfigurationError
from firestate.operations.quarantined_messages import QuarantinedMessage, read_quarantined
from firestate.schema.serialization import to_json

if TYPE_CHECKING:
    from firestate.schema.quarantine_document import QuarantineDocument


def show(
    quarantine_id: Annotated[
        str, typer.Argument(metavar="ID", help="An id, or at least its first 6 digits.")
    ],
    project: ProjectOption = None,
    file: FileOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the bytes to this file.")
    ] = None,
    *,
    raw: Annotated[bool, typer.Option("--raw", help="Print the bytes and nothing else.")] = False,
    as_line: Annotated[
        bool, typer.Option("--as-line", help="Print one line for `firestate replay FILE`.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a refused message: what is wrong with it, and where."""
    if (output is not None) + raw + as_line + as_json > 1:
        message = "--raw, --output, --as-line and --json exclude one another"
        raise ConfigurationError(message)
    store = open_store(project, file)
    whole_id = find_id(store, quarantine_id)
    kept = read_quarantined(store, whole_id)
    if kept is None:
        fail(f"{whole_id} has been dropped")
    if output is not None:
        _write(kept.data, output)
    elif raw:
        sys.stdout.buffer.write(kept.data)
        sys.stdout.flush()
    elif as_line:
        # In ASCII, so that no reader splits the line where a text holds another kind of line end.
        typer.echo(json.dumps({"topic": kept.document.topic, "raw": _text_or_fail(kept)}))
    elif as_json:
        typer.echo(safe_json(to_json(kept.document) | _raw(kept.data)))
    else:
        _print(kept)


def _write(data: bytes, path: Path) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}", code=3)
    notes().print(f"{len(data):,} bytes written to {path}", markup=False, soft_wrap=True)


def _text_or_fail(kept: QuarantinedMessage) -> str:
    try:
        return kept.data.decode()
    except UnicodeDecodeError:
        fail("these bytes are no UTF-8 and fit no line: take --raw, or `quarantine replay`")


def _raw(data: bytes) -> dict[str, Any]:
    try:
        return {"raw": data.decode()}
    except UnicodeDecodeError:
        return {"raw_base64": base64.b64encode(data).decode()}


def _print(kept: QuarantinedMessage) -> None:
    out, document = console(), kept.document
    out.print(table("", ["", "value"], _header(document)), end="\n\n")
    problems = [(safe_text(each.field), safe_text(each.reason)) for each in document.errors]
    out.print(table("What is wrong", ["field", "reason"], problems), end="\n\n")
    for line in view(kept.data, document.errors):
        shown = Text(line.gutter, style="dim")
        shown.append(line.text, style="red" if line.notes else "")
        if line.notes:
            shown.append(f"  <-- {'; '.join(line.notes)}", style="bold red")
        out.print(shown, soft_wrap=True)


def _header(document: QuarantineDocument) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = [
        ("id", document.id),
        ("topic", document.topic),
        ("code", document.code),
        ("bytes", document.size),
        ("sha256", document.sha256),
        ("came", f"{document.deliveries:,} times" if document.deliveries > 1 else "once"),
        ("first seen", document.first_seen),
        ("last seen", document.last_seen),
        ("replayed", f"{document.replays:,} times" if document.replays > 1 else "once"),
        ("last replay", document.replayed_at),
        ("now", "waiting" if document.waiting else "replayed, and not refused since"),
    ]
    if not document.replays:
        rows = [row for row in rows if row[0] not in ("replayed", "last replay")]
    rows += [(f"attribute {each.name}", each.value) for each in document.attributes]
    return [
        (safe_text(name), safe_text(each) if isinstance(each, str) else each) for name, each in rows
    ]
