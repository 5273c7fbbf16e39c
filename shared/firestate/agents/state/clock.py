"""The present, in one place for all agents of this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate.clock import Clock, microseconds

if TYPE_CHECKING:
    from datetime import datetime

CLOCK = Clock()
"""Of the machine, and so of all managers of the process; a child of a fork goes on with it."""


def now() -> datetime:
    """Return the present, in UTC, corrected where this machine's clock is known to be wrong."""
    return CLOCK.now()


def now_in_microseconds() -> int:
    """Return the present in microseconds since 1970."""
    return microseconds(CLOCK.now())
