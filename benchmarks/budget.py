"""Billed operations of each kind of message, with 100 and with 10,000 agents stored.

.venv/bin/python benchmarks/budget.py
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.load.budget import BUDGETS, Cost, costs
from tools.emulators import firestore_emulator

SIZES = (100, 10_000)


def main() -> int:
    """Measure and print; 1 if anything is over its budget or differs between the sizes."""
    results: dict[int, dict[str, Cost]] = {}
    for size in SIZES:
        with firestore_emulator() as host:
            os.environ["FIRESTORE_EMULATOR_HOST"] = host
            results[size] = {cost.kind: cost for cost in costs(host, "demo-budget", size)}
    table = Table("kind", "budget", *(f"{size:,} agents" for size in SIZES), "within", box=None)
    good = True
    for kind, budget in BUDGETS.items():
        measured = [results[size][kind] for size in SIZES]
        within = all(cost.within for cost in measured)
        equal = len({cost.billed for cost in measured}) == 1
        good = good and within and equal
        cells = [_shown(budget), *(_shown(cost.billed) for cost in measured)]
        table.add_row(kind, *cells, "yes" if within and equal else "NO")
    Console(width=120).print(table)
    return 0 if good else 1


def _shown(billed: object) -> str:
    names = ("reads", "writes", "deletes", "refused")
    parts = [f"{getattr(billed, name)} {name}" for name in names if getattr(billed, name)]
    return ", ".join(parts) or "none"


if __name__ == "__main__":
    sys.exit(main())
