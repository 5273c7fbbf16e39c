"""The receipt of a comparison: JSON Lines, with a line for each record of the plan.

The head names the migration and the target; the last line has the counts. `ours` says that this
migration made the document and that it is as it was made: that is what `undo` goes by. `of` is the
agent that an event counts for, `set` what was put into the controls. No receipt is ever replaced:
a later one may know less, where files are gone by then.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from firestate.errors import ConfigurationError
from firestate.migration.plan.plan_file import COPY, REFUSED
from firestate.migration.verify.comparison import Comparison, Result
from firestate.schema.values import time_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from firestate.migration.plan.plan_file import PlanHead
    from firestate.migration.plan.plan_reader import PlannedRecord

    Entry = dict[str, Any]

VERSION = 1
_MOST_REASONS = 100


@dataclass(slots=True)
class Verified:
    """What was found; `receipt` is the name of the file, `reasons` tell of the first mistakes."""

    receipt: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)
    unread: int = 0

    @property
    def well(self) -> bool:
        """Whether each record is equal, or superseded, or was refused when it was planned."""
        return not (self.counts[Result.MISSING] or self.counts[Result.DIFFERS] or self.unread)


def receipt_name(head: PlanHead, at: datetime) -> str:
    """Name a receipt by the migration and the time."""
    return f"receipt-{head.id}-{at:%Y%m%dT%H%M%S%f}.jsonl"


class ReceiptWriter:
    """Writes the lines of a receipt, and counts."""

    def __init__(self, out: TextIO, head: PlanHead, target: str, verified: Verified) -> None:
        """Write nothing yet."""
        self._out = out
        self._head = head
        self._target = target
        self._verified = verified

    def begin(self, at: datetime) -> None:
        """Write the head."""
        head = self._head
        self._write(
            receipt=VERSION, plan=head.id, source=head.source, target=self._target, at=time_text(at)
        )

    def note(self, planned: PlannedRecord) -> None:
        """Note a line of which nothing was to be written."""
        line = planned.line
        if line.outcome == REFUSED:
            self.add(planned, Comparison(Result.REFUSED, f"{line.place}: {line.reason}"))
        else:
            what = "a copy of" if line.outcome == COPY else "older than what is in"
            self.add(planned, Comparison(Result.SUPERSEDED, f"{what} {line.by}"))

    def unread(self, planned: PlannedRecord, *, ours: bool, **more: object) -> None:
        """Note a line whose file cannot be compared with any more."""
        self._verified.unread += 1
        self._tell(planned, planned.problem)
        self.add(planned, Comparison(Result.REFUSED, planned.problem, ours), **more)

    def add(self, planned: PlannedRecord, comparison: Comparison, **more: object) -> None:
        """Note what was found of a line."""
        line = planned.line
        self._verified.counts[comparison.result] += 1
        if comparison.result in (Result.MISSING, Result.DIFFERS):
            self._tell(planned, comparison.reason)
        self._write(
            path=line.target,
            result=comparison.result.value,
            source=line.source,
            at=line.at,
            sha256=line.sha256,
            reason=comparison.reason,
            ours=comparison.ours,
            **more,
        )

    def end(self) -> None:
        """Write the counts."""
        self._write(counts=dict(self._verified.counts))

    def _tell(self, planned: PlannedRecord, reason: str) -> None:
        if len(self._verified.reasons) < _MOST_REASONS:
            line = planned.line
            self._verified.reasons.append(f"{line.target} ({line.source}): {reason}")

    def _write(self, **values: object) -> None:
        kept = {name: value for name, value in values.items() if value not in ("", False, None, [])}
        self._out.write(json.dumps(kept, ensure_ascii=True) + "\n")


def read_receipt(path: Path) -> tuple[Entry, Iterator[Entry]]:
    """Give the head, and those lines of which there is something to undo.

    Raises ConfigurationError where the file is no receipt of this release, or is damaged.
    """
    with path.open("rb") as lines:
        head = _entry(path, next(iter(lines), b""), 1)
    if head.get("receipt") != VERSION or not isinstance(head.get("plan"), str):
        message = f"{path} is no receipt of a migration: `--verify` writes one"
        raise ConfigurationError(message)
    return head, _entries(path)


def _entries(path: Path) -> Iterator[Entry]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            entry = _entry(path, line, number)
            if entry.get("ours") or entry.get("set"):
                yield entry


def _entry(path: Path, line: bytes, number: int) -> Entry:
    try:
        entry = json.loads(line)
        if isinstance(entry, dict):
            return entry
    except ValueError as error:
        message = f"{path} is no receipt of a migration, or damaged: line {number}"
        raise ConfigurationError(message) from error
    raise ConfigurationError(f"{path} is no receipt of a migration: line {number}")
