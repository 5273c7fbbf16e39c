"""What is watched: a document or a query, and what has changed of it.

A watch begins again whenever its connection does, and is then told all there is. So it remembers at
which version it has told each document, and tells each change once; what changed twice meanwhile
is one change.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from firestate.stored_states import identity_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from firestate.schema.ids import Identity
    from firestate.stores.protocol import Query

_LOG = logging.getLogger("firestate.watch")


@dataclass(frozen=True, slots=True)
class Change:
    """A document as it is now; `data` is None where it is gone, or is not of the query any more."""

    path: str
    data: Mapping[str, Any] | None


class StateChanges:
    """Tells of the changes of one state, which has one path, or two while it is being moved."""

    def __init__(self, identity: Identity, tell: Callable[[Change], None]) -> None:
        """Take whose state it is, and whom to tell."""
        self._identity = identity
        self._tell = tell
        self._there: set[str] = set()

    def __call__(self, change: Change) -> None:
        """Pass on a change, unless it is of another identity, or of one of two documents alone."""
        if change.data is not None and identity_in(change.data) == self._identity:
            self._there.add(change.path)
            self._tell(change)
        elif change.path in self._there:
            self._there.remove(change.path)
            if not self._there:
                self._tell(Change(change.path, None))


class Watch:
    """Some documents (paths) or a query; `tell` is called with each change, in the background."""

    def __init__(
        self, target: str | tuple[str, ...] | Query, tell: Callable[[Change], None]
    ) -> None:
        """Take what to watch, and whom to tell."""
        self.target = (target,) if isinstance(target, str) else target
        self.is_current = False
        """Whether all there is has been told once."""
        self.interrupted_at: float | None = None
        """Since when (by `time.monotonic`) changes may be missing; None where they are told."""
        self.is_over = False
        self._tell = tell
        self._told: dict[str, object] = {}
        self._seen: set[str] = set()

    def begin(self) -> None:
        """All there is follows now."""
        self._seen = set()
        self.interrupted()

    def interrupted(self) -> None:
        """Changes are not told for now."""
        if self.interrupted_at is None:
            self.interrupted_at = time.monotonic()

    def found(self, path: str, data: Mapping[str, Any], version: object) -> None:
        """Take a document as it is."""
        self._seen.add(path)
        if self._told.get(path) != version:
            self._told[path] = version
            self._call(Change(path, data))

    def gone(self, path: str) -> None:
        """Take it that a document is gone."""
        self._seen.discard(path)
        if self._told.pop(path, None) is not None:
            self._call(Change(path, None))

    def current(self) -> None:
        """All there is has been told; what was there before and is not any more, is gone."""
        for path in self._told.keys() - self._seen:
            self.gone(path)
        self.is_current = True
        self.interrupted_at = None

    def close(self) -> None:
        """Tell nothing any more."""
        self.is_over = True

    def _call(self, change: Change) -> None:
        if self.is_over:
            return
        try:
            self._tell(change)
        except Exception:  # noqa: BLE001 - the user's own; others watch on the same thread
            _LOG.exception("a callback failed on %s", change.path)
