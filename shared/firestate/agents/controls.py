"""What operators set, as agents see it: feature flags and the emergency stop, live."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from firestate.agents.backends.document_watch import Watch
from firestate.errors import EmergencyStopError
from firestate.forking import ForkSafe
from firestate.schema.ids import CONTROLS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from firestate.agents.backends.backend import Backend
    from firestate.agents.backends.document_watch import Change
    from firestate.agents.callbacks import Callbacks

_LOG = logging.getLogger("firestate.controls")


class Controls(ForkSafe):
    """The controls as last seen; what has never been seen is as if nothing were set."""

    def __init__(self, engine: Backend, callbacks: Callbacks, *, patience_seconds: float) -> None:
        """Watch them from now on; the first look waits for them as long as the patience."""
        super().__init__()
        self._engine = engine
        self._callbacks = callbacks
        self._patience_seconds = patience_seconds
        self._data: Mapping[str, Any] = {}
        self._stopped = False
        self._listeners: list[Callable[[Mapping[str, Any]], None]] = []
        self._stop_listeners: list[Callable[[bool, str | None], None]] = []
        self._lock = threading.Lock()
        self._watch = Watch(CONTROLS, self._changed)
        engine.watch(self._watch)

    def after_fork(self) -> None:
        """Its thread may have held the lock."""
        self._lock = threading.Lock()

    def flag(self, name: str, default: bool = False) -> bool:  # noqa: FBT001, FBT002 - `flag("x", True)` reads as it is meant
        """Give a feature flag as it is now; `default` where no operator has set it."""
        flags = self._now().get("feature_flags") or {}
        value = flags.get(name, default)
        return value if isinstance(value, bool) else default

    @property
    def settings(self) -> Mapping[str, Any]:
        """The map `global_config` that operators keep for their agents."""
        return dict(self._now().get("global_config") or {})

    @property
    def emergency_stop(self) -> bool:
        """Whether all agents are to stop."""
        return bool(self._now().get("emergency_stop"))

    def check(self) -> None:
        """Raise EmergencyStopError while all agents are to stop."""
        if self.emergency_stop:
            raise EmergencyStopError(self._data.get("emergency_reason"))

    def on_change(self, listener: Callable[[Mapping[str, Any]], None]) -> None:
        """Call `listener` with all controls whenever they change, on a thread of ours."""
        self._listeners.append(listener)

    def on_emergency(self, listener: Callable[[bool, str | None], None]) -> None:
        """Call `listener` with (stopped, reason) when the stop is set or lifted.

        At once, if it is set already.
        """
        with self._lock:
            self._stop_listeners.append(listener)
            stopped, reason = self._stopped, self._data.get("emergency_reason")
        if stopped:
            self._callbacks.call(listener, stopped, reason)

    def close(self) -> None:
        """Watch no more."""
        self._watch.close()

    def _now(self) -> Mapping[str, Any]:
        """Give them; waits only until they were seen once, or Firestore is known to be away."""
        deadline = time.monotonic() + self._patience_seconds
        while not (self._watch.is_current.is_set() or self._engine.reading.is_lost):
            left = deadline - time.monotonic()
            if left <= 0:
                self._engine.broken("the controls were not to be had in time")
                break
            self._watch.is_current.wait(min(left, 0.05))
        return self._data

    def _changed(self, change: Change) -> None:
        with self._lock:
            self._data = dict(change.data or {})
            before, self._stopped = self._stopped, bool(self._data.get("emergency_stop"))
            told = list(self._stop_listeners) if before != self._stopped else []
            stopped, reason = self._stopped, self._data.get("emergency_reason")
        if told or before != stopped:
            _LOG.warning("emergency stop %s: %s", "set" if stopped else "lifted", reason)
        for told_of_stop in told:
            self._callbacks.call(told_of_stop, stopped, reason)
        for listener in self._listeners:
            self._callbacks.call(listener, change.data or {})
