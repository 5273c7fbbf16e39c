"""Agents in processes of their own, forked from one that has loaded everything.

What a process has done it writes into a log, line by line, with calls that a kill finds done or not
done: a line that is there was written after the call that it tells of had returned.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import traceback
from typing import TYPE_CHECKING, Any

from tests.load.runner import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import ForkServerProcess
    from pathlib import Path

    from tests.load.runner import Runner

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["firestate.agents.manager", "firestate.agents.backends.cloud", "tests.chaos.agent_processes"]
)


class Log:
    """A file of JSON lines; each is one write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def write(self, **line: Any) -> None:
        if self._handle is None:
            self._handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(self._handle, json.dumps(line).encode() + b"\n")

    def lines(self) -> Iterator[dict[str, Any]]:
        if self._path.exists():
            for line in self._path.read_text().splitlines():
                yield json.loads(line)


def environment_of(pipeline: Runner) -> dict[str, str]:
    """Give what a process needs to find the pipeline."""
    return {
        "FIRESTORE_EMULATOR_HOST": pipeline.firestore_host,
        "PUBSUB_EMULATOR_HOST": pipeline.pubsub_host,
        "GOOGLE_CLOUD_PROJECT": PROJECT,
    }


def process(
    environment: dict[str, str], work: Callable[..., None], log: Path, *arguments: Any
) -> ForkServerProcess:
    """Begin `work` in a process of its own; it is handed its log, and the arguments."""
    made = _FORKS.Process(target=_run, args=(environment, work, log, arguments), daemon=True)
    made.start()
    return made


def _run(
    environment: dict[str, str], work: Callable[..., None], path: Path, arguments: tuple[Any, ...]
) -> None:
    os.environ.update(environment)
    log = Log(path)
    try:
        work(log, *arguments)
    except BaseException:
        log.write(broken=traceback.format_exc())
        raise
