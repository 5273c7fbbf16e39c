"""Where a migration writes to, how fast it may, and what time it is there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate.stores.protocol import Store


class Pace(Protocol):
    """What says when the next writes may be done."""

    def take(self, writes: int) -> None:
        """Wait until so many may be done."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """A store, and the pace that it asks for; the clock is to be replaced by tests alone."""

    store: Store
    pace: Pace
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
