"""What operators set, as agents see it: feature flags and the emergency stop, live."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from firestate.agents.backends.backend import NEAR_SECONDS
from firestate.agents.backends.document_watch import Watch
from firestate.errors import EmergencyStopError
from firestate.schema.ids import CONTROLS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from firestate.agents.backends.backend import Backend
    from firestate.agents.backends.document_watch import Change
    from firestate.agents.callbacks import Callbacks

_LOG = logging.getLogger("firestate.controls")
_LOOK_SECONDS = 0.005


class _Seen(NamedTuple):
    """The controls as they were seen last."""

    data: Mapping[str, Any]
    stopped: bool

    @property
    def reason(self) -> str | None:
        """The operator's reason of a stop."""
        return self.data.get("emergency_reason")


class Controls:
    """The controls as last seen; what has never been seen is as if nothing were set."""

    def __init__(self, engine: Backend, callbacks: Callbacks, *, patience_seconds: float) -> None:
        """Watch them from now on; the first look waits for them as long as the patience."""
        self._engine = engine
        self._callbacks = callbacks
        self._patience_seconds = NEAR_SECONDS if engine.is_near else patience_seconds
        self._seen = _Seen({}, stopped=False)
        self._listeners: list[Callable[[Mapping[str, Any]], None]] = []
        self._stop_listeners: list[Callable[[_Seen], None]] = []
        self._watch = Watch(CONTROLS, self._changed)
        engine.watch(self._watch)

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
            raise EmergencyStopError(self._seen.reason)

    def on_change(self, listener: Callable[[Mapping[str, Any]], None]) -> None:
        """Call `listener` with all controls whenever they change, on a thread of ours."""
        self._listeners.append(listener)

    def on_emergency(self, listener: Callable[[bool, str | None], None]) -> None:
        """Call `listener` with (stopped, reason) when the stop is set or lifted.

        At once, if it is set already.
        """
        told = False

        def tell(seen: _Seen) -> None:
            # On one thread, one after the other: so what is told twice is told once.
            nonlocal told
            if seen.stopped != told:
                told = seen.stopped
                listener(seen.stopped, seen.reason)

        self._stop_listeners.append(tell)
        if (seen := self._seen).stopped:
            self._callbacks.call(tell, seen)

    def close(self) -> None:
        """Watch no more."""
        self._watch.close()

    def _now(self) -> Mapping[str, Any]:
        """Give them; waits only until they were seen once, or Firestore is known to be away."""
        deadline = time.monotonic() + self._patience_seconds
        while not (self._watch.is_current or self._engine.reading.is_lost):
            if time.monotonic() >= deadline:
                self._engine.broken("the controls were not to be had in time")
                break
            time.sleep(_LOOK_SECONDS)
        return self._seen.data

    def _changed(self, change: Change) -> None:
        data = change.data or {}
        before, self._seen = self._seen, _Seen(data, stopped=bool(data.get("emergency_stop")))
        if before.stopped != self._seen.stopped:
            word = "set" if self._seen.stopped else "lifted"
            _LOG.warning("emergency stop %s: %s", word, self._seen.reason)
            for tell in list(self._stop_listeners):
                self._callbacks.call(tell, self._seen)
        for listener in list(self._listeners):
            self._callbacks.call(listener, data)
