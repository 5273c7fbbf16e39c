"""The local engine as a backend: over a file or memory of this machine, and always there."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING

from firestate.agents.state.clock import CLOCK, now
from firestate.client.outgoing import Outgoing
from firestate.clock import from_microseconds
from firestate.errors import FirestateError
from firestate.forking import ForkSafe
from firestate.local.engine import LocalEngine
from firestate.outbox.connection import Link
from firestate.outbox.writer import place_of
from firestate.schema.messages import WRITER
from firestate.worker import Thread, Wakeup, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from firestate.agents.backends.document_watch import Watch
    from firestate.stores.protocol import Store

_LOG = logging.getLogger("firestate.watch")
_LOOK_SECONDS = 0.2
_LOOK_FOR_FILE_SECONDS = 0.5
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
        self._on_replaced: Callable[[], None] = lambda: None
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
        self._place: str | None = None
        self._look_at = 0.0
        self._looked: dict[int, int] = {}  # at which commit each watch was looked at last
        self._added = Wakeup()
        self._watcher = Thread("firestate-watcher", self._run)

    def _open(self) -> None:
        engine = self.engine
        if self._closing:
            engine.close()

    def after_fork(self) -> None:
        """Open the file anew when it is needed; what was in memory is the parent's."""
        self.leak(self._opened)
        self._begin()

    @property
    def engine(self) -> LocalEngine:
        """The engine itself: to settle it in tests, to look into its store."""
        former, is_kept = None, True
        with self._lock:
            if self._opened is not None and self._is_misplaced():
                former = self._opened
                is_kept = self._keep(former)
                self._opened = None
            if self._opened is None:
                opened = LocalEngine(self._path, clock=now)
                try:
                    # Where this machine's clock is behind what was written last, it is wrong.
                    CLOCK.learn(opened.store.now())
                except BaseException:
                    opened.close()
                    raise
                opened.start()
                self._opened = opened
                self._place = None if self._path is None else place_of(self._path)
                if self._watches:
                    self._watcher.start()
            engine = self._opened
        if former is not None:
            former.close()
            self._looked.clear()
        if not is_kept:
            self._on_replaced()
        return engine

    def on_replaced(self, listener: Callable[[], None]) -> None:
        """Call `listener` where the file is another one, which may not hold what was sent."""
        self._on_replaced = listener

    def _is_misplaced(self) -> bool:
        """Whether another file, or none, lies where the engine's did: looked for twice a second."""
        now = time.monotonic()
        if self._path is None or self._closing or now < self._look_at:
            return False
        self._look_at = now + _LOOK_FOR_FILE_SECONDS
        return place_of(self._path) != self._place

    def _keep(self, former: LocalEngine) -> bool:
        """Copy what the former file held to where it lay; return whether that could be done."""
        path = self._path
        if path is None:
            return True
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() and former.store.copy_to(path):
                _LOG.warning("the local engine's file %s had vanished: it is there again", path)
                return True
            _LOG.error("%s was replaced: what was saved of late goes into the new file", path)
        except (OSError, FirestateError) as error:
            _LOG.error("what %s held cannot be read any more: %s", path, error)
        return False

    def send(self, topic: str, messages: Sequence[bytes], writer: str) -> None:
        """Ingest them, one after the other, each with the attribute `writer`."""
        for data in messages:
            self.engine.publish(Outgoing(topic, data, {WRITER: writer}))

    def learn_time(self) -> None:
        """Ask nobody: the time of the file is known since it was opened."""

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
                    watch.interrupted()
                    self._looked.pop(key, None)
                    if not self._closing:
                        self.broken(str(error))
            self._added.wait(_LOOK_SECONDS)

    def _look_if_changed(self, key: int, watch: Watch) -> None:
        # Asked before: a commit in between is looked at twice, and never missed.
        last = self.engine.store.last_commit()
        if self._looked.get(key) != last:
            if (time := from_microseconds(last)) > now():
                CLOCK.learn(time)  # of another process of this file, which does not go back
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
