"""Reads that nobody waits for: done in the background, as soon as the store can be read."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from firestate.agents.reading.answers import ReadRequest
from firestate.errors import OutboxError, UnavailableError
from firestate.forking import ForkSafe
from firestate.worker import Thread, Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate.agents.backends.backend import Backend
    from firestate.agents.reading.answers import Document, Find
    from firestate.agents.reading.store_reader import StoreReader
    from firestate.schema.ids import Identity

    Done = Callable[[list[Document]], object]

_LOG = logging.getLogger("firestate.agents")
_LOOK_SECONDS, _MOST_PAUSE = 0.2, 5.0
_CLOSE_SECONDS = 5.0


class BackgroundReads(ForkSafe):
    """Reads documents and passes them on; each read is tried again until it has succeeded."""

    def __init__(self, backend: Backend, reader: StoreReader) -> None:
        """Begin without any reads."""
        super().__init__()
        self._backend = backend
        self._reader = reader
        self.after_fork()

    def after_fork(self) -> None:
        """Begin without any reads: those that wait are the parent's."""
        self._waiting: deque[tuple[Find, Done, bool]] = deque()
        self._added = Wakeup()
        self._closing = False
        self._thread = Thread("firestate-background-reads", self._run)

    def add(self, find: Find, done: Done) -> None:
        """Call `done` with the documents found, once they could be looked for.

        Where a read is one of this machine, at once. Where `done` returns False, such as for what
        has moved since it was read, they are looked for again, after a pause.
        """
        self._add(find, done, stored=False)

    def _add(self, find: Find, done: Done, *, stored: bool) -> None:
        if self._backend.is_near and self._tried(find, done, stored):
            return
        self._waiting.append((find, done, stored))
        if not self._closing:
            self._thread.start()
        self._added.call()

    def add_stored(self, identity: Identity, done: Callable[[Document | None], None]) -> None:
        """Call `done` with the document of a state as it is stored, once that could be read."""
        self._add(identity, lambda found: done(found[0] if found else None), stored=True)

    def ask(self, find: Find) -> list[Document]:
        """Return the documents found now, or what is known of them."""
        return self._reader.ask(ReadRequest(find, lambda found, _: found))

    def ask_stored(self, identity: Identity) -> Document | None:
        """Return the document of a state as it is stored; None where it cannot be read now."""
        request = ReadRequest(identity, lambda found, fresh: found if fresh else [], stored=True)
        found = self._reader.ask(request)
        return found[0] if found else None

    def close(self) -> None:
        """Leave undone what is not done."""
        self._closing = True
        self._added.call()
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        pause = 0.0
        while not self._closing:
            self._added.wait()
            while self._waiting and not self._closing:
                if not self._backend.reading.is_lost and self._tried(*self._waiting[0]):
                    self._waiting.popleft()
                    pause = 0.0
                else:
                    # The next one, which may fare better; they are many only after an outage.
                    self._waiting.rotate(-1)
                    pause = min(2 * pause + _LOOK_SECONDS, _MOST_PAUSE)
                    self._added.wait(_LOOK_SECONDS if self._backend.reading.is_lost else pause)

    def _tried(self, find: Find, done: Done, stored: bool) -> bool:  # noqa: FBT001 - of what waits
        request = ReadRequest(find, lambda found, fresh: (found, fresh), stored)
        try:
            found, fresh = self._reader.ask(request)
        except Exception:  # noqa: BLE001 - nobody else would read
            _LOG.exception("a background read has failed, and is tried again")
            return False
        if fresh:
            try:
                return done(found) is not False
            except (OutboxError, UnavailableError):
                _LOG.exception("what was read in the background is taken later")
                return False
            except Exception:  # noqa: BLE001 - it is done, whatever it has led to; others wait
                _LOG.exception("what was read in the background could not be taken")
        return fresh
