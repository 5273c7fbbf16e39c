"""Reads that nobody waits for: done in the background, as soon as the store can be read."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

from firestate.agents.answers import Document, LookUp, Question
from firestate.outbox.forking import ForkSafe

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate.agents.engines import Engine
    from firestate.agents.reader import Reader

    Done = Callable[[list[Document]], None]

_LOG = logging.getLogger("firestate.agents")
_LOOK_SECONDS = 0.2


class Errands(ForkSafe):
    """Finds documents for each errand, and hands them over; in order, each until it is done."""

    def __init__(self, engine: Engine, reader: Reader) -> None:
        """Have nothing to do yet."""
        super().__init__()
        self._engine = engine
        self._reader = reader
        self.after_fork()

    def after_fork(self) -> None:
        """Have nothing to do: what there was is the parent's."""
        self._waiting: deque[tuple[str | LookUp, Done]] = deque()
        self._added = threading.Event()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def do(self, find: str | LookUp, done: Done) -> None:
        """Call `done` with the documents found, once they could be looked for.

        Where a read is one of this machine, at once.
        """
        if self._engine.is_near and self._tried(find, done):
            return
        self._waiting.append((find, done))
        with self._lock:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(
                    target=self._run, name="firestate-errands", daemon=True
                )
                self._thread.start()
        self._added.set()

    def close(self) -> None:
        """Leave undone what is not done."""
        self._closing.set()
        self._added.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._added.wait()
            self._added.clear()
            while self._waiting and not self._closing.is_set():
                if self._engine.reading.is_lost or not self._tried(*self._waiting[0]):
                    self._closing.wait(_LOOK_SECONDS)
                else:
                    self._waiting.popleft()

    def _tried(self, find: str | LookUp, done: Done) -> bool:
        found, fresh = self._reader.ask(Question(find, lambda found, fresh: (found, fresh)))
        if fresh:
            try:
                done(found)
            except Exception:  # noqa: BLE001 - it is done, whatever it has led to; others wait
                _LOG.exception("what was read in the background could not be taken")
        return fresh
