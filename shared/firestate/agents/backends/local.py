"""The local engine as a backend: over a file or memory of this machine, and always there."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING

from firestate.client.outgoing import Outgoing
from firestate.errors import FirestateError
from firestate.forking import ForkSafe
from firestate.local.engine import LocalEngine
from firestate.outbox.connection import Link

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from firestate.agents.backends.document_watch import Watch
    from firestate.stores.protocol import Store

_LOG = logging.getLogger("firestate.watch")
_LOOK_SECONDS = 0.2


class LocalBackend(ForkSafe):
    """The local engine, over a file or memory; always there."""

    is_near = True

    def __init__(self, path: Path | None) -> None:
        """Open the file `path`, or memory; raise ConfigurationError where that cannot be done."""
        super().__init__()
        self._path = path
        self.publishing = Link("the local engine's file")
        self.reading = Link("the local engine's file")
        self._watches: list[Watch] = []
        self._begin()
        self.engine.store.now()
        self.reading.back()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._opened: LocalEngine | None = None
        self._closing = threading.Event()
        self._watcher: threading.Thread | None = None

    def after_fork(self) -> None:
        """Open the file anew when it is needed; what was in memory is the parent's."""
        self.leak(self._opened)
        self._begin()

    @property
    def engine(self) -> LocalEngine:
        """The engine itself: to settle it in tests, to look into its store."""
        with self._lock:
            if self._opened is None:
                self._opened = LocalEngine(self._path)
                self._opened.start()
                if self._watches:
                    self._watch_on()
            return self._opened

    def send(self, topic: str, messages: Sequence[bytes]) -> None:
        """Ingest them, one after the other."""
        for data in messages:
            self.engine.publish(Outgoing(topic, data))

    def store(self) -> Store:
        """Give the engine's store."""
        return self.engine.store

    def broken(self, reason: str) -> None:
        """Log it: a file does not go away and come back."""
        _LOG.error("the local engine's file cannot be read: %s", reason)

    def watch(self, watch: Watch) -> None:
        """Look at it now, so that it is current, and then again and again."""
        self._look(watch)
        with self._lock:
            self._watches = [each for each in self._watches if not each.is_over] + [watch]
            self._watch_on()

    def _watch_on(self) -> None:
        if self._watcher is None and not self._closing.is_set():
            self._watcher = threading.Thread(
                target=self._run, name="firestate-watcher", daemon=True
            )
            self._watcher.start()

    def _run(self) -> None:
        while not self._closing.wait(_LOOK_SECONDS):
            for each in list(self._watches):
                try:
                    self._look(each)
                except FirestateError as error:
                    self.broken(str(error))

    def _look(self, watch: Watch) -> None:
        store = self.engine.store
        watch.begin()
        if isinstance(watch.target, tuple):
            found = list(store.read_many(watch.target).values())
        else:
            found = list(store.query(watch.target))
        for each in found:
            watch.found(each.path, each.data, each.token)
        watch.current()

    def close(self) -> None:
        """Count what is to be counted, as far as that is quick, and close the file."""
        self._closing.set()
        if self._watcher is not None:
            self._watcher.join()
        if self._opened is not None:
            with contextlib.suppress(FirestateError):
                self._opened.settle(timeout_seconds=2.0)  # the queue keeps what is left
            self._opened.close()
