"""How far a plan was carried out, and what has become of its lines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from firestate.migration.deciding import Outcome
from firestate.migration.plan import COPY, MERGE, REFUSED, SUPERSEDED
from firestate.migration.work import load_json

if TYPE_CHECKING:
    from firestate.migration.walking import Planned
    from firestate.migration.work import Work

PROGRESS = "progress.json"
_MOST_REASONS = 100


@dataclass(slots=True)
class Tally:
    """What has become of the lines so far; `reasons` are of the first that were refused."""

    plan: str = ""
    done: int = 0
    finished: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)

    def count(self, outcome: str, planned: Planned | None = None, reason: str = "") -> None:
        """Count one line."""
        self.counts[outcome] += 1
        if reason and outcome == Outcome.REFUSED and planned and len(self.reasons) < _MOST_REASONS:
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


def progress_of(work: Work, plan_id: str) -> Tally:
    """Give how far the plan was carried out; from the beginning where it was another, or all."""
    kept = load_json(work, PROGRESS)
    if kept.get("plan") != plan_id or kept.get("finished"):
        return Tally(plan=plan_id)
    counts, reasons = Counter(kept["counts"]), list(kept["reasons"])
    return Tally(plan_id, kept["done"], counts=counts, reasons=reasons)


def outcomes_shown(tally: Tally) -> dict[str, int]:
    """Give the counts in a fixed order."""
    order = [each.value for each in Outcome] + [SUPERSEDED, COPY, REFUSED, MERGE]
    return {name: tally.counts[name] for name in dict.fromkeys(order) if tally.counts[name]}
