"""Where a migration writes to, how fast it may, and what time it is there."""

from __future__ import annotations

import os
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
    """A store, and the pace that it asks for; `label` names it, so that no other is taken for it.

    The clock is to be replaced by tests alone.
    """

    store: Store
    pace: Pace
    label: str = ""
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)


def firestore_label(project: str) -> str:
    """Name a project's Firestore; an emulator's is another one."""
    host = os.environ.get("FIRESTORE_EMULATOR_HOST")
    return f"project {project}" + (f" on the emulator {host}" if host else "")
