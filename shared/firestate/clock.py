"""What time it is, on a machine whose clock may be wrong.

A flat battery, a virtual machine that was frozen, somebody who sets it by hand: a clock can be a
year off, or jump. What is said by a wrong clock is refused as of the future or of long ago, or has
expired when it comes. So the wall clock is never taken at its word:

    a jump       the time that has passed is measured by a clock that nobody sets: the present is
                 the wall clock's, as long as that has gone on as the other has
    an offset    a store says what time it is; who is off by more than a minute goes by the store

The log says once that the clock is wrong.
"""

from __future__ import annotations

import logging
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_LOG = logging.getLogger("firestate.clock")
_TOLERATED = timedelta(minutes=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class _Known(NamedTuple):
    """The wall clock when no time had passed by the other one; how far it is behind the truth."""

    base: datetime
    behind: timedelta = timedelta(0)
    is_sure: bool = False
    moves: tuple[timedelta, ...] = ()


class Clock:
    """The present of a process. Any thread may ask for it: what is known is replaced as a whole."""

    def __init__(
        self,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        elapsed: Callable[[], float] | None = None,
    ) -> None:
        """Begin at the time of the wall clock, until a store says another."""
        self._wall = wall
        self._elapsed = elapsed or elapsed_seconds
        self._known = _Known(self._base())
        self._is_warned = False

    @property
    def is_sure(self) -> bool:
        """Whether a store has said what time it is."""
        return self._known.is_sure

    @property
    def behind(self) -> timedelta:
        """How far this machine's clock is behind the stores; less than nothing: ahead."""
        return self._known.behind

    @property
    def moves(self) -> tuple[timedelta, ...]:
        """By how much the present has been moved, each time that a store has said another one."""
        return self._known.moves

    def now(self) -> datetime:
        """Return the present, in UTC."""
        return self.uncorrected() + self._known.behind

    def uncorrected(self) -> datetime:
        """Return the present as this machine has it, without its jumps."""
        wall, steady = self._wall(), self._steady()
        if abs(wall - steady) <= _TOLERATED:
            return wall
        self._warn(f"it has jumped by {_text(wall - steady)}: the time that passes is counted")
        return steady

    def agrees(self, time: datetime) -> bool:
        """Whether a time that a store has said just now, or a while ago, is the present."""
        if abs(time - self.now()) > _TOLERATED:
            return False
        if not self._known.is_sure:
            self._known = self._known._replace(is_sure=True)
        return True

    def doubt(self) -> None:
        """Have a store be asked again."""
        self._known = self._known._replace(is_sure=False)

    def learn(self, time: datetime) -> None:
        """Go by the time that a store says it is now."""
        if self.agrees(time):
            return
        move = time - self.now()
        behind = time - self._wall()
        if abs(behind) <= _TOLERATED:
            behind = timedelta(0)
        self._known = _Known(self._base(), behind, is_sure=True, moves=(*self._known.moves, move))
        way = "behind" if move > timedelta(0) else "ahead of"
        self._warn(f"it was {_text(abs(move))} {way} the store: times are corrected")

    def _base(self) -> datetime:
        return self._wall() - timedelta(seconds=self._elapsed())

    def _steady(self) -> datetime:
        return self._known.base + timedelta(seconds=self._elapsed())

    def _warn(self, what: str) -> None:
        if not self._is_warned:
            self._is_warned = True
            _LOG.warning("the clock of this machine is wrong; %s", what)


def elapsed_seconds() -> float:
    """Return a time that nobody sets, and that goes on while the machine sleeps."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def microseconds(at: datetime) -> int:
    """Return a time in microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def from_microseconds(number: int) -> datetime:
    """Return the time so many microseconds after 1970 began."""
    return _EPOCH + number * _MICROSECOND


def _text(difference: timedelta) -> str:
    return str(timedelta(seconds=round(difference.total_seconds())))
