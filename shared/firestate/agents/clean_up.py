"""What `StateManager.clean_up` has deleted, or would delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firestate.schema.ids import Identity


class CleanUp(int):
    """How many sessions: a number, which also says in `sessions` which ones they are."""

    sessions: tuple[Identity, ...]

    def __new__(cls, sessions: Iterable[Identity]) -> Self:
        """Count them."""
        listed = tuple(sessions)
        made = super().__new__(cls, len(listed))
        made.sessions = listed
        return made

    def __getnewargs__(self) -> tuple[tuple[Identity, ...]]:  # type: ignore[override] # not an int's
        """Return what it is made of, for a copy."""
        return (self.sessions,)
