"""What a call of an agent costs that remembers little, and one that remembers much.

.venv/bin/python -m benchmarks.agent_calls [CALLS]

Each call is timed on a file of the local engine, beside a plain append of as many bytes to an
SQLite file, in the same run; and the bytes are counted that it puts into the outbox.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from firestate import StateManager
from firestate.outbox.file import Outbox
from firestate.outbox.sql import connect

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from firestate import Agent

CALLS = 1_000
NOTES = (10, 1_500)
TEXT = "x" * 480
"""Of a note: 1,500 of them take some 800 kB of the 852 that a memory may."""


def main() -> int:
    """Measure, and print a row for each call."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else CALLS
    table = Table("call", "notes", "p50 us", "p99 us", "bytes put", "p50 / append", box=None)
    put: list[int] = []
    keep = Outbox.put

    def counted(outbox: Outbox, *entries: Any) -> bool:  # noqa: ANN401 - NewEntry
        put.append(sum(len(each.data) for each in entries))
        return keep(outbox, *entries)

    Outbox.put = counted  # type: ignore[method-assign, assignment] # for this process alone
    for notes in NOTES:
        with (
            tempfile.TemporaryDirectory() as folder,
            StateManager(project="", folder=folder) as manager,
        ):
            agent = manager.start("Developer", "a", "s")
            agent.update(memory_context={f"k{n}": note(n) for n in range(notes)})
            for name, call in calls_of(agent).items():
                put.clear()
                times = timed(call, calls)
                size = sum(put) // calls
                base = percentile(timed(appending(Path(folder), size), calls), 0.5)
                p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
                cells = (f"{p50:.0f}", f"{p99:.0f}", f"{size:,}", f"{p50 / base:.1f}")
                table.add_row(name, f"{notes:,}", *cells)
    Console(width=100).print(table)
    return 0


def note(number: int) -> dict[str, Any]:
    """Return a note of about 500 bytes."""
    return {"type": "fact", "importance": 0.5, "text": TEXT, "n": number, "session_id": "s"}


def calls_of(agent: Agent) -> dict[str, Callable[[int], object]]:
    """Return the calls by name; each takes the number of the call."""

    def task(number: int) -> None:
        with agent.task(f"t{number}", "code", tool="editor"):
            pass

    return {
        "remember": lambda number: agent.remember(f"k{number % 10}", note(number)),
        "save": lambda _: agent.save(),
        "task (begin and end)": task,
        "handed_off": lambda _: agent.handed_off(("QA", "q")),
    }


def appending(folder: Path, size: int) -> Callable[[int], object]:
    """Return a call that appends so many bytes to a table, and does nothing else."""
    connection: sqlite3.Connection = connect(folder / f"append-{time.time_ns()}.db")
    connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, data BLOB)")
    data = b"x" * size
    return lambda _: connection.execute("INSERT INTO rows (data) VALUES (?)", (data,))


def timed(call: Callable[[int], object], calls: int) -> list[float]:
    """Return the microseconds of each call."""
    times = []
    for number in range(calls):
        began = time.perf_counter()
        call(number)
        times.append((time.perf_counter() - began) * 1e6)
    return times


def percentile(times: list[float], share: float) -> float:
    """Return the smallest time that `share` of all do not exceed."""
    return sorted(times)[int(share * (len(times) - 1))]


if __name__ == "__main__":
    sys.exit(main())
