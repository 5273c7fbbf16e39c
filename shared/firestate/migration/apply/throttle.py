"""The pace of a migration: no faster than Firestore asks for, slowly faster, and patient.

Firestore splits its ranges as load grows, for which it needs time: begin with 500 operations a
second, and raise that by half every five minutes. Faster, and others would find it slow.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, TypeVar

from firestate.errors import ContentionError, UnavailableError
from firestate.limits import MIGRATION_GROWS_AFTER_SECONDS, MIGRATION_GROWTH, MIGRATION_RATE

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_MOST_TRIES = 9
_LONGEST_WAIT = 60.0


class Throttle:
    """Lets writes through at a rate that grows; `most` bounds it, None takes off all bounds."""

    def __init__(
        self,
        *,
        start: float = MIGRATION_RATE,
        most: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Begin at `start` writes a second; clock and sleep are to be replaced by tests alone."""
        self._start = start
        self._most = most
        self._clock = clock
        self._sleep = sleep
        self._began: float | None = None
        self._free_at = 0.0

    def rate(self) -> float:
        """Give the writes a second that are allowed now."""
        began = self._clock() if self._began is None else self._began
        steps = (self._clock() - began) // MIGRATION_GROWS_AFTER_SECONDS
        rate: float = self._start * MIGRATION_GROWTH**steps
        return min(rate, self._most) if self._most else rate

    def take(self, writes: int) -> None:
        """Wait until so many writes may be done."""
        now = self._clock()
        if self._began is None:
            self._began = self._free_at = now
        if (wait := self._free_at - now) > 0:
            self._sleep(wait)
        self._free_at = max(now, self._free_at) + writes / self.rate()


class NoThrottle:
    """Lets all through: a file on this machine has no ranges to split."""

    def take(self, writes: int) -> None:
        """Do not wait."""


def with_retries(
    call: Callable[[], T],
    *,
    sleep: Callable[[float], None] = time.sleep,
    uniform: Callable[[float, float], float] = random.uniform,
) -> T:
    """Call again after a passing fault, with waits that grow to a minute; raise after some five.

    Contention is one too: triggers that count what was written may meet on the same memory.

    What is called can be called twice.
    """
    for number in range(_MOST_TRIES):
        try:
            return call()
        except (UnavailableError, ContentionError):
            sleep(uniform(0.5, 1.0) * min(2.0**number, _LONGEST_WAIT))
    return call()
