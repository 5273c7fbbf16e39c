"""Going through a plan again: each of its lines, with its record as the file holds it now.

A file is read once for all of its lines. One that has changed since the plan was made is refused,
with all that was planned of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from firestate.migration.decoding import Unreadable
from firestate.migration.plan import COPY, MERGE, REFUSED, SUPERSEDED, Line, read_lines
from firestate.migration.records import Record
from firestate.migration.words import time_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from firestate.migration.sources import Source

CHANGED = "has changed since the plan was made: plan anew"


@dataclass(frozen=True, slots=True)
class Planned:
    """A line of the plan, with the record that it is of, or the problem with that."""

    number: int
    line: Line
    record: Record | None = None
    problem: str = ""


def walk(source: Source, plan: Path, start: int = 0) -> Iterator[Planned]:
    """Give the lines from number `start` on, with their records where something is to be done."""
    lines = read_lines(plan, start)
    for name, group in groupby(lines, key=lambda each: each[1].source):
        yield from _walk_file(source, name, list(group))


def _walk_file(source: Source, name: str, lines: list[tuple[int, Line]]) -> Iterator[Planned]:
    wanted = [(n, each) for n, each in lines if each.outcome not in (COPY, REFUSED, SUPERSEDED)]
    if not wanted:
        yield from (Planned(number, line) for number, line in lines)
        return
    problem = ""
    records: Iterator[object] = iter(())
    date = next((time_of(line.date) for _, line in lines if line.date), None)
    try:
        opened = source.open(name, date)
        if opened.sha256 == wanted[0][1].sha256:
            records = opened.records()
        else:
            problem = CHANGED
    except Unreadable as error:
        problem = f"{error.refusal.place}: {error.refusal.reason}"
    for number, line in lines:
        if line.outcome in (COPY, REFUSED, SUPERSEDED):
            yield Planned(number, line)
        elif problem:
            yield Planned(number, line, problem=problem)
        else:
            record = _next(records, line)
            yield Planned(number, line, record, "" if record else CHANGED)


def _next(records: Iterator[object], line: Line) -> Record | None:
    """Go on to the record of `line`: records come in the order of the lines."""
    for record in records:
        if (
            isinstance(record, Record)
            and record.position == line.at
            and record.digest == line.digest
        ):
            return record
    return None


def is_controls(planned: Planned) -> bool:
    """Whether the line is for the controls."""
    return planned.line.outcome == MERGE
