"""Looking on while a history is played: what was once so must not be undone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.schema.ids import EVENTS, GLOBAL_CONFIG, STATES
from firestate.stores.protocol import Query

if TYPE_CHECKING:
    from datetime import datetime

    from firestate.stores.protocol import Store


class HistoryMonitor:
    """Remembers the latest of each document."""

    def __init__(self) -> None:
        self._latest: dict[str, tuple[int, int]] = {}
        self._events: dict[str, dict[str, Any]] = {}
        self._folded_at: datetime | None = None

    def look(self, store: Store) -> None:
        """States only go forward, also past their removal; events stay as they are."""
        for state in store.query(Query(STATES)):
            order = (state.data["epoch"], state.data["revision"])
            assert order >= self._latest.get(state.path, order), f"{state.path} went back"
            self._latest[state.path] = order
        for event in store.query(Query(EVENTS)):
            content = {k: v for k, v in event.data.items() if k != "counted"}
            assert self._events.setdefault(event.path, content) == content, event.path
        if folded := store.read(GLOBAL_CONFIG):
            folded_at = folded.data["system_metrics"]["folded_at"]
            assert self._folded_at is None or folded_at >= self._folded_at, "global_config"
            self._folded_at = folded_at
