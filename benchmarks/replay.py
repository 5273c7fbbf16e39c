"""Recorded runs through the runner, flat out, each message twice and shuffled; then the proof.

.venv/bin/python benchmarks/replay.py FOLDER [AUDITS]

FOLDER holds transcripts in the two shapes that `firestate replay` reads. With AUDITS, so many
audits with repair run one after the other while the messages are under way: each must find
nothing and repair nothing.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from firestate.audit.full import FullAudit
from firestate.audit.message_outcomes import FATES, MessageOutcomes
from firestate.audit.repair import audit_and_repair
from firestate.pipeline.roll_up import RollUp
from firestate.replay.message_files import made_bad, read_messages
from firestate.schema.ids import GLOBAL_CONFIG
from firestate.schema.messages import EVENT_TOPIC
from firestate.stores.firestore import FirestoreStore
from tests.load.grpc_counter import peak_rate
from tests.load.runner import Runner, runner

if TYPE_CHECKING:
    from firestate.client.outgoing import Outgoing

OUT = Console(width=140, highlight=False)
SEED = 1


def main() -> int:
    """Replay and check; 1 if anything is off."""
    _, given, *rest = sys.argv
    folder, audits = Path(given), int(rest[0]) if rest else 0
    messages = read_messages([folder], datetime.now(UTC))
    with tempfile.TemporaryDirectory() as logs, runner(Path(logs), count=True) as running:
        began = time.monotonic()
        repairs = Auditing(running, audits)
        repairs.start()
        running.publish(made_bad(messages, duplicate=True, shuffle_seed=SEED))
        published = time.monotonic()
        running.wait_quiet(1_200)
        settled = time.monotonic()
        repairs.join()
        good = _report(running, messages, folder) and repairs.good
    OUT.print(f"published in {published - began:.1f} s, settled after {settled - began:.1f} s")
    if audits:
        OUT.print(repairs.summary())
    return 0 if good else 1


class Auditing(threading.Thread):
    """Audits with repair, one after the other, while there is traffic."""

    def __init__(self, running: Runner, audits: int) -> None:
        super().__init__()
        self._running = running
        self._audits = audits
        self._drift: list[int] = []
        self._busy = 0

    def run(self) -> None:
        """Audit so many times."""
        store = FirestoreStore(self._running.store._client)  # noqa: SLF001 - the runner's own
        for _ in range(self._audits):
            report = audit_and_repair(store, RollUp(store))
            self._drift.append(report.drift)
            self._busy += self._running.router.quiet_seconds() < 1

    @property
    def good(self) -> bool:
        """Whether each audit was done, and found nothing."""
        return len(self._drift) == self._audits and not any(self._drift)

    def summary(self) -> str:
        """Say in a line what the audits found."""
        return (
            f"{len(self._drift)} audits with repair, {self._busy} of them while triggers ran: "
            f"{sum(self._drift)} differences found, so as many repaired"
        )


def _report(running: Runner, messages: list[Outgoing], folder: Path) -> bool:
    fates = MessageOutcomes(running.store).count(messages)
    distinct = fates.total()
    OUT.print(f"{distinct:,} distinct messages: " + ", ".join(f"{n} {fates[n]:,}" for n in FATES))
    report = FullAudit(running.store, timedelta(0)).run()
    OUT.print(f"audit: {report.drift} drift, {report.in_flight} in flight")
    expected, found = directly_counted(folder), _totals(running)
    table = Table("total", "from the files", "global_config", box=None)
    for name in sorted(expected):
        table.add_row(name, f"{expected[name]:,}", f"{found[name]:,}")
    OUT.print(table)

    counter = running.counter
    assert counter is not None  # noqa: S101 - the runner was asked to count
    billed = asdict(counter.snapshot())
    events = len({message.data for message in messages if message.topic == EVENT_TOPIC})
    OUT.print("billed: " + ", ".join(f"{n} {name}" for name, n in billed.items()))
    OUT.print(
        f"refused commits: {billed['refused']:,}, of them {events:,} duplicate events; "
        f"contention: {billed['refused'] - events:,}, each with a read or two"
    )
    peak = peak_rate(counter.times_of(GLOBAL_CONFIG))
    OUT.print(f"global_config: at most {peak:.1f} writes a second over any 5 s")
    hottest = Table("hottest documents", "writes", "a second over 5 s", box=None)
    for path, writes, rate in counter.hottest():
        hottest.add_row(path, str(writes), f"{rate:.1f}")
    OUT.print(hottest)
    failed = {key: n for key, n in running.router.counts.items() if key[1] == "failed"}
    OUT.print(f"deliveries that failed and came again: {failed or 'none'}")
    accounted = fates["missing"] == 0
    return accounted and not report.drift and expected == found and peak <= 1.0


def _totals(running: Runner) -> Counter[str]:
    stored = running.store.read(GLOBAL_CONFIG)
    data: dict[str, Any] = stored.data if stored else {}
    metrics = data["system_metrics"]
    by_type = {kind: each["total"] for kind, each in metrics["coordination"]["by_type"].items()}
    tasks = {name: metrics["tasks"][name] for name in ("completed", "failed")}
    return Counter({"spawned": data["total_agents_spawned"], **by_type, **tasks})


def directly_counted(folder: Path) -> Counter[str]:
    """Count the same totals from the files alone, by nothing of Firestate's."""
    totals: Counter[str] = Counter()
    for path in folder.rglob("*.json"):
        run = json.loads(path.read_text())
        if "history" not in run:
            continue
        names = [turn.get("name") or turn["role"].split(" (")[0] for turn in run["history"]]
        agents, mistakes = len(set(names)), 1 if run.get("mistake_agent") else 0
        totals["spawned"] += agents
        totals["termination"] += agents
        totals["spawn"] += agents - 1
        totals["handoff"] += sum(one != other for one, other in itertools.pairwise(names))
        totals["error"] += mistakes
        totals["failed"] += mistakes
        totals["completed"] += len(names) - mistakes
    return totals


if __name__ == "__main__":
    sys.exit(main())
