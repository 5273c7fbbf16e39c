"""What time it is, on a machine whose clock is wrong."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from firestate.agents.state.wrong_times import is_same_time, put_right
from firestate.clock import Clock, from_microseconds, microseconds
from firestate.schema.values import time_text

TRUE = datetime(2026, 11, 30, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(**{n: 1}) for n in ("seconds", "minutes", "hours", "days"))
YEAR = 365 * DAY


class Machine:
    """A machine whose wall clock is off; time passes as it is told."""

    def __init__(self, off: timedelta = timedelta(0)) -> None:
        self.off = off
        self.passed = timedelta(0)
        self.clock = Clock(lambda: self.true + self.off, self._seconds)

    def _seconds(self) -> float:
        return self.passed.total_seconds()

    @property
    def true(self) -> datetime:
        return TRUE + self.passed


class Warnings:
    """What the log has warned of."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING, "firestate.clock")
        self._caplog = caplog

    @property
    def all(self) -> list[str]:
        return self._caplog.messages


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Warnings:
    return Warnings(caplog)


def test_a_clock_that_is_right_is_taken_at_its_word(warnings: Warnings) -> None:
    """Also where it is slowed down or sped up a little to stay right."""
    machine = Machine()
    for _ in range(10):
        machine.passed += HOUR
        machine.off += SECOND
        machine.clock.learn(machine.true)
        assert machine.clock.now() == machine.true + machine.off
    assert (machine.clock.behind, machine.clock.moves, warnings.all) == (timedelta(0), (), [])


@pytest.mark.parametrize("off", [2 * DAY, -YEAR, 90 * SECOND, -90 * SECOND])
def test_who_is_off_goes_by_the_store_and_is_warned_once(
    off: timedelta, warnings: Warnings
) -> None:
    """However often the store says what time it is."""
    machine = Machine(off)
    assert machine.clock.now() == TRUE + off
    assert not machine.clock.is_sure
    for _ in range(3):
        machine.clock.learn(machine.true)
        machine.passed += MINUTE
        assert machine.clock.now() == machine.true
    assert machine.clock.is_sure
    assert machine.clock.behind == -off
    assert machine.clock.moves == (-off,)
    assert len(warnings.all) == 1
    assert ("ahead of" if off > timedelta(0) else "behind") in warnings.all[0]


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 2 * DAY, -YEAR])
def test_a_clock_that_jumps_each_minute_is_not_followed(
    jump: timedelta, warnings: Warnings
) -> None:
    """The time that passes is counted, without a store as with one."""
    machine = Machine()
    for number in range(100):
        machine.passed += MINUTE
        machine.off += jump
        assert machine.clock.now() == machine.true
        if number > 50:
            machine.clock.learn(machine.true)
    assert len(warnings.all) == 1


def test_one_that_is_put_right_is_followed_by_what_the_store_says(
    warnings: Warnings,
) -> None:
    """A machine that starts without the time, and learns it from the network."""
    machine = Machine(-YEAR)
    machine.off = timedelta(0)
    assert machine.clock.now() == TRUE - YEAR
    machine.clock.learn(machine.true)
    assert machine.clock.now() == TRUE
    assert machine.clock.behind == timedelta(0)
    machine.passed += DAY
    assert machine.clock.now() == machine.true
    assert len(warnings.all) == 1


def test_one_that_agrees_is_sure_until_it_is_doubted() -> None:
    machine = Machine()
    assert not machine.clock.agrees(TRUE + 2 * MINUTE)
    assert not machine.clock.is_sure
    assert machine.clock.agrees(TRUE - 30 * SECOND)
    assert machine.clock.is_sure
    machine.clock.doubt()
    assert not machine.clock.is_sure


def test_microseconds() -> None:
    assert from_microseconds(microseconds(TRUE + 5 * SECOND / 4)) == TRUE + 5 * SECOND / 4


def state(at: datetime, **more: Any) -> dict[str, Any]:
    times = dict.fromkeys(("created_at", "last_updated", "last_active"), time_text(at))
    ids = {"agent_type": "A", "agent_id": "1", "session_id": "s"}
    return {"epoch": 1, "state": {**ids, **times, **more}}


def task(at: datetime, **more: Any) -> dict[str, Any]:
    return {"task_id": "t", "started_at": time_text(at), "ended_at": time_text(at + SECOND), **more}


def corrected(off: timedelta) -> Clock:
    """Return the clock of a machine that was off, once the store has said so."""
    machine = Machine(off)
    machine.clock.learn(TRUE)
    return machine.clock


@pytest.mark.parametrize("off", [2 * DAY, 2 * HOUR, -2 * HOUR, -40 * DAY, -YEAR])
def test_what_a_wrong_clock_has_said_is_put_right_as_a_whole(off: timedelta) -> None:
    """A state with its history, so that durations stay; what others have said before stays."""
    before = task(TRUE - 3 * YEAR)
    message = state(
        TRUE + off,
        task_history=[before, task(TRUE + off - 2 * SECOND)],
        task_totals={"kinds": {"code": {"last_seen": time_text(TRUE + off)}}},
    )
    assert put_right(message, corrected(off)) == "agent_states/A_1_s"
    right = state(
        TRUE,
        task_history=[before, task(TRUE - 2 * SECOND)],
        task_totals={"kinds": {"code": {"last_seen": time_text(TRUE)}}},
    )
    assert message == right
    assert put_right(message, corrected(off)) is None


@pytest.mark.parametrize("off", [2 * DAY, -YEAR])
def test_events_and_tombstones_are_put_right_as_well(off: timedelta) -> None:
    """The document of an event has its time in its path."""
    event = {"event": {"event_id": "e", "timestamp": time_text(TRUE + off)}}
    assert put_right(event, corrected(off)) == "coordination/2026-11-30T12:00:00.000000Z_e"
    ids = {"agent_type": "A", "agent_id": "1", "session_id": "s"}
    tombstone = {"deleted": {**ids, "deleted_at": time_text(TRUE + off)}}
    assert put_right(tombstone, corrected(off)) == "agent_states/A_1_s"
    for body, name in ((event["event"], "timestamp"), (tombstone["deleted"], "deleted_at")):
        assert body[name] == time_text(TRUE)


def test_what_a_former_process_has_said_is_put_right_by_the_present() -> None:
    """Its clock was ahead, and is right by now: nobody knows by how much."""
    event = {"event": {"event_id": "e", "timestamp": time_text(TRUE + 2 * DAY)}}
    assert put_right(event, Machine().clock) == "coordination/2026-11-30T12:00:00.000000Z_e"


@pytest.mark.parametrize(
    ("off", "at"),
    [
        (timedelta(0), TRUE - YEAR),  # it has waited for so long
        (timedelta(0), TRUE + 30 * MINUTE),
        (-YEAR, TRUE - 20 * DAY),  # said while the clock was right
        (-YEAR, TRUE),
        (2 * DAY, TRUE - 3 * DAY),
        (-10 * MINUTE, TRUE - 10 * MINUTE),
    ],
)
def test_what_was_right_stays(off: timedelta, at: datetime) -> None:
    message = state(at, task_history=[task(at)])
    assert put_right(message, corrected(off)) is None
    assert message == state(at, task_history=[task(at)])


@pytest.mark.parametrize("message", [{}, {"state": 1}, {"other": {}}, {"state": {}}])
def test_what_is_no_message_stays(message: dict[str, Any]) -> None:
    """Whoever ingests it says so."""
    assert put_right(message, corrected(2 * DAY)) is None


def test_a_time_is_the_same_before_and_after_it_was_put_right() -> None:
    """By it a task is known that began before the store had said what time it is."""
    clock = corrected(2 * DAY)
    raw, right = time_text(TRUE + 2 * DAY), time_text(TRUE)
    assert is_same_time(raw, right, clock)
    assert is_same_time(right, right, clock)
    assert not is_same_time(right, raw, clock)
    assert not is_same_time(None, right, clock)
