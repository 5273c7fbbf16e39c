"""Calling what users want to be called back by, on a thread that does nothing else.

A callback may do anything: wait, raise, save, close the manager. On a thread that sends or watches
it would keep those from what they are there for.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from firestate.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

_LOG = logging.getLogger("firestate.callbacks")
_CLOSE_SECONDS = 1.0


class Callbacks:
    """One thread, which begins with the first call; calls are made in their order."""

    def __init__(self) -> None:
        """Have nothing to call yet."""
        self._worker = Worker("firestate-callbacks")

    def call(self, function: Callable[..., Any], *arguments: object) -> None:
        """Call a function soon; whatever it raises is logged."""

        def called() -> None:
            try:
                function(*arguments)
            except Exception:  # noqa: BLE001 - the user's own
                _LOG.exception("a callback failed")

        self._worker.submit(called)

    def close(self) -> None:
        """Make the calls that wait, and end; from within one of them, after it."""
        self._worker.close(_CLOSE_SECONDS)
