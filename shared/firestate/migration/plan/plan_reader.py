"""Going through a plan again: each of its lines, with its record as the file holds it now.

A file is read once for all of its lines. One that has changed since the plan was made is refused,
with all that was planned of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from firestate.migration.formats.decoding import Unreadable
from firestate.migration.formats.records import Record
from firestate.migration.formats.synonyms import parse_time
from firestate.migration.plan.plan_file import (
    COPY,
    MERGE,
    NOTES,
    REFUSED,
    SUPERSEDED,
    PlanLine,
    read_lines,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from firestate.migration.sources.source import Source

CHANGED = "has changed since the plan was made: plan anew"


@dataclass(frozen=True, slots=True)
class PlannedRecord:
    """A line of the plan, with the record that it is of, or the problem with that."""

    number: int
    line: PlanLine
    record: Record | None = None
    problem: str = ""


def read_plan(source: Source, plan: Path, start: int = 0) -> Iterator[PlannedRecord]:
    """Give the lines from number `start` on, with their records where something is to be done."""
    lines = (each for each in read_lines(plan, start) if each[1].outcome not in NOTES)
    for name, group in groupby(lines, key=lambda each: each[1].source):
        yield from _walk_file(source, name, group)


def _walk_file(
    source: Source, name: str, lines: Iterable[tuple[int, PlanLine]]
) -> Iterator[PlannedRecord]:
    problem = ""
    records: Iterator[object] | None = None
    for number, line in lines:
        if line.outcome in (COPY, REFUSED, SUPERSEDED):
            yield PlannedRecord(number, line)
            continue
        if records is None:
            records, problem = _open(source, name, line)
        record = None if problem else _next(records, line)
        yield PlannedRecord(number, line, record, problem or ("" if record else CHANGED))


def _open(source: Source, name: str, line: PlanLine) -> tuple[Iterator[object], str]:
    """Give the file's records, or the problem with it."""
    try:
        opened = source.open(name, parse_time(line.date))
    except Unreadable as error:
        return iter(()), f"{error.refusal.place}: {error.refusal.reason}"
    if opened.sha256 != line.sha256:
        return iter(()), CHANGED
    return opened.records(), ""


def _next(records: Iterator[object], line: PlanLine) -> Record | None:
    """Go on to the record of `line`: records come in the order of the lines."""
    for record in records:
        if (
            isinstance(record, Record)
            and record.position == line.at
            and record.digest == line.digest
        ):
            return record
    return None


def is_controls(planned: PlannedRecord) -> bool:
    """Whether the line is for the controls."""
    return planned.line.outcome == MERGE
