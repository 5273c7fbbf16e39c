"""When documents whose time is up are removed, by any two clocks."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestate.clock import elapsed_seconds
from firestate.local.expiry import ClockWatch, Expiry, decide_expiry
from tests.harness import NOW

NONE, HOUR, DAY = timedelta(0), timedelta(hours=1), timedelta(days=1)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("former", "drift", "until", "remembered"),
    [
        (None, NONE, None, NOW),
        (NOW - DAY + SECOND, NONE, None, None),
        (NOW - DAY, NONE, NOW - DAY, NOW),
        (NOW - 30 * DAY, NONE, NOW - 30 * DAY, NOW),
        (NOW - DAY, HOUR, NOW - DAY, NOW),
        (NOW - DAY, -HOUR, NOW - DAY, NOW),
        (NOW - DAY, HOUR + SECOND, None, None),
        (NOW - DAY, -HOUR - SECOND, None, None),
        (None, 400 * DAY, None, None),
        (NOW + SECOND, NONE, None, NOW),
        (NOW + 400 * DAY, NONE, None, NOW),
    ],
)
def test_two_sweeps_a_day_apart_and_two_clocks_must_agree(
    former: object, drift: timedelta, until: object, remembered: object
) -> None:
    """What had expired at the former sweep goes; a clock that has jumped decides nothing."""
    decision = decide_expiry(former, NOW, drift)  # type: ignore[arg-type]
    assert (decision.until, decision.at) == (until, remembered)


def test_nothing_goes_that_had_not_expired_at_the_former_sweep() -> None:
    """A sweep by a clock that is a year ahead removes nothing that was there a day ago."""
    ahead = NOW + 365 * DAY
    assert decide_expiry(NOW - DAY, ahead, NONE) == Expiry(NOW - DAY, ahead)
    assert decide_expiry(ahead, NOW, NONE).until is None


def test_a_jump_is_told_by_what_has_passed() -> None:
    """The wall clock's time passes as the monotonic one's; whoever starts it is no jump."""
    clocks = ClockWatch(NOW, 1_000.0)
    assert clocks.drift(NOW + DAY, 1_000.0 + 86_400) == NONE
    assert clocks.drift(NOW + DAY, 1_000.0) == DAY
    assert clocks.drift(NOW - HOUR, 1_060.0) == -HOUR - timedelta(minutes=1)


@given(st.lists(st.integers(-3, 3), min_size=100, max_size=400))
def test_a_clock_that_jumps_by_hours_has_nothing_expire_before_its_time(jumps: list[int]) -> None:
    """It jumps between any two sweeps, for days."""
    clocks, former = ClockWatch(NOW, 0.0), None
    wall = NOW
    for number, hours in enumerate(jumps, start=1):
        passed = number * timedelta(minutes=15)
        wall += hours * HOUR + timedelta(minutes=15)
        drift = clocks.drift(wall, passed.total_seconds())
        decision = decide_expiry(former, wall, drift)
        if decision.until is not None:
            assert decision.until <= NOW + passed - DAY + 2 * HOUR
        former = decision.at or former


def test_the_monotonic_clock_goes_on() -> None:
    """It never goes back."""
    times = [elapsed_seconds() for _ in range(100)]
    assert times == sorted(times)
