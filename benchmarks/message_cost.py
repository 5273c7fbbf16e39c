"""What the worst messages cost: CPU time for each MB beside a good message, and peak memory.

.venv/bin/python benchmarks/message_cost.py [PART OF A NAME]

Each message is parsed and decided in a process of its own. Exits with 1 if any, accepted or
refused, costs more than 20 times as much for each MB as a good one of the largest size.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.message_cost_cases import GOOD, cases
from firestate.errors import InvalidMessageError
from firestate.ingest.events import event_creation
from firestate.ingest.states import decide_state
from firestate.schema.messages import EVENT_TOPIC, parse_event_message, parse_state_message
from tests.chaos.bad_messages import good_message

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMIT = 20.0
RUNS = 3
"""The shortest of so many counts: a busy machine only ever makes them longer."""
ENOUGH_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What one message cost."""

    name: str
    megabytes: float
    seconds: float
    peak_megabytes: float
    outcome: str

    @property
    def per_megabyte(self) -> float:
        """CPU seconds for each MB."""
        return self.seconds / self.megabytes


def main() -> int:
    """Measure and print; 1 if any ratio is over the limit."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    found = cases()
    good = measured(GOOD, *found.pop(GOOD)())
    costs = [good, *(measured(name, *build()) for name, build in found.items() if wanted in name)]
    Console(width=150).print(shown(costs, good))
    worst = max(costs, key=lambda cost: cost.per_megabyte)
    for outcome in ("accepted", "refused"):
        those = [cost for cost in costs if cost.outcome.startswith(outcome)]
        if those:
            slowest = max(those, key=lambda cost: cost.seconds)
            largest = max(those, key=lambda cost: cost.peak_megabytes)
            print(
                f"{outcome}: at most {slowest.seconds:.1f} s ({slowest.name}), "
                f"{largest.peak_megabytes:.0f} MB above what is there at rest ({largest.name})"
            )
    ratio = worst.per_megabyte / good.per_megabyte
    print(f"worst ratio {ratio:.1f} ({worst.name}), limit {LIMIT:.0f}, shortest of {RUNS} runs")
    return int(ratio > LIMIT)


def shown(costs: Iterable[Cost], good: Cost) -> Table:
    """Give the table, dearest first."""
    table = Table("message", "MB", "s", "s/MB", "ratio", "peak MB", "outcome", box=None)
    for cost in sorted(costs, key=lambda cost: -cost.per_megabyte):
        table.add_row(
            cost.name,
            f"{cost.megabytes:.2f}",
            f"{cost.seconds:.3f}",
            f"{cost.per_megabyte:.3f}",
            f"{cost.per_megabyte / good.per_megabyte:.1f}",
            f"{cost.peak_megabytes:.0f}",
            cost.outcome,
        )
    return table


def measured(name: str, topic: str, data: bytes) -> Cost:
    """Measure in a fresh process, which gets the message on its standard input."""
    command = [sys.executable, __file__, "--one", topic]
    answer = subprocess.run(command, input=data, capture_output=True, check=True)
    result: dict[str, Any] = json.loads(answer.stdout)
    return Cost(name, len(data) / 1e6, **result)


def one(topic: str, data: bytes) -> dict[str, Any]:
    """Parse and decide; give seconds, peak memory above that before, and the outcome."""
    now = datetime.now(UTC)

    def work(message: bytes) -> str:
        try:
            if topic == EVENT_TOPIC:
                event_creation(parse_event_message(message), now)
            else:
                decide_state(None, parse_state_message(message), now)
        except InvalidMessageError as error:
            first = error.problems[0]
            return f"refused: {first.field[:40]} {first.reason[:40]} ({len(error.problems)})"
        return "accepted"

    work(small(topic))  # validators are built when they are first used
    before = peak_kilobytes()
    outcome = work(data)
    peak = peak_kilobytes() - before
    seconds: list[float] = []
    while len(seconds) < RUNS and sum(seconds) < ENOUGH_SECONDS:
        start = time.process_time()
        work(data)
        seconds.append(time.process_time() - start)
    return {"seconds": min(seconds), "peak_megabytes": peak / 1000, "outcome": outcome}


def peak_kilobytes() -> int:
    """Give the most memory that this process has had (Linux)."""
    # Not getrusage: that also knows the parent's, from between fork and exec.
    return int(re.findall(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[0])


def small(topic: str) -> bytes:
    """Give a good message of a few hundred bytes."""
    part = "event" if topic == EVENT_TOPIC else "state"
    return json.dumps(good_message(Random(1), datetime.now(UTC), part)).encode()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(sys.argv[2], sys.stdin.buffer.read())))
        sys.exit(0)
    sys.exit(main())
