"""What the emulator tells of the rules: which expressions had which values.

`python -m tests.rules.rule_coverage` tries everything, and prints the table of roles and the
coverage.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from tests.rules.access_matrix import ROLES, RULES, TABLE, measured
from tests.rules.client import guarded_by
from tests.rules.controls_cases import try_controls

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class RuleCoverage:
    """How many expressions there are, how many of them are questions, and what was not tried."""

    source: str
    expressions: int = 0
    questions: int = 0
    unevaluated: list[str] = field(default_factory=list)
    one_sided: list[str] = field(default_factory=list)

    @classmethod
    def by(cls, report: dict[str, Any]) -> Self:
        """Read the emulator's report."""
        (file,) = report["rules"]["files"]
        covered = cls(file["content"])
        for expression in _each(report["report"]):
            covered._add(expression)
        return covered

    def _add(self, expression: dict[str, Any]) -> None:
        position = expression["sourcePosition"]
        text = self.source[position["currentOffset"] : position["endOffset"] + 1]
        where = f"line {position['line']}: {text}"
        self.expressions += 1
        # Without a value: it was passed over, as what was before it had decided.
        values = [each["value"] for each in expression.get("values", [])]
        outcomes = [each for each in values if each and "undefined" not in each]
        if not outcomes:
            self.unevaluated.append(where)
            return
        # What has had other values as well (a field that is asked for its type) is no question.
        truths = {each.get("boolValue", "another") for each in outcomes}
        if truths <= {True, False}:
            self.questions += 1
            if len(truths) == 1:
                self.one_sided.append(where)


def _each(report: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for each in report:
        yield each
        yield from _each(each.get("children", []))


def _print() -> None:
    head, *lines = TABLE.strip().splitlines()
    print(head)  # noqa: T201 - what this is for
    with guarded_by(RULES) as emulator:
        for path in (line.split()[0] for line in lines):
            cells = [f"{measured(emulator, path, role):{max(len(role), 6)}}" for role in ROLES]
            print(f"{path:36}", *cells)  # noqa: T201 - what this is for
        try_controls(emulator)
        covered = RuleCoverage.by(emulator.coverage())
    print(  # noqa: T201 - what this is for
        f"{covered.expressions} expressions, {len(covered.unevaluated)} never evaluated; "
        f"{covered.questions} of them are true or false, {len(covered.one_sided)} only one of both"
    )


if __name__ == "__main__":
    _print()
