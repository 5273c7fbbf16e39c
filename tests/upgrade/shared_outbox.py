"""Agents of two releases on one folder: they share the outbox, the sender and the local engine.

    python -m tests.upgrade.shared_outbox --old CHECKOUT [--seconds 60] [--seed 1]

CHECKOUT is a folder with the older release (`git worktree add CHECKOUT 3419e1e`: one that knows no
changes in an outbox); the newer one is this. Of each release two processes run, which save as fast
as they can, and are killed with `kill -9` at moments drawn by the seed and begun anew
(`shared_outbox_agent`). So a sender of either release sends what either has put, and a session goes
from one to the other.

In the end this release sends what is left, and replays what an older engine has put into
quarantine (`schema`: 0.1 does not read messages of version 2). 1 is returned where anything that a
process was told to be safe is not stored, where a message is left in quarantine, or where the audit
finds drift.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firestate import StateManager
from firestate.audit.full import FullAudit
from firestate.operations.republish_quarantined import republish_quarantined
from firestate.queries import ALL_KEPT, KEPT
from tests.chaos.settings import tell
from tests.upgrade.releases import Checkout, CommandError
from tests.upgrade.shared_outbox_agent import KEYS, SESSION

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCRIPT = Path(__file__).with_name("shared_outbox_agent.py")
_OF_EACH = 2
_LIVES_SECONDS = (0.2, 5.0)
_SETTLED_SECONDS = 120.0
_ALL = 1_000_000
_SHOWN = 5


class Slot:
    """An agent that processes of one release hold, one after the other."""

    def __init__(self, release: Checkout, number: int, folder: Path) -> None:
        self.release = release
        self.name = f"{release.name}{number}"
        self.log = folder / f"{self.name}.log"
        self.errors = folder / f"{self.name}.errors"
        self._folder = folder
        self._running: subprocess.Popen[bytes] | None = None
        self._until = 0.0
        self.begun = 0
        self.ended: list[str] = []

    def look_after(self, draw: random.Random) -> None:
        """Begin a process where none runs; kill one that has lived long enough."""
        if self._running is None:
            self._until = time.monotonic() + draw.uniform(*_LIVES_SECONDS)
            files = [str(_SCRIPT), str(self._folder / "state"), self.name, str(self.log)]
            command = [sys.executable, "-P", *files]
            with self.errors.open("ab") as errors:
                self._running = subprocess.Popen(
                    command, env=self.release.environment, cwd=self._folder, stderr=errors
                )
            self.begun += 1
        elif self._running.poll() is not None:
            self.ended.append(self.errors.read_text()[-2_000:])
            self._running = None
        elif time.monotonic() > self._until:
            self.kill()

    def kill(self) -> None:
        """Kill the process that runs."""
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            self._running = None

    def told(self) -> Iterator[dict[str, Any]]:
        """Yield what its processes have written: what was acknowledged to them."""
        if self.log.exists():
            yield from map(json.loads, self.log.read_text().splitlines())

    def missing(self, manager: StateManager) -> list[str]:
        """Return what was acknowledged and is not stored."""
        found = manager.load("Worker", self.name, SESSION).value
        if found is None:
            return [f"{self.name}: nothing is stored"] if list(self.told()) else []
        notes: dict[str, int] = {}
        ended: set[str] = set()
        for line in self.told():
            if "note" in line:
                notes[f"k{line['note'] % KEYS}"] = line["note"]
            ended |= {line["task"]} if "task" in line else set()
        problems = [
            f"{self.name}: {key} is {found.memory_context.get(key)}, told was {value}"
            for key, value in notes.items()
            if found.memory_context.get(key, -1) < value
        ]
        counted = sum(
            kind.tries for kind in (found.task_totals.kinds.values() if found.task_totals else ())
        )
        if found.task_totals is None:
            counted = sum(entry["status"] == "completed" for entry in found.task_history)
        if counted < len(ended):
            problems.append(f"{self.name}: {counted} tasks are counted, told were {len(ended)}")
        return problems


def main() -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--old", type=Path, required=True, help="a checkout of the older release")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    releases = Checkout("old", given.old.resolve()), Checkout("new", Path(__file__).parents[2])
    try:
        for release in releases:
            release.check()
    except CommandError as error:
        tell(str(error))
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slots = [Slot(each, number, folder) for number in range(_OF_EACH) for each in releases]
        _play(slots, random.Random(given.seed), given.seconds)
        problems = _verified(slots, folder / "state")
    for problem in problems:
        tell(problem)
    return int(bool(problems))


def _play(slots: list[Slot], draw: random.Random, seconds: float) -> None:
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            for slot in slots:
                slot.look_after(draw)
            time.sleep(0.02)
    finally:
        for slot in slots:
            slot.kill()


def _verified(slots: list[Slot], folder: Path) -> list[str]:
    """Send what is left, and return what is wrong with what is stored then."""
    problems = [f"a process of {slot.name} ended:\n{said}" for slot in slots for said in slot.ended]
    told = Counter(kind for slot in slots for line in slot.told() for kind in line)
    with StateManager(project="", folder=folder) as manager:
        if not manager.settle(_SETTLED_SECONDS):
            problems.append("what was saved is not sent in two minutes")
        backend: Any = manager._runtime.backend
        engine = backend.engine
        refused = [each.id for each in engine.store.query(ALL_KEPT.query())]
        for each in refused:
            republish_quarantined(engine.store, engine, each, datetime.now(UTC))
        engine.settle(_SETTLED_SECONDS)
        for slot in slots:
            problems += slot.missing(manager)
        stored = {event.event_id for event in manager.events(limit=_ALL).value}
        events = {line["event"] for slot in slots for line in slot.told() if "event" in line}
        problems += [f"event {each} is not stored" for each in sorted(events - stored)[:_SHOWN]]
        drift = FullAudit(engine.store, timedelta(0)).run().findings
        problems += [f"drift: {each.as_json()}" for each in drift[:_SHOWN]]
        waiting = engine.store.query(KEPT.query({"waiting": True}))
        left = [each.data["code"] for each in waiting]
        problems += [f"a message is left in quarantine: {code}" for code in left[:_SHOWN]]
    begun = ", ".join(f"{slot.begun} of {slot.name}" for slot in slots)
    found = f"drift {len(drift)}, quarantined {len(refused)}, left there {len(left)}"
    tell(f"processes: {begun}; acknowledged: {dict(told)}; {found}")
    return problems


if __name__ == "__main__":
    sys.exit(main())
