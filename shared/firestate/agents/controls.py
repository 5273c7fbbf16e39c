"""What operators set, as agents see it: feature flags and the emergency stop, live."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from firestate.agents.backends.backend import NEAR_SECONDS
from firestate.agents.backends.document_watch import Watch
from firestate.errors import EmergencyStopError, EmergencyStopUnknownError
from firestate.forking import ForkSafe
from firestate.limits import STOP_UNKNOWN_AFTER_SECONDS
from firestate.schema.ids import CONTROLS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from firestate.agents.backends.backend import Backend
    from firestate.agents.backends.document_watch import Change
    from firestate.agents.callbacks import Callbacks

WhenUnknown = Literal["open", "closed"]

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


class Controls(ForkSafe):
    """The controls as last seen; what has never been seen is as if nothing were set.

    Of the emergency stop it is unknown whether it is set, where it could not be read yet, or, once
    it was, for more than 60 seconds. With `when_unknown="closed"` it is then as if it were set.
    """

    def __init__(
        self,
        engine: Backend,
        callbacks: Callbacks,
        *,
        patience_seconds: float,
        when_unknown: WhenUnknown = "open",
    ) -> None:
        """Watch them from now on; the first look waits for them as long as the patience."""
        super().__init__()
        self._engine = engine
        self._callbacks = callbacks
        self._patience_seconds = NEAR_SECONDS if engine.is_near else patience_seconds
        self._seen = _Seen({}, stopped=False)
        self._listeners: list[Callable[[Mapping[str, Any]], None]] = []
        self._stop_listeners: list[Callable[[_Seen], None]] = []
        self._when_unknown = when_unknown
        self._watch = Watch(CONTROLS, self._changed)
        self._is_watching = True
        engine.watch(self._watch)

    def after_fork(self) -> None:
        """Watch them anew when they are asked for: the parent is told of changes, not the child."""
        self._watch.interrupted()
        self._is_watching = False

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
        return bool(self._now().get("emergency_stop")) or self._unknown() is not None

    def check(self) -> None:
        """Raise EmergencyStopError while all agents are to stop.

        It is an EmergencyStopUnknownError where nobody knows, and `when_unknown` is "closed".
        """
        if self._now().get("emergency_stop"):
            raise EmergencyStopError(self._seen.reason)
        if why := self._unknown():
            raise EmergencyStopUnknownError(why)

    def on_change(self, listener: Callable[[Mapping[str, Any]], None]) -> None:
        """Call `listener` with all controls whenever they change, on a thread of ours."""
        self._listeners.append(listener)

    def on_emergency(self, listener: Callable[[bool, str | None], None]) -> None:
        """Call `listener` with (stopped, reason) when the stop is set or lifted.

        At once, if it is set already. Of a state that is unknown it is not told.
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
        if not self._is_watching:
            self._is_watching = True
            self._engine.watch(self._watch)  # once more does no harm
        deadline = time.monotonic() + self._patience_seconds
        while not (self._watch.is_current or self._engine.reading.is_lost):
            if time.monotonic() >= deadline:
                self._engine.broken("the controls were not to be had in time")
                break
            time.sleep(_LOOK_SECONDS)
        return self._seen.data

    def _unknown(self) -> str | None:
        """Return why nobody knows whether agents are to stop; None where that is known, or open."""
        if self._when_unknown == "open":
            return None
        if not self._watch.is_current:
            how_long = "yet"
        else:
            since = self._watch.interrupted_at
            seconds = 0.0 if since is None else time.monotonic() - since
            if seconds <= STOP_UNKNOWN_AFTER_SECONDS:
                return None
            how_long = f"for {seconds:,.0f} s"
        reason = self._engine.reading.state.reason
        return f"it could not be read {how_long}" + (f" ({reason})" if reason else "")

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
