"""One pipeline for all tests that need one: it takes some ten seconds to start."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.load.runner import Runner, runner

if TYPE_CHECKING:
    from pathlib import Path


class SharedPipeline:
    """Keeps a pipeline from test to test; makes it anew after `close`."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._open = contextlib.ExitStack()
        self._runner: Runner | None = None
        self._times = 0

    def runner(self) -> Runner:
        """Return the pipeline, with one process of each function."""
        if self._runner is None:
            self._times += 1
            logs = self._logs / str(self._times)
            logs.mkdir()
            self._runner = self._open.enter_context(runner(logs))
        return self._runner

    def empty(self) -> Runner:
        """Return the pipeline with nothing stored, and nothing on its way."""
        fresh = self._runner is None
        running = self.runner()
        if not fresh:
            running.empty()
        return running

    def close(self) -> None:
        """End the pipeline."""
        self._runner = None
        self._open.close()
