"""How far a plan was carried out, and what has become of its lines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from firestate.migration.apply.record_decision import RecordOutcome
from firestate.migration.plan.plan_file import COPY, MERGE, REFUSED, SUPERSEDED
from firestate.migration.workdir import load_json

if TYPE_CHECKING:
    from firestate.migration.apply.target import Target
    from firestate.migration.plan.plan_reader import PlannedRecord
    from firestate.migration.workdir import Workdir

PROGRESS = "progress.json"
_MOST_REASONS = 100


@dataclass(slots=True)
class Progress:
    """What has become of the lines so far; `reasons` are of the first that were refused."""

    plan: str = ""
    done: int = 0
    finished: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)

    def count(self, outcome: str, planned: PlannedRecord | None = None, reason: str = "") -> None:
        """Count one line."""
        self.counts[outcome] += 1
        if (
            reason
            and outcome == RecordOutcome.REFUSED
            and planned
            and len(self.reasons) < _MOST_REASONS
        ):
            at = f" {planned.line.at}" if planned.line.at else ""
            self.reasons.append(f"{planned.line.source}{at}: {reason}")

    def as_json(self) -> dict[str, Any]:
        """Give it as it is kept."""
        return {
            "plan": self.plan,
            "done": self.done,
            "finished": self.finished,
            "counts": dict(self.counts),
            "reasons": self.reasons,
        }


def scope_of(plan_id: str, target: Target) -> str:
    """Name what progress is of: a plan, carried out on one target, is not done on another."""
    return f"{plan_id} {target.label}".rstrip()


def progress_of(work: Workdir, scope: str) -> Progress:
    """Give how far it has come; from the beginning where that is of another scope, or the end."""
    kept = load_json(work, PROGRESS)
    counts, reasons = kept.get("counts"), kept.get("reasons")
    if kept.get("plan") != scope or kept.get("finished"):
        return Progress(plan=scope)
    if not isinstance(counts, dict) or not isinstance(reasons, list) or "done" not in kept:
        return Progress(plan=scope)
    return Progress(scope, kept["done"], counts=Counter(counts), reasons=list(reasons))


def outcomes_shown(tally: Progress) -> dict[str, int]:
    """Give the counts in a fixed order."""
    order = [each.value for each in RecordOutcome] + [SUPERSEDED, COPY, REFUSED, MERGE]
    return {name: tally.counts[name] for name in dict.fromkeys(order) if tally.counts[name]}
