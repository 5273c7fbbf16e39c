"""What people see, tables and colour on a terminal, and what machines read: plain text or JSON."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from firestate.cli.terminal_text import safe_lines, safe_text
from firestate.schema.values import time_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]

_WIDE = 200


def console() -> Console:
    """Give the console for results; off a terminal it is wide, so that no line is broken."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=_WIDE)


def notes() -> Console:
    """Give the console for all that is not the result: it goes to standard error."""
    return Console(stderr=True, highlight=False)


class _Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


def progress() -> Progress:
    """Give a progress bar among the notes; off a terminal it shows nothing."""
    return Progress(
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=notes(),
        transient=True,
        disable=not notes().is_terminal,
    )


def fail(message: str, code: int = 1) -> NoReturn:
    """Say what is wrong, in red on a terminal, and exit."""
    notes().print(safe_lines(f"firestate: {message}"), style="red", markup=False, soft_wrap=True)
    sys.exit(code)


def print_json(value: Any) -> None:  # noqa: ANN401 - anything stored
    """Print JSON; times in ISO 8601."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=_json_value, sort_keys=True)
    sys.stdout.write(safe_lines(text) + os.linesep)


def print_json_line(value: Any) -> None:  # noqa: ANN401 - anything stored
    """Print JSON on one line, at once: whoever reads it may be waiting."""
    text = json.dumps(value, ensure_ascii=False, default=_json_value, sort_keys=True)
    sys.stdout.write(safe_text(text) + os.linesep)
    sys.stdout.flush()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Build a table; numbers stand to the right, times are shown as how long ago."""
    built = Table(
        title=Text(safe_text(title), style="italic") if title else None,
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    listed = [list(row) for row in rows]
    for number, name in enumerate(columns):
        numeric = bool(listed) and all(isinstance(row[number], int | float) for row in listed)
        built.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        # As text: what users wrote may look like rich's markup.
        built.add_row(*(Text(shown(value)) for value in row))
    return built


def title(what: str, rows: Sequence[object], limit: int) -> str:
    """Say how many there are, or that only the first are shown."""
    if len(rows) < limit:
        return f"{what} ({len(rows):,})"
    return f"{what} (the first {limit:,}; --limit shows more)"


def shown(value: Any) -> str:  # noqa: ANN401 - anything stored
    """Give a value as a cell of a table."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return ago(value)
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return safe_text(str(value))


def counts_text(counts: Mapping[str, Any]) -> str:
    """Give counts by name as one cell: `busy 2, idle 1`."""
    return safe_text(", ".join(f"{name} {count}" for name, count in sorted(counts.items()))) or "-"


def ago(time: datetime, now: datetime | None = None) -> str:
    """Give how long ago `time` was: `12 s`, `5 min`, `3 h`, `2 d`."""
    seconds = ((now or datetime.now(UTC)) - time).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if abs(seconds) >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _json_value(value: object) -> str:
    if isinstance(value, datetime):
        return time_text(value)
    return str(value)
