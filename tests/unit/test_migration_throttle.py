"""The pace of a migration, by a clock that only waiting moves."""

from __future__ import annotations

from collections import Counter

import pytest

from firestate.errors import ContentionError, RefusedError, UnavailableError
from firestate.migration.apply.throttle import NoThrottle, Throttle, with_retries


class Clock:
    """Goes on when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_five_hundred_at_first_and_half_as_many_more_every_five_minutes(clock: Clock) -> None:
    """What was let through by the end of each step is what the rates add up to."""
    throttle = Throttle(clock=clock, sleep=clock.sleep)
    done: Counter[int] = Counter()
    while clock.now < 1_000 + 1_500:
        throttle.take(100)
        done[int(clock.now - 1_000) // 300] += 100
    for step in range(5):
        assert done[step] == pytest.approx(300 * 500 * 1.5**step, rel=0.01)


@pytest.mark.parametrize(
    ("minutes", "most", "rate"),
    [
        (0, None, 500),
        (4.9, None, 500),
        (5, None, 750),
        (10, None, 1_125),
        (60, None, 500 * 1.5**12),
        (0, 20, 20),
        (60, 600, 600),
    ],
)
def test_the_rate(clock: Clock, minutes: float, most: float | None, rate: float) -> None:
    """It grows from the first write on, not from when the throttle was made."""
    throttle = Throttle(most=most, clock=clock, sleep=clock.sleep)
    clock.now += 3_600
    assert throttle.rate() == min(500, most or 500)
    throttle.take(1)
    clock.now += minutes * 60
    assert throttle.rate() == pytest.approx(rate)


def test_the_first_batch_does_not_wait_and_the_next_waits_for_it(clock: Clock) -> None:
    """A batch takes the time of its writes."""
    throttle = Throttle(start=100, clock=clock, sleep=clock.sleep)
    throttle.take(200)
    assert clock.slept == []
    throttle.take(50)
    assert clock.slept == [pytest.approx(2.0)]
    throttle.take(1)
    assert clock.slept[1:] == [pytest.approx(0.5)]


def test_what_was_not_used_is_not_saved_up(clock: Clock) -> None:
    """After a pause there is no burst."""
    throttle = Throttle(start=100, clock=clock, sleep=clock.sleep)
    throttle.take(1)
    clock.now += 100
    throttle.take(100)
    throttle.take(100)
    assert clock.slept == [pytest.approx(1.0)]


def test_a_file_on_this_machine_has_no_pace(clock: Clock) -> None:
    """There is nothing to wait for."""
    NoThrottle().take(1_000_000)
    assert clock.slept == []


@pytest.mark.parametrize("faults", [0, 1, 9])
@pytest.mark.parametrize("fault", [UnavailableError, ContentionError])
def test_passing_faults_are_waited_out(fault: type[Exception], clock: Clock, faults: int) -> None:
    """The waits grow to a minute."""
    left = faults

    def call() -> str:
        nonlocal left
        left -= 1
        if left >= 0:
            raise fault("away")
        return "done"

    assert with_retries(call, sleep=clock.sleep, uniform=lambda _low, high: high) == "done"
    assert clock.slept == [1, 2, 4, 8, 16, 32, 60, 60, 60][:faults]


def test_what_stays_away_is_told_in_the_end(clock: Clock) -> None:
    """After ten tries, some four minutes; waits are spread, so that not all come back at once."""

    def call() -> None:
        raise UnavailableError("away")

    with pytest.raises(UnavailableError):
        with_retries(call, sleep=clock.sleep, uniform=lambda low, _high: low)
    assert clock.slept == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_what_is_refused_is_not_asked_again(clock: Clock) -> None:
    """Only a passing fault passes."""

    def call() -> None:
        raise RefusedError("no")

    with pytest.raises(RefusedError):
        with_retries(call, sleep=clock.sleep)
    assert clock.slept == []
