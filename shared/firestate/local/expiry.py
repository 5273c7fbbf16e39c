"""When documents whose time is up are removed: decided by two clocks and two sweeps.

Firestore removes what has expired within a day, by a clock that is right. The clock of one machine
may be wrong: a battery is flat, somebody sets it by hand. What a wrong clock removes is gone. So
one look at it decides nothing:

    sweep 1    remembers its time, in the file
    sweep 2    a day later or more: removes what had expired at the time of sweep 1

and within a process the wall clock must have gone on as the monotonic one has.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

MOST_DRIFT = timedelta(hours=1)
"""By so much wall clock and monotonic clock may have gone apart since the process began."""

BETWEEN_SWEEPS = timedelta(days=1)


class Expiry(NamedTuple):
    """What a sweep does: remove what expired up to `until`, remember `at`; None: not."""

    until: datetime | None
    at: datetime | None
    reason: str = ""


def decide_expiry(former: datetime | None, now: datetime, drift: timedelta) -> Expiry:
    """Decide what a sweep at `now` does, where the `former` one was at that time.

    `drift` is how far the wall clock has gone ahead of the monotonic one.
    """
    if abs(drift) > MOST_DRIFT:
        return Expiry(None, None, f"the clock has jumped by {drift}")
    if former is None:
        return Expiry(None, now)
    if now < former:
        return Expiry(None, now, f"the clock was {former - now} ahead at the sweep before")
    if now - former < BETWEEN_SWEEPS:
        return Expiry(None, None)
    return Expiry(former, now)


class ClockWatch:
    """How far the wall clock has gone ahead of the monotonic one since this was made."""

    def __init__(self, now: datetime, elapsed: float) -> None:
        """Begin at a time by both clocks."""
        self._now = now
        self._elapsed = elapsed

    def drift(self, now: datetime, elapsed: float) -> timedelta:
        """Return how far it is, at a time by both clocks."""
        return (now - self._now) - timedelta(seconds=elapsed - self._elapsed)
