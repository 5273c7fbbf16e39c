"""Say what is being done and for how long, so that nothing that takes a while stands silent.

    with Progress("Setting up") as progress:
        with progress.step(".venv"):
            ...

On a terminal it is one line, written anew twice a second; elsewhere a plain line, every few
seconds. A step that is over at once says nothing. Steps may run at the same time, in threads.

It runs under the machine's own Python: the standard library alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

LINE_EVERY_SECONDS = 5.0
"""Elsewhere than on a terminal; the first line comes with the first second."""

_REDRAW_EVERY_SECONDS = 0.5
_QUIET_SECONDS = 1.0
_CLEAR = "\r\033[K"


def nothing() -> str:
    """Return no details of a step."""
    return ""


@dataclass(eq=False)
class _Step:
    what: str
    details: Callable[[], str]
    start: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        details = self.details()
        return f"{self.what}: {self.seconds:.0f} s" + (f", {details}" if details else "")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start


class Progress:
    """What is shown of some steps; `verb` begins each line."""

    def __init__(self, verb: str, out: TextIO | None = None) -> None:
        """Show on standard output, or on `out`."""
        self._verb = verb
        self._out = out or sys.stdout
        terminal = self._out.isatty() and os.environ.get("TERM") != "dumb"
        self._every = _REDRAW_EVERY_SECONDS if terminal else LINE_EVERY_SECONDS
        self._terminal = terminal
        self._steps: list[_Step] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        """Begin to show."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the line as it was."""
        self._over.set()
        self._thread.join()

    @contextlib.contextmanager
    def step(self, what: str, details: Callable[[], str] = nothing) -> Iterator[None]:
        """Show `what`, and for how long it has been going on, until the block ends."""
        step = _Step(what, details)
        with self._lock:
            self._steps.append(step)
        outcome = "failed after"
        try:
            yield
            outcome = "done in"
        except (KeyboardInterrupt, GeneratorExit):
            outcome = "stopped after"
            raise
        finally:
            with self._lock:
                self._steps.remove(step)
                if step.seconds >= _QUIET_SECONDS or outcome != "done in":
                    self._write(f"{self._verb} {what}: {outcome} {step.seconds:.0f} s\n")
                elif self._terminal:
                    self._write("")

    def _tick(self) -> None:
        """Say how the steps are going, until all is over."""
        wait = _QUIET_SECONDS
        while not self._over.wait(wait):
            with self._lock:
                steps = [step for step in self._steps if step.seconds >= _QUIET_SECONDS]
                if steps:
                    self._show("; ".join(map(str, steps)))
            # Soon, where there is nothing to show yet: the first line is not to be late.
            wait = self._every if steps else _REDRAW_EVERY_SECONDS

    def _show(self, steps: str) -> None:
        line = f"{self._verb} {steps}"
        if self._terminal:
            # Cut: a line that is broken by the terminal could not be written over.
            self._write(line[: shutil.get_terminal_size().columns - 1])
        else:
            self._write(f"{line}\n")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody listens any more
            self._out.write((_CLEAR if self._terminal else "") + text)
            self._out.flush()
