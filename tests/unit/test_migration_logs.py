"""What is read from coordination logs and configuration, and what old words and times become."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given

from firestate.migration.formats.records import Record, RecordKind
from firestate.migration.formats.synonyms import EVENT_TYPES, STATUSES, TASK_STATUSES, parse_time
from firestate.schema.enums import AgentStatus, CoordinationEventType, TaskStatus
from tests.migration.migration_run import old_event, old_state
from tests.unit.old_file_samples import DATE, NINE, opened, records_of
from tests.unit.strategies import any_times, json_values


def event_of(**changes: Any) -> Record:
    """Give the record of one old event."""
    (record,) = records_of(old_event(**changes))
    return record


@pytest.mark.parametrize(
    "value",
    [[old_event()] * 2, {"events": [old_event()]}, old_event()],
)
def test_the_shapes_of_logs(value: Any) -> None:
    """A list of events, one under `events`, one event."""
    assert opened(value)[0] == "coordination-log"
    assert {record.kind for record in records_of(value)} == {RecordKind.EVENT}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"type": "created"}, {"event_type": "spawn"}),
        ({"type": "delegate"}, {"event_type": "handoff"}),
        ({"type": "coordinate"}, {"event_type": "collaboration"}),
        ({"type": "terminated"}, {"event_type": "termination"}),
        ({"type": "failed"}, {"event_type": "error"}),
        ({"type": "shrug"}, {"event_type": "collaboration"}),
        ({"task": "x"}, {"task_context": {"task": "x"}}),
        ({"task": {"id": 1}}, {"task_context": {"id": 1}}),
        ({"duration": 2}, {"duration_seconds": 2.0}),
        ({"duration_ms": 1500}, {"duration_seconds": 1.5}),
        ({"error": "broken"}, {"error_message": "broken", "success": True}),
        ({"error": "broken", "success": None}, {"error_message": "broken", "success": False}),
        ({"status": "failed", "success": None}, {"success": False}),
        ({"status": "completed", "success": None}, {"success": True}),
        ({"from_type": None}, {"source_agent_type": "Agent"}),
        ({"from_type": None, "from_agent": "developer_7"}, {"source_agent_type": "Developer"}),
        ({"from_agent": {"id": "a"}}, {"source_agent_id": "unknown"}),
        ({"timestamp": "2025-01-04T10:00:00+01:00"}, {"timestamp": NINE}),
        ({"timestamp": "later", "ts": NINE.timestamp()}, {"timestamp": NINE}),
        ({"timestamp": None}, {"timestamp": DATE}),
    ],
)
def test_an_events_words(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """Old words of coordination logs become today's."""
    fields = event_of(**changes).fields
    assert {name: fields[name] for name in expected} == expected


@pytest.mark.parametrize("duration", [-1, 10**400, 1e300, "2", True])
def test_a_duration_that_is_none_is_kept(duration: object) -> None:
    """Neither endless numbers nor words break the reading."""
    record = event_of(duration=duration)
    assert "duration_seconds" not in record.fields
    assert record.left["duration"] == duration


def test_events_that_name_their_agent_as_states_do() -> None:
    """A log with `agent_id` and `agent_type` is no list of states, a state with a type no log."""
    event = {"agent_id": "a", "agent_type": "QA", "event": "spawn", "timestamp": "2025-01-04"}
    assert opened([event, event | {"session_id": "s", "status": "completed"}])[0] == (
        "coordination-log"
    )
    assert opened(old_state(type="error"))[0] == "agent-states"


def test_configuration() -> None:
    """Switches, the emergency stop and settings are taken over, counters are not."""
    value = {
        "feature_flags": {"on": True, "mode": "fast"},
        "emergency_stop": True,
        "global_config": {"region": "eu"},
        "max_agents": 3,
        "current_agent_count": 7,
        "system_metrics": {"x": 1},
    }
    (record,) = records_of(value, "settings.json")
    assert record.kind is RecordKind.CONTROLS
    assert record.fields["feature_flags"] == {"on": True}
    assert record.fields["emergency_stop"] is True
    assert record.fields["global_config"] == {
        "feature_flags": {"mode": "fast"},
        "region": "eu",
        "max_agents": 3,
    }
    assert "emergency_reason" in record.guessed
    assert [line.split(":")[0] for line in record.mapped] == [
        "current_agent_count",
        "system_metrics",
    ]
    orders = [
        records_of(value, name)[0].fields["order"]
        for name in ("config.json", "system_config.json", "app_config.json", "SETTINGS.json", "x")
    ]
    assert orders == [0, 1, 2, 3, -1]


def test_the_words_are_those_of_the_schema() -> None:
    """Each old word becomes one that is known, and each of today's stays."""
    for words, known in (
        (STATUSES, AgentStatus),
        (TASK_STATUSES, TaskStatus),
        (EVENT_TYPES, CoordinationEventType),
    ):
        assert set(words.values()) == {each.value for each in known}
        assert all(words[each.value] == each.value for each in known)
        assert all(word == word.lower() for word in words)


@pytest.mark.parametrize(
    ("value", "time"),
    [
        ("2025-01-04T09:00:00", NINE),
        (" 2025-01-04 09:00:00 ", NINE),
        ("2025-01-04T04:00:00-05:00", NINE),
        ("1735981200", NINE),
        ("1735981200.5", NINE + timedelta(seconds=0.5)),
        ("1712011200123", datetime(2024, 4, 1, 22, 40, 0, 123000, tzinfo=UTC)),
        (1735981200_000_000, NINE),
        ("2025-01-04T09:00:00\0Z", None),
        ("0001-01-01T00:00:00+23:00", None),
        ("yesterday", None),
        (10**300, None),
        (float("inf"), None),
        (0, None),
        (True, None),
        (["2025-01-04"], None),
    ],
)
def test_times(value: object, time: datetime | None) -> None:
    """ISO 8601, or a number since 1970 in one of three units, also as a text; else nothing."""
    assert parse_time(value) == time


@given(any_times)
def test_any_time_is_read_as_it_was_written(time: datetime) -> None:
    """To the microsecond."""
    assert parse_time(time.isoformat()) == time


@given(json_values)
def test_no_value_is_a_time_that_breaks(value: object) -> None:
    """Whatever stands where a time should be is a time in UTC, or none."""
    found = parse_time(value)
    assert found is None or found.tzinfo is UTC
