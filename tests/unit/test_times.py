"""Times in messages that are yet to come are refused, wherever in the message they are."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestate.errors import InvalidMessageError
from firestate.ingest.events import event_creation
from firestate.ingest.states import decide_state
from firestate.limits import EARLIEST_ARRIVAL
from firestate.schema.messages import parse_event_message, parse_state_message
from firestate.schema.models import AgentState, CoordinationEvent, Totals
from firestate.schema.times import check_times, history_problems
from firestate.schema.values import time_text
from tests.harness import event_message, state_message, tombstone_message

AT = datetime(2026, 11, 30, 12, 0, 0, 5, tzinfo=UTC)
LATEST = AT + EARLIEST_ARRIVAL
SECOND = timedelta(seconds=1)
BEFORE = time_text(AT)
IN_ENTRIES = ("started_at", "ended_at", "completed_at", "timestamp")


def state(**changes: Any) -> dict[str, Any]:
    """Return a message that is not too early, but for `changes` of its state."""
    times = dict.fromkeys(("created_at", "last_updated", "last_active"), BEFORE)
    return state_message(1, **(times | changes))


def totals(group: str, time: str) -> dict[str, Any]:
    return {group: {"code": {"tries": 1, "successes": 1, "last_seen": time}}}


def messages_with(time: str) -> dict[str, dict[str, Any]]:
    """Give, by the place of a time in a message, a message that has `time` there."""
    found = {
        "state.created_at": state(created_at=time),
        "state.last_updated": state(last_updated=time),
        "state.last_active": state(last_active=time),
        "state.task_totals.kinds.code.last_seen": state(task_totals=totals("kinds", time)),
        "state.task_totals.tools.code.last_seen": state(task_totals=totals("tools", time)),
        "deleted.deleted_at": tombstone_message(1, deleted_at=time),
        "event.timestamp": event_message("e", timestamp=time),
    }
    for number, name in enumerate(IN_ENTRIES):
        history = [{"status": "completed"}] * number + [{"status": "failed", name: time}]
        found[f"state.task_history[{number}].{name}"] = state(task_history=history)
    return found


PLACES = tuple(messages_with(BEFORE))


def ingested(message: dict[str, Any]) -> None:
    """Take a message as ingest does, at the time AT."""
    data = json.dumps(message).encode()
    if "event" in message:
        event_creation(parse_event_message(data), AT)
    else:
        decide_state(None, parse_state_message(data), AT)


def refused(message: dict[str, Any]) -> list[str]:
    """Return the places that a refusal as too early names; none where the message is taken."""
    try:
        ingested(message)
    except InvalidMessageError as raised:
        error = raised
    else:
        return []
    assert error.code == "too_early"
    assert all("which is yet to come" in problem.reason for problem in error.problems)
    return [problem.field for problem in error.problems]


def test_every_time_of_a_message_has_a_place_here() -> None:
    """A field that is added as a time to a state, an event or totals is looked at as well."""
    for home, model in (("state", AgentState), ("event", CoordinationEvent)):
        times = {
            f"{home}.{name}"
            for name, info in model.model_fields.items()
            if info.annotation in (datetime, datetime | None)
        }
        assert times <= set(PLACES)
        assert times
    of_totals = {name for name, info in Totals.model_fields.items() if "last" in name}
    assert of_totals == {"last_seen"}


@pytest.mark.parametrize("place", PLACES)
def test_a_day_ahead_is_taken_and_no_second_more(place: str) -> None:
    """As late as that a clock may be; the refusal names the place, and no other."""
    for time in (BEFORE, time_text(AT + timedelta(hours=23)), time_text(LATEST)):
        assert refused(messages_with(time)[place]) == []
    assert refused(messages_with(time_text(LATEST + SECOND))[place]) == [place]
    assert refused(messages_with("9999-12-31T23:59:59.999999Z")[place]) == [place]


@pytest.mark.parametrize("place", [p for p in PLACES if not p.startswith(("deleted", "event"))])
def test_it_is_refused_whatever_is_stored(place: str) -> None:
    """As the first state of a session, of any age, and of a migration."""
    data = json.dumps(messages_with(time_text(LATEST + SECOND))[place] | {"migration": True})
    message = parse_state_message(data.encode())
    for any_age in (False, True):
        with pytest.raises(InvalidMessageError, match="yet to come"):
            decide_state(None, message, AT, of_any_age=any_age)


def test_all_places_are_named_at_once() -> None:
    """Up to twenty: who reads the quarantine sees which clock was wrong."""
    ahead = time_text(LATEST + SECOND)
    message = state(
        created_at=ahead,
        last_active=ahead,
        task_history=[{"started_at": BEFORE, "ended_at": ahead}, {}, {"timestamp": ahead}],
        task_totals=totals("tools", ahead),
    )
    assert refused(message) == [
        "state.created_at",
        "state.last_active",
        "state.task_history[0].ended_at",
        "state.task_history[2].timestamp",
        "state.task_totals.tools.code.last_seen",
    ]
    assert len(refused(state(task_history=[{"ended_at": ahead}] * 1_000))) == 20


def test_a_long_word_is_cut_in_its_place() -> None:
    """The name of a kind or tool is the user's own, up to 1,500 bytes of it."""
    one = {"tries": 1, "successes": 1, "last_seen": time_text(LATEST + SECOND)}
    message = state(task_totals={"kinds": {"k" * 1_000: one}})
    assert refused(message) == [f"state.task_totals.kinds.{'k' * 60}.last_seen"]


@pytest.mark.parametrize(
    ("text", "ahead"),
    [
        ("2026-12-01T12:00:00", False),
        ("2026-12-01T12:00:01", True),
        ("2026-12-01T12:00:00Z", False),
        ("2026-12-01T12:00:01Z", True),
        ("2026-12-01 12:00:01Z", True),
        ("2026-12-01T14:00:00+02:00", False),
        ("2026-12-01T14:00:01+02:00", True),
        ("2026-12-01T10:00:00-02:00", False),
        ("2026-12-01T10:00:01-02:00", True),
        ("2026-11-30T23:59:59-12:00", False),
        ("2026-11-30T23:59:59-23:59", True),
        ("2026-12-02T11:00:00+23:59", False),
        ("2026-12-01", False),
        ("2026-12-02", True),
        ("2027-01-01", True),
        ("9999-12-31", True),
        ("20261201T120000Z", False),
        ("20261201T120001Z", True),
        ("20261201T120001", True),
        ("20261201", False),
        ("20261202", True),
        ("2026-W49-2T12:00:00Z", False),
        ("2026-W49-2T12:00:01Z", True),
        ("2026W492T120001", True),
        ("2026-W48-2", False),
        ("2026-W50", True),
        ("0001-01-01T00:00:00Z", False),
        ("0999-01-01", False),
    ],
)
@pytest.mark.parametrize("name", IN_ENTRIES)
def test_forms_of_a_time(text: str, *, ahead: bool, name: str) -> None:
    """Zones, none (which is UTC), and the basic forms of ISO 8601."""
    places = [f"state.task_history[0].{name}"] if ahead else []
    assert refused(state(task_history=[{name: text}])) == places


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "soon",
        "tomorrow at noon",
        "9999",
        "9999-99-99",
        "9999-12-31T25:00",
        "9999-12-31T23:59:59-23:59",  # past the year 9999 in UTC
        "0001-01-01T00:00:00+23:59",
        "99999-01-01",
        9_999_999_999,
        1e300,
        True,
        [],
        {},
        ["9999-12-31"],
        {"ended_at": "9999-12-31"},
    ],
)
@pytest.mark.parametrize("name", IN_ENTRIES)
def test_what_is_no_time_passes(value: object, name: str) -> None:
    """A history's entries are the user's own; what does not count by time cannot be early."""
    assert refused(state(task_history=[{name: value}])) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"memory_context": {"m": {"timestamp": "9999-12-31"}}},
        {"agent_config": {"created_at": "9999-12-31"}},
        {"collaboration_context": {"deadline": "9999-12-31"}},
        {"task_history": [{"deadline": "9999-12-31", "at": "9999-12-31"}]},
        {"task_history": [{"result": {"ended_at": "9999-12-31"}}]},
        {"current_task": "9999-12-31"},
    ],
)
def test_times_that_nothing_counts_by_are_the_user_s(changes: dict[str, Any]) -> None:
    """A deadline may be as far ahead as it likes."""
    assert refused(state(**changes)) == []


@pytest.mark.parametrize(
    ("entry", "fine"),
    [
        ({"status": "pending", "started_at": "9999-12-31"}, True),
        ({"status": "pending", "ended_at": "9999-12-31"}, False),
        ({"status": "in_progress", "started_at": "9999-12-31"}, False),
        ({"status": "completed", "ended_at": "9999-12-31", "session_id": "former"}, True),
        ({"status": "completed", "ended_at": "9999-12-31", "session_id": "s1"}, False),
    ],
)
def test_what_is_planned_may_be_ahead_and_what_others_did_is_not_looked_at(
    entry: dict[str, Any],
    fine: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A pending task may name its start; entries of another session count nothing here."""
    assert (refused(state(task_history=[entry])) == []) is fine


def test_entries_that_are_no_maps_say_nothing() -> None:
    """Older documents and other callers may have some."""
    history = ["9999-12-31", 5, None, ["9999-12-31"], {"ended_at": LATEST + SECOND}]
    (problem,) = history_problems(history, AT, None, first=7)
    assert problem.field == "task_history[11].ended_at"


nows = st.sampled_from(
    [
        AT,
        datetime(2027, 1, 1, tzinfo=UTC),
        datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2028, 2, 28, 6, tzinfo=UTC),
    ]
)
zones = st.integers(-1_439, 1_439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
FORMS = ("%Y-%m-%dT%H:%M:%S.%f%z", "%Y%m%dT%H%M%S.%f%z", "%Y-%m-%d %H:%M:%S.%f%z")


@given(nows, st.timedeltas(timedelta(days=-3), timedelta(days=3)), zones, st.sampled_from(FORMS))
def test_any_form_is_compared_as_a_time(
    now: datetime, distance: timedelta, zone: timezone, form: str
) -> None:
    """In whatever zone and form it is written: the short way gives what the long one does."""
    time = now + distance
    expected = distance > EARLIEST_ARRIVAL
    text = time.astimezone(zone).strftime(form)
    assert datetime.fromisoformat(text) == time
    for value in (text, time, time_text(time), time.astimezone(zone)):
        assert bool(list(history_problems([{"ended_at": value}], now, None))) == expected
    for fields in ({"last_active": time}, {"task_totals": {"kinds": {"a": {"last_seen": time}}}}):
        try:
            check_times("state", fields, now)
        except InvalidMessageError:
            assert expected
        else:
            assert not expected
