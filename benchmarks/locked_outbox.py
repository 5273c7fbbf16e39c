"""The longest call of five agents at work, with their outbox locked by another program.

    python -m benchmarks.locked_outbox [--seconds 15]

First nobody locks it, for the baseline; then a process of its own does. Afterwards each save and
each event must be there once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from firestate import Agent, StateManager

_AGENTS = 5
_PAUSE_SECONDS = 0.01
_LOCK = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
"""


class Work:
    """One agent that saves and records until a time, and how long its longest call took."""

    def __init__(self, agent: Agent, until: float) -> None:
        """Begin, on a thread of its own."""
        self.agent = agent
        self.calls = 0
        self.longest = 0.0
        self._until = until
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while time.monotonic() < self._until:
            for call in (
                lambda: self.agent.remember(f"k{self.calls % 100}", self.calls),
                lambda: self.agent.record("error", context={"n": self.calls}),
            ):
                began = time.monotonic()
                call()
                self.longest = max(self.longest, time.monotonic() - began)
            self.calls += 1
            time.sleep(_PAUSE_SECONDS)


def _measured(folder: Path, seconds: float, *, lock: bool) -> tuple[int, float, int]:
    """Return the calls, the longest of them in seconds, and how many of them are not there."""
    with StateManager("", folder=folder) as manager:
        agents = [manager.start("Worker", f"w{n}", session_id="s") for n in range(_AGENTS)]
        manager.settle()
        locker = None
        if lock:
            command = [sys.executable, "-c", _LOCK, str(folder / "outbox.db"), str(seconds)]
            locker = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert locker.stdout is not None  # noqa: S101 - it is a pipe
            locker.stdout.readline()
        until = time.monotonic() + seconds + 1
        at_work = [Work(agent, until) for agent in agents]
        for each in at_work:
            each.thread.join()
        if locker is not None:
            locker.wait()
        manager.settle(60)
        missing = 0
        for each in at_work:
            state = manager.load(*each.agent.identity).value
            wanted = {f"k{n % 100}": n for n in range(each.calls)}
            kept = {} if state is None else state.memory_context
            missing += sum(kept.get(key) != value for key, value in wanted.items())
            agent_id = each.agent.identity.agent_id
            events = manager.events(agent_id=agent_id, limit=1_000_000).value
            missing += len(set(range(each.calls)) ^ {one.context["n"] for one in events})
            missing += len(events) - each.calls
        calls = 2 * sum(each.calls for each in at_work)
        return calls, max(each.longest for each in at_work), missing


def main() -> None:
    """Print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0)
    seconds = parser.parse_args().seconds
    print(f" {'outbox':10} {'calls':>7} {'longest ms':>11} {'missing':>8}")
    for name, lock in (("free", False), ("locked", True)):
        with tempfile.TemporaryDirectory() as folder:
            calls, longest, missing = _measured(Path(folder), seconds, lock=lock)
        print(f" {name:10} {calls:7,} {longest * 1000:11.0f} {missing:8}")


if __name__ == "__main__":
    main()
