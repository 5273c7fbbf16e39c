"""Interrupt a loop of mixed calls by a timer at random microseconds: a program.

    python -m tests.interruptions.timers raise disk 1000 7

The arguments: `raise`, or `call` for a handler that calls the agent; memory or disk; how many
signals, and the seed.
"""

from __future__ import annotations

import logging
import random
import shutil
import signal
import sys
import tempfile
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firestate import StateManager
from firestate.audit.full import FullAudit
from tests.interruptions import forked
from tests.interruptions.mixed_calls import SPAWN_EVERY, MixedCalls
from tests.interruptions.tracing import Interrupted
from tests.interruptions.world import settled

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate import Agent
    from tests.interruptions.forked import Report

_OF_ONE_WORLD = 500
_MOST_MICROSECONDS = 3_000


class _Timer:
    """Raises, or calls, after a random time; only while calls of the agent are under way."""

    def __init__(self, draw: random.Random, handle: Callable[[], None]) -> None:
        self._draw = draw
        self._handle = handle
        self._armed = False
        self.signals = 0
        signal.signal(signal.SIGALRM, self._signal)

    def run(self, calls: Callable[[], None]) -> BaseException | None:
        """Make calls until the signal has come; return what came out of them."""
        self._armed = True
        try:
            # Small times are as likely as large ones: a call takes from 40 to 2,000 microseconds.
            microseconds = self._draw.uniform(1, _MOST_MICROSECONDS ** self._draw.uniform(0.5, 1))
            signal.setitimer(signal.ITIMER_REAL, microseconds / 1e6)
            while self._armed:
                calls()
        except BaseException as error:  # noqa: BLE001 - it is looked at
            return error
        finally:
            self._armed = False
        return None

    def _signal(self, *_: object) -> None:
        if self._armed:
            self._armed = False
            self.signals += 1
            self._handle()


class _Story:
    """One manager and one agent, and the signals that they get."""

    def __init__(self, mode: str, where: str, draw: random.Random, report: Report) -> None:
        self._mode = mode
        self._report = report
        self._folder = None if where == "memory" else Path(tempfile.mkdtemp())
        self._manager = StateManager(
            project="", folder=self._folder, snapshot_interval_seconds=0.02, patience_seconds=30
        )
        self._agent: Agent = self._manager.start("Worker", "w", session_id="s")
        self._mixed = MixedCalls(self._manager, self._agent)
        # What is loaded and compiled by the first calls is not what is shown here.
        for _ in range(SPAWN_EVERY):
            self._mixed.next()
        self._timer = _Timer(draw, self._handle)
        self._nested = 0

    def _handle(self) -> None:
        if self._mode == "raise":
            raise Interrupted
        self._nested += 1
        self._agent.remember("nested", self._nested)
        number = -self._nested
        self._mixed.ledger.unsure_events.add(number)
        self._agent.handed_off(("Helper", "h"), context={"n": number})
        self._mixed.ledger.events.add(number)

    def run(self, signals: int) -> None:
        while self._timer.signals < signals:
            self._report.step()
            error = self._timer.run(self._mixed.next)
            if error is not None and not (self._mode == "raise" and type(error) is Interrupted):
                self._report.write(problem=f"raises {type(error).__name__}: {error}"[:300])
                break
            del error
            try:
                self._agent.save()
                self._agent.remember("marker", self._timer.signals)
            except Exception as refused:  # noqa: BLE001 - reported
                text = f"afterwards {type(refused).__name__}: {refused}"[:300]
                self._report.write(problem=text)
                break
        else:
            self._verify()
        self._report.write(signals=self._timer.signals)
        self._report.step()
        self._manager.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _verify(self) -> None:
        self._report.step(10 * forked.HANG_SECONDS)
        found: list[Any] = [] if settled(self._manager) else ["nothing is sent"]
        found += self._mixed.problems()
        state = self._agent.state
        if state != self._manager.load(*self._agent.identity).value:
            found.append("the memory is not what is stored")
        if state.memory_context.get("marker") != self._timer.signals:
            found.append("the marker is lost")
        if state.memory_context.get("nested", 0) != self._nested:
            found.append("a nested note is lost")
        drift = FullAudit(self._manager._runtime.backend.store(), timedelta(0)).run().findings
        found += [f"drift: {each.as_json()}" for each in drift[:5]]
        for problem in found:
            self._report.write(problem=problem)


def _work(mode: str, where: str, signals: int, seed: int, report: Report) -> None:
    logging.disable(logging.CRITICAL)
    _Story(mode, where, random.Random(seed), report).run(signals)
    report.write(finished=True)


def main(mode: str, where: str, signals: str, seed: str) -> None:
    left, number = int(signals), int(seed)
    while left > 0:
        part = min(left, _OF_ONE_WORLD)
        ended = forked.run(partial(_work, mode, where, part, number))
        for record in ended.records:
            if "finished" not in record:
                forked.tell(seed=number, **record)
        if not ended.last("finished"):
            problem = "hangs" if ended.hung else f"ends its process with {ended.code}"
            forked.tell(seed=number, problem=problem, stack=ended.stderr[-4_000:])
        left, number = left - part, number + 1
    forked.finish()


if __name__ == "__main__":
    main(*sys.argv[1:])
