"""What the plan tells of, beside what is to be done: nothing to do, and what to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.migration.plan.make_plan import PLAN
from firestate.migration.plan.plan_file import read_head
from firestate.migration.plan.plan_report import PlanReport, report_of
from firestate.migration.verify.comparison import Result
from tests.migration.migration_run import old_event, old_state

if TYPE_CHECKING:
    from tests.migration.conftest import Move
    from tests.migration.migration_run import MigrationRun


def reported(moving: MigrationRun) -> PlanReport:
    """Plan, and give the report of it."""
    moving.plan()
    return report_of(moving.folder / PLAN)


def test_files_that_hold_nothing(move: Move) -> None:
    """They are named, and are no mistake; two of them are no copies of one another."""
    moving = move({"a.json": [], "b.json": [], "log.json": {"events": []}, "c.json": old_state()})
    report = reported(moving)
    assert [line.source for line in report.empty] == ["a.json", "b.json", "log.json"]
    assert report.files == {"empty": 3, "agent-states": 1}
    assert report.outcomes == {"empty": 3, "write": 1}
    assert report.as_json()["empty"] == ["a.json", "b.json", "log.json"]
    assert read_head(moving.folder / PLAN).lines == 1
    assert moving.apply().counts == {"written": 1}
    assert moving.verify().counts == {Result.EQUAL: 1}


def test_a_log_and_a_longer_copy_of_it(move: Move) -> None:
    """Nobody can know whether equal events are two or one: both are taken, and it is told."""
    events = [old_event(note=str(number)) for number in range(5)]
    longer = {"events": events, "saved": "later"}
    moving = move({"log-1.json": events[:3], "log-2.json": longer, "z.json": events[4:]})
    report = reported(moving)
    (warning,) = report.warnings
    assert (warning.source, warning.by) == ("log-2.json", "log-1.json")
    assert warning.reason.startswith("3 of its 5 records are events that are in other files too")
    assert report.outcomes == {"write": 9, "warning": 1}
    assert report.as_json()["warnings"][0]["source"] == "log-2.json"
    assert moving.apply().counts == {"written": 9}
    assert moving.verify().counts == {Result.EQUAL: 9}


def test_a_log_that_was_cut_in_two_is_no_copy(move: Move) -> None:
    """Nor is one with ids a copy of itself, or one in which two events are equal."""
    events = [old_event(note=str(number // 2)) for number in range(6)]
    named = [old_event(event_id=f"e{number}") for number in range(3)]
    moving = move(
        {"1.json": events[:3], "2.json": events[3:], "3.json": named, "4.json": named * 2}
    )
    assert reported(moving).warnings == []


def test_many_copies_of_a_growing_log_are_one_warning_each(move: Move) -> None:
    """However many files there are before it."""
    events = [old_event(note=str(number)) for number in range(8)]
    found = reported(move({f"{n}.json": events[:n] for n in range(2, 9)}))
    assert [line.source for line in found.warnings] == [f"{n}.json" for n in range(3, 9)]
    assert {line.by for line in found.warnings} == {"2.json"}


def test_secrets_are_told_of(move: Move) -> None:
    """What is only called like one is kept, and the report says where."""
    keys: dict[str, Any] = {"config": {"api_key": "sk-0123456789", "model": "large"}}
    report = reported(move({"a.json": [old_state(**keys), old_state("dev_2", **keys)]}))
    assert report.exposed == {"agent_config.api_key": 2}
    assert report.as_json()["exposed"] == {"agent_config.api_key": 2}
