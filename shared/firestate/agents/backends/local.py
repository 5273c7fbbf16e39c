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
from firestate.worker import Thread, Wakeup, Worker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from firestate.agents.backends.document_watch import Watch
    from firestate.stores.protocol import Store

_LOG = logging.getLogger("firestate.watch")
_LOOK_SECONDS = 0.2
_CLOSE_SECONDS = 5.0


class LocalBackend(ForkSafe):
    """The local engine, over a file or memory; always there."""

    is_near = True

    def __init__(self, path: Path | None) -> None:
        """Open the file `path`, or memory; raise ConfigurationError where that cannot be done."""
        super().__init__()
        self._path = path
        self.publishing = Link("the local engine's file")
        self.reading = Link("the local engine's file")
        self._watches: dict[int, Watch] = {}
        self._begin()
        # On a thread of ours: this is a transaction, which keeps others from writing, such as a
        # signal handler in the middle of it.
        try:
            Worker("firestate-local").run_last(self._open)
        except BaseException:
            self._closing = True  # nobody will have it: it is not to stay open
            raise
        self.reading.back()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._opened: LocalEngine | None = None
        self._closing = False
        self._looked: dict[int, int] = {}  # at which commit each watch was looked at last
        self._added = Wakeup()
        self._watcher = Thread("firestate-watcher", self._run)

    def _open(self) -> None:
        engine = self.engine
        engine.store.now()
        if self._closing:
            engine.close()

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
                    self._watcher.start()
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
        """Look at it soon, so that it is current, and then again and again."""
        self._watches[id(watch)] = watch
        self._watcher.start()
        self._added.call()

    def _run(self) -> None:
        while not self._closing:
            for key, watch in list(self._watches.items()):
                if watch.is_over:
                    self._watches.pop(key, None)
                    self._looked.pop(key, None)
                    continue
                try:
                    self._look_if_changed(key, watch)
                except FirestateError as error:
                    if not self._closing:
                        self.broken(str(error))
            self._added.wait(_LOOK_SECONDS)

    def _look_if_changed(self, key: int, watch: Watch) -> None:
        # Asked before: a commit in between is looked at twice, and never missed.
        last = self.engine.store.last_commit()
        if self._looked.get(key) != last:
            self._look(watch)
            self._looked[key] = last

    def _look(self, watch: Watch) -> None:
        watch.begin()
        store = self.engine.store
        if isinstance(watch.target, tuple):
            found = list(store.read_many(watch.target).values())
        else:
            found = list(store.query(watch.target))
        for each in found:
            watch.found(each.path, each.data, each.token)
        watch.current()

    def close(self) -> None:
        """Count what is to be counted, as far as that is quick, and close the file."""
        self._closing = True
        self._added.call()
        self._watcher.join(_CLOSE_SECONDS)
        if self._opened is not None:
            with contextlib.suppress(FirestateError):
                self._opened.settle(timeout_seconds=2.0)  # the queue keeps what is left
            self._opened.close()
