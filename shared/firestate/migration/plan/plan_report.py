"""What a plan comes to, for people: files, documents, warnings, refusals, operations and money."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from firestate.limits import PRICE_READS, PRICE_WRITES
from firestate.migration.formats.records import RecordKind
from firestate.migration.plan.plan_file import (
    COPY,
    EMPTY,
    REFUSED,
    SUPERSEDED,
    WARNING,
    WRITE,
    PlanHead,
    PlanLine,
    read_head,
)
from firestate.migration.plan.plan_file import read_lines as _read_lines

if TYPE_CHECKING:
    from pathlib import Path

_MOST_SHOWN = 200


@dataclass(slots=True)
class PlanReport:
    """Counts over a plan; of refusals and warnings the first 200 are held."""

    head: PlanHead
    files: Counter[str] = field(default_factory=Counter)
    documents: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    guessed: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    withheld: Counter[str] = field(default_factory=Counter)
    exposed: Counter[str] = field(default_factory=Counter)
    refusals: list[PlanLine] = field(default_factory=list)
    replaced: list[PlanLine] = field(default_factory=list)
    empty: list[PlanLine] = field(default_factory=list)
    warnings: list[PlanLine] = field(default_factory=list)
    states: int = 0
    events: int = 0
    parts: int = 0
    bytes: int = 0

    @property
    def reads(self) -> int:
        """Documents read: to decide, by the triggers that count, and to verify."""
        deciding = 2 * self.states + self.events + self.parts
        counting = 2 * self.states + self.events
        return deciding + counting + self.states + self.events + self.parts

    @property
    def writes(self) -> int:
        """Documents written: the migrated ones, and by the triggers three for each."""
        return 4 * (self.states + self.events) + self.parts + int(self.documents["controls"] > 0)

    @property
    def dollars(self) -> float:
        """What these operations cost at list prices."""
        return (self.reads * PRICE_READS + self.writes * PRICE_WRITES) / 100_000

    def as_json(self) -> dict[str, Any]:
        """Give it for other programs."""
        return {
            "plan": self.head.id,
            "source": self.head.source,
            "files": dict(self.files),
            "files_not_read": self.head.unseen,
            "documents": dict(self.documents),
            "outcomes": dict(self.outcomes),
            "guessed": dict(self.guessed),
            "kept": dict(self.kept),
            "withheld": dict(self.withheld),
            "exposed": dict(self.exposed),
            "refusals": [_refusal(line) for line in self.refusals],
            "superseded": [
                {"source": each.source, "at": each.at, "by": each.by} for each in self.replaced
            ],
            "empty": [each.source for each in self.empty],
            "warnings": [
                {"source": each.source, "reason": each.reason, "advice": each.advice}
                for each in self.warnings
            ],
            "bytes": self.bytes,
            "reads": self.reads,
            "writes": self.writes,
            "dollars": round(self.dollars, 4),
        }


def _refusal(line: PlanLine) -> dict[str, str]:
    return {
        "source": line.source,
        "place": line.place,
        "reason": line.reason,
        "advice": line.advice,
    }


def report_of(plan: Path) -> PlanReport:
    """Read a plan through; raise ConfigurationError where it is none."""
    report = PlanReport(read_head(plan))
    held = {
        REFUSED: report.refusals,
        SUPERSEDED: report.replaced,
        COPY: report.replaced,
        EMPTY: report.empty,
        WARNING: report.warnings,
    }
    last = ""
    for _, line in _read_lines(plan):
        if line.source != last and line.outcome != WARNING:
            report.files[line.format or "refused"] += 1
            last = line.source
        report.outcomes[line.outcome] += 1
        if (others := held.get(line.outcome)) is None:
            _count(report, line)
        elif len(others) < _MOST_SHOWN:
            others.append(line)
    return report


def _count(report: PlanReport, line: PlanLine) -> None:
    """Count a record that becomes a document."""
    report.documents[line.target.partition("/")[0] if line.outcome == WRITE else "controls"] += 1
    report.guessed.update(line.guessed)
    report.kept.update(name.partition("[")[0] for name in line.kept)
    report.withheld.update(line.withheld)
    report.exposed.update(line.exposed)
    report.parts += line.parts
    report.bytes += line.bytes
    report.states += line.kind == RecordKind.STATE
    report.events += line.kind == RecordKind.EVENT
