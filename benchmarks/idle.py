"""What Firestate costs while nobody publishes: an hour at rest, counted, and scaled to a day.

.venv/bin/python benchmarks/idle.py [HOURS]

The deployed functions run behind a proxy that counts billed operations, over 1,000 agents. The
sweep is called when functions.yaml says, each time in a new process, as an instance that is not
needed for 15 minutes is ended; whatever its writes set off runs as well.
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import urllib3

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.load.budget import fill
from tests.load.runner import runner
from tests.load.schedule import sweeps_a_day

MOST_A_DAY = 2_000
_DAY_SECONDS = 86_400.0


def main() -> int:
    """Rest, count and print; 1 if a day would cost more than it may."""
    pause = _DAY_SECONDS / sweeps_a_day()
    hours = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    sweeps = max(1, round(hours * 3_600 / pause))
    with tempfile.TemporaryDirectory() as logs, runner(Path(logs), count=True) as running:
        counter = running.counter
        assert counter is not None  # noqa: S101 - asked for above
        fill(running.store, 1_000)
        running.wait_quiet(600)
        (instance,) = running.instances["sweep"]
        _call(instance.address.url)  # the first finds what there is to compact
        running.wait_quiet(600)
        before, began = counter.snapshot(), time.monotonic()
        for number in range(sweeps):
            time.sleep(max(0.0, began + (number + 1) * pause - 30 - time.monotonic()))
            instance.kill()
            time.sleep(30)
            _call(instance.address.url)
            running.wait_quiet(60)
            billed = counter.snapshot() - before
            print(f"{datetime.now(UTC):%H:%M:%S} sweep {number + 1}: {billed}", flush=True)
        rested = time.monotonic() - began
    operations = billed.reads + billed.writes + billed.deletes
    a_day = operations * _DAY_SECONDS / rested
    print(f"{operations} operations in {rested / 60:.1f} min: {a_day:,.0f} a day of {MOST_A_DAY:,}")
    return 0 if a_day <= MOST_A_DAY else 1


def _call(url: str) -> None:
    answer = urllib3.request("POST", url, timeout=120)
    if answer.data != b"swept":
        message = f"the sweep answered {answer.status}: {answer.data!r}"
        raise RuntimeError(message)


if __name__ == "__main__":
    sys.exit(main())
