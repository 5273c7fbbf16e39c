"""What an agent keeps: entries of its memory, and its metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from firestate.agents.values import plain

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

    from firestate.agents.fields import Fields
    from firestate.schema.ids import Identity


class Keeping:
    """An agent and what it keeps; part of Agent."""

    identity: Identity
    _lock: threading.RLock
    _fields: Fields

    if TYPE_CHECKING:

        def _save(self, changes: Mapping[str, Any], *, whole: bool = False) -> None: ...

    def remember(self, key: str, value: Any) -> Self:  # noqa: ANN401 - whatever the agent wants to keep
        """Set one entry of the memory context; its `type` and `importance` are counted."""
        taken = plain({"memory_context": {key: value}})["memory_context"]
        own = {name: self._own(entry) for name, entry in taken.items()}
        with self._lock:
            memory = {**self._fields["memory_context"], **own}
            self._save({"memory_context": memory})
        return self

    def forget(self, key: str) -> Self:
        """Remove one entry of the memory context, if it is there."""
        with self._lock:
            memory = {k: v for k, v in self._fields["memory_context"].items() if k != key}
            self._save({"memory_context": memory})
        return self

    def measure(self, **metrics: float) -> Self:
        """Set entries of the performance metrics."""
        with self._lock:
            self._save({"performance_metrics": self._fields["performance_metrics"] | metrics})
        return self

    def _own(self, value: Any) -> Any:  # noqa: ANN401 - as it came
        """Name the session that made a memory, so that it counts there and nowhere else."""
        if isinstance(value, dict):
            return {"session_id": self.identity.session_id, **value}
        return value
