"""Migrations from end to end on the local engine: planned, applied, verified, undone, applied."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from firestate.client.outgoing import outgoing
from firestate.migration.apply.record_decision import RecordOutcome
from firestate.migration.plan.plan_reader import CHANGED
from firestate.migration.verify.comparison import Result
from firestate.stores.protocol import Update
from tests.harness import CrashingStore, event_message, everything, state_message
from tests.migration.inspection import STATE, counts, memories, settled, visible
from tests.migration.migration_run import SAMPLES, old_event, old_state

if TYPE_CHECKING:
    from pathlib import Path

    from firestate.local.engine import LocalEngine
    from tests.migration.conftest import Move


def test_all_samples_arrive_and_nothing_changes_when_applied_again(
    move: Move, engine: LocalEngine
) -> None:
    """Each record is equal to its document, or superseded; a second apply commits nothing."""
    moving = move(SAMPLES)
    lines = moving.plan()
    refused = [line.source for line in lines if line.outcome == "refused"]
    assert refused == ["letta/bare.af"]
    first = moving.apply()
    assert settled(engine) == 0
    found = moving.verify()
    assert found.counts.keys() <= {Result.EQUAL, Result.SUPERSEDED, Result.REFUSED}
    assert found.counts.total() == len(lines)
    assert first.counts[RecordOutcome.WRITTEN] > 80
    watched = CrashingStore(engine.store)
    moving.store = watched
    again = moving.apply()
    assert watched.commits == []
    assert again.counts[RecordOutcome.THERE] == first.counts[RecordOutcome.WRITTEN]


def test_a_dry_run_does_not_touch_the_store(move: Move, engine: LocalEngine) -> None:
    """Planning needs no store, and writes nothing beside the files that it reads."""
    before = sorted(path for path in SAMPLES.rglob("*"))
    moving = move(SAMPLES)
    moving.plan()
    assert everything(engine.store) == {}
    assert sorted(path for path in SAMPLES.rglob("*")) == before


def test_undo_takes_all_back_and_an_apply_brings_it_again(move: Move, engine: LocalEngine) -> None:
    """After an undo counts and memories are as before; after another apply as after the first."""
    engine.publish(outgoing(state_message(1, agent_id="dev_1", session_id="s0")))
    engine.publish(outgoing(event_message("live", source_agent_id="dev_1")))
    before, memory = counts(engine), memories(engine)
    moving = move({"a.json": [old_state(), old_state("dev_2")], "log.json": [old_event()] * 150})
    moving.plan()
    moving.apply()
    moving.verify()
    after = counts(engine)
    assert after["coordination"]["total"] == 151
    undone = moving.undo()
    assert dict(undone.counts) == {"undone": 152, "undone before": 0}
    assert counts(engine) == before
    assert (
        memories(engine)["agent_memory/Developer_dev_1"] == memory["agent_memory/Developer_dev_1"]
    )
    assert settled(engine) == 0
    assert not visible(engine)
    assert dict(moving.undo().counts) == {"undone": 0, "undone before": 152}
    assert moving.apply().counts[RecordOutcome.WRITTEN] == 152
    assert counts(engine) == after
    assert settled(engine) == 0
    assert moving.verify().counts == {Result.EQUAL: 152}


def test_what_an_agent_has_written_since_is_left_alone(move: Move, engine: LocalEngine) -> None:
    """A migration goes below a live state, also where the old file is the younger one."""
    engine.publish(outgoing(state_message(1, agent_id="dev_1", status="busy")))
    moving = move({"a.json": old_state(last_updated="2026-01-01T00:00:00")})
    moving.plan()
    assert moving.apply().counts == {RecordOutcome.SUPERSEDED: 1}
    stored = engine.store.read(STATE)
    assert stored is not None
    assert stored.data["status"] == "busy"
    assert moving.verify().counts == {Result.SUPERSEDED: 1}


def test_an_agent_goes_above_what_was_migrated(move: Move, engine: LocalEngine) -> None:
    """Any epoch of an agent's own is later, and an undo leaves what it has written."""
    moving = move({"a.json": old_state()})
    moving.plan()
    moving.apply()
    moving.verify()
    assert engine.publish(outgoing(state_message(1, agent_id="dev_1"))).outcome == "stored"
    assert dict(moving.undo().counts) == {"left": 1}
    assert settled(engine) == 0


def test_the_newer_of_two_files_for_one_session_goes_in(move: Move, engine: LocalEngine) -> None:
    """The older is named as superseded; so is one that comes with a later migration."""
    newer = old_state(last_updated="2025-02-01T00:00:00", status="busy")
    moving = move({"a.json": newer, "b.json": old_state()})
    assert [(line.source, line.outcome, line.by) for line in moving.plan()] == [
        ("a.json", "write", ""),
        ("b.json", "superseded", "a.json"),
    ]
    moving.apply()
    later = move({"c/old.json": old_state(), "c/new.json": newer | {"mood": "good"}}, "later")
    later.source /= "c"
    later.plan()
    later.apply()
    stored = engine.store.read(STATE)
    assert stored is not None
    assert stored.data["status"] == "busy"


def test_a_moved_folder_and_a_cut_log_make_the_same_documents(
    move: Move, engine: LocalEngine, tmp_path: Path
) -> None:
    """Neither paths, nor dates of files, nor where a log was cut are part of an id."""
    log = [old_event(), old_event(), {k: v for k, v in old_event().items() if k != "timestamp"}]
    first = move({"log.json": log, "x.json": [{"status": "idle", "current_task": "sleep"}]})
    first.plan()
    first.apply()
    there = set(everything(engine.store))
    moved = tmp_path / "elsewhere" / "logs"
    moved.mkdir(parents=True)
    (moved / "log.1.json").write_text(json.dumps(log[:1]))
    (moved / "log.json").write_text(json.dumps(log[1:]))
    shutil.copy(tmp_path / "old" / "x.json", moved / "renamed.json")
    for path in moved.iterdir():
        os.utime(path, (1_700_000_000, 1_700_000_000))
    second = move(moved.parent, "work2")
    second.plan()
    assert second.apply().counts == {RecordOutcome.THERE: 4}
    assert set(everything(engine.store)) == there
    assert second.verify().counts == {Result.EQUAL: 4}


def test_a_file_that_changed_since_the_plan_is_refused(move: Move, tmp_path: Path) -> None:
    """Nothing of it is written, and the rest goes on."""
    moving = move({"a.json": old_state(), "b.json": old_state("dev_2")})
    moving.plan()
    (tmp_path / "old" / "a.json").write_text(json.dumps(old_state(status="idle")))
    tally = moving.apply()
    assert tally.counts == {RecordOutcome.WRITTEN: 1, RecordOutcome.REFUSED: 1}
    assert tally.reasons == [f"a.json: {CHANGED}"]
    (tmp_path / "old" / "a.json").unlink()
    assert "cannot be read" in moving.apply().reasons[0]


def test_the_same_file_twice_is_taken_once(move: Move) -> None:
    """A copy, byte for byte, is named as one."""
    moving = move({"a.json": [old_event()] * 2, "copy/a.json": [old_event()] * 2})
    assert [(line.outcome, line.by) for line in moving.plan()] == [
        ("write", ""),
        ("write", ""),
        ("copy", "a.json"),
    ]


def test_an_event_without_a_time_in_files_of_two_dates(move: Move, engine: LocalEngine) -> None:
    """By its id it is one, as of the younger file; of another content it is another."""
    event = old_event(event_id="e1")
    del event["timestamp"]
    files = {
        "1.json": [event],
        "2.json": [event, event | {"note": "x"}],
        "3.json": {"events": [event]},
    }
    moving = move(files)
    for day, name in enumerate(("1.json", "3.json", "2.json"), 1):
        at = datetime(2025, 2, day, tzinfo=UTC).timestamp()
        os.utime(moving.source / name, (at, at))
    lines = moving.plan()
    assert [(line.source, line.outcome, line.by) for line in lines] == [
        ("1.json", "copy", "2.json"),
        ("2.json", "write", ""),
        ("2.json", "write", ""),
        ("3.json", "copy", "2.json"),
    ]
    assert lines[1].target.startswith("coordination/2025-02-03T")
    assert moving.apply().counts[RecordOutcome.WRITTEN] == 2
    assert moving.verify().counts == {Result.EQUAL: 2, Result.SUPERSEDED: 2}
    assert moving.apply().counts[RecordOutcome.WRITTEN] == 0
    assert settled(engine) == 0


def test_what_differs_is_found(move: Move, engine: LocalEngine) -> None:
    """A document that somebody has changed by hand is named, with the field."""
    moving = move({"a.json": old_state(), "log.json": old_event()})
    moving.plan()
    moving.apply()
    stored = engine.store.read(STATE)
    assert stored is not None
    engine.store.commit([Update(STATE, stored.token, {"tools_enabled": ["x"]})])
    found = moving.verify()
    assert not found.well
    assert found.counts == {Result.EQUAL: 1, Result.DIFFERS: 1}
    assert "tools_enabled not as in the source" in found.reasons[0]


def test_times_yet_to_come_are_refused_by_name(move: Move) -> None:
    """Ingest would not take them; the line says which, and the others arrive."""
    ahead = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    moving = move({"a.json": [old_state(last_updated=ahead), old_state("dev_2")]})
    (refused,) = [line for line in moving.plan() if line.outcome == "refused"]
    assert (refused.place, "yet to come" in refused.reason) == ("[0]", True)
    assert moving.apply().counts == {RecordOutcome.WRITTEN: 1, RecordOutcome.REFUSED: 1}
