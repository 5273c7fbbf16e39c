"""How fast a migration is beside bare batches, and how much memory it takes as its input grows.

.venv/bin/python benchmarks/migration.py rate [STATES]
.venv/bin/python benchmarks/migration.py memory [SMALL_MB LARGE_MB]

rate     an apply of states of 3 KB, and the very documents that it wrote by batches of 200 with
         Google's client library alone: under the same throttle, and both without any; on one
         Firestore emulator, in one run, triggers off
memory   the peak of a process that plans, applies (to a file of SQLite) and verifies
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from google.cloud import firestore

from firestate.migration.apply.apply_plan import apply_plan
from firestate.migration.apply.target import Target
from firestate.migration.apply.throttle import NoThrottle, Throttle
from firestate.migration.plan.make_plan import make_plan
from firestate.migration.sources.folder import FolderSource
from firestate.migration.verify.verify_plan import verify_plan
from firestate.migration.workdir import FolderWorkdir
from firestate.queries import ALL_STATES
from firestate.stores.firestore import FirestoreStore
from firestate.stores.sqlite import SqliteStore
from tools.emulators import firestore_emulator

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate.migration.apply.target import Pace

_BATCH = 200
_PER_FILE = 500
_FILE_BYTES = 4_000_000


def main() -> int:
    """Run what the command line names."""
    what, *numbers = sys.argv[1:] or ["rate"]
    if what == "rate":
        return _rate(int(numbers[0]) if numbers else 10_000)
    if what == "memory":
        small, large = map(int, numbers or ("100", "1000"))
        return _memory(small, large)
    return _measured(Path(numbers[0]))


def _rate(states: int) -> int:
    with tempfile.TemporaryDirectory() as name, firestore_emulator() as host:
        os.environ["FIRESTORE_EMULATOR_HOST"] = host
        folder = Path(name)
        _fill(folder / "old", states * 3_000, lambda _random: 3_000)
        paces_of: dict[str, tuple[Pace, Pace]] = {
            "under the same throttle": (Throttle(), Throttle()),
            "without a throttle": (NoThrottle(), NoThrottle()),
        }
        for title, paces in paces_of.items():
            ours, store = _apply(folder, title, paces[0])
            documents = [(each.path, each.data) for each in store.query(ALL_STATES.query())]
            bare = _bare(f"bare-{len(title)}", documents, paces[1])
            count = len(documents)
            print(
                f"{title}: {count:,} states, firestate {count / ours:,.0f}/s, "
                f"bare batches {count / bare:,.0f}/s: ratio {bare / ours:.2f}"
            )
    return 0


def _apply(folder: Path, title: str, pace: Pace) -> tuple[float, FirestoreStore]:
    store = FirestoreStore(firestore.Client(project=f"demo-{len(title)}"))
    source, work = FolderSource(folder / "old"), FolderWorkdir(folder / title.replace(" ", "-"))
    make_plan(source, work.folder)
    began = time.monotonic()
    apply_plan(source, work, Target(store, pace))
    return time.monotonic() - began, store


def _bare(project: str, documents: list[tuple[str, dict[str, Any]]], pace: Pace) -> float:
    client = firestore.Client(project=f"demo-{project}")
    began = time.monotonic()
    for start in range(0, len(documents), _BATCH):
        batch = client.batch()
        chosen = documents[start : start + _BATCH]
        for path, data in chosen:
            batch.set(client.document(path), data)
        pace.take(len(chosen))
        batch.commit()
    return time.monotonic() - began


def _memory(small: int, large: int) -> int:
    peaks = []
    for megabytes in (small, large):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            count = _fill(
                folder / "old",
                megabytes * 1_000_000,
                lambda chosen: round(1_000 * 100 ** chosen.random()),
            )
            began = time.monotonic()
            peak = _peak(folder)
            print(
                f"{megabytes:,} MB in {count:,} states: peak {peak / 1e6:,.0f} MB, "
                f"{time.monotonic() - began:,.0f} s",
                flush=True,
            )
            peaks.append(peak)
    print(f"ratio {peaks[1] / peaks[0]:.2f}")
    return 0


def _peak(folder: Path) -> int:
    process = subprocess.Popen([sys.executable, __file__, "measured", str(folder)])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        message = f"the measured process ended with {status}"
        raise RuntimeError(message)
    return usage.ru_maxrss * 1024


def _measured(folder: Path) -> int:
    source, work = FolderSource(folder / "old"), FolderWorkdir(folder / "work")
    store = SqliteStore(folder / "state.db")
    make_plan(source, work.folder)
    tally = apply_plan(source, work, Target(store, NoThrottle()))
    found = verify_plan(source, work, Target(store, NoThrottle()))
    store.close()
    print(f"applied {dict(tally.counts)}, verified {dict(found.counts)}", flush=True)
    return int(not found.well)


def _fill(folder: Path, size: int, size_of: Callable[[random.Random], int]) -> int:
    """Write lists of states of this size in all; give how many states there are."""
    folder.mkdir()
    chosen = random.Random(1)
    number = written = 0
    while written < size:
        states: list[dict[str, Any]] = []
        filled = 0
        while filled < _FILE_BYTES and len(states) < _PER_FILE and written + filled < size:
            text = chosen.randbytes(size_of(chosen) // 2).hex()
            states.append(_state(number, text))
            filled += len(text) + 700
            number += 1
        (folder / f"{number:07}_state.json").write_text(json.dumps(states))
        written += filled
    return number


def _state(number: int, text: str) -> dict[str, Any]:
    return {
        "agent_id": f"agent_{number:07}",
        "agent_type": "Developer",
        "session_id": f"session_{number % 500}",
        "status": "running",
        "created_at": "2025-01-04T10:00:00",
        "last_updated": "2025-01-04T11:00:00",
        "last_active": "2025-01-04T11:00:00",
        "memory": {"goal": {"type": "plan", "importance": 0.8, "text": text}},
        "task_history": [
            {"task_id": "t1", "kind": "code", "status": "done", "duration_seconds": 12.5}
        ],
        "config": {"model": "m", "temperature": 0.2},
        "tools": ["editor", "shell"],
        "mood": "good",
    }


if __name__ == "__main__":
    sys.exit(main())
