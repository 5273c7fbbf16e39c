"""Calling what users want to be called back by, on a thread that does nothing else.

A callback may do anything: wait, raise, save, close the manager. On a thread that sends or watches
it would keep those from what they are there for.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING, Any

from firestate.forking import ForkSafe

if TYPE_CHECKING:
    from collections.abc import Callable

_LOG = logging.getLogger("firestate.callbacks")
_CLOSE_SECONDS = 1.0


class Callbacks(ForkSafe):
    """One thread, which begins with the first call; calls are made in their order."""

    def __init__(self) -> None:
        """Have nothing to call yet."""
        super().__init__()
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew: what is left to be called is the parent's."""
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def call(self, function: Callable[..., Any], *arguments: object) -> None:
        """Call a function soon; whatever it raises is logged."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="firestate-callbacks", daemon=True
                )
                self._thread.start()
        self._calls.put(lambda: function(*arguments))

    def close(self) -> None:
        """Make the calls that wait, and end; from within one of them, after it."""
        self._calls.put(None)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except Exception:  # noqa: BLE001 - the user's own
                _LOG.exception("a callback failed")
