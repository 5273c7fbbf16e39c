"""Migrations from end to end on the local engine: planned, applied, verified, undone, applied."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from firestate.audit.full import FullAudit
from firestate.client.outgoing import outgoing
from firestate.local.engine import LocalEngine
from firestate.migration.comparing import Result
from firestate.migration.deciding import Outcome
from firestate.migration.walking import CHANGED
from firestate.pipeline.controls import change_controls, with_flag
from firestate.schema.ids import CONTROLS, GLOBAL_CONFIG
from firestate.stores.protocol import Update
from tests.harness import Crash, CrashingStore, event_message, everything, state_message
from tests.migration.moving import SAMPLES, old_event, old_state

if TYPE_CHECKING:
    from pathlib import Path

    from tests.migration.conftest import Move

STATE = "agent_states/Developer_dev_1_s1"


def settled(engine: LocalEngine) -> int:
    """Let all be counted; give how many things are not as the documents say."""
    engine.settle()
    return FullAudit(engine.store, timedelta(0)).run().drift


def counts(engine: LocalEngine) -> dict[str, Any]:
    """Give the current counts of the system, without the total of agents ever spawned."""
    engine.settle()
    stored = engine.store.read(GLOBAL_CONFIG)
    assert stored is not None
    metrics = {k: v for k, v in stored.data["system_metrics"].items() if k != "folded_at"}
    return {
        **{k: stored.data[k] for k in ("active_sessions", "current_agent_count", "error_counts")},
        **metrics,
    }


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
    assert first.counts[Outcome.WRITTEN] > 80
    watched = CrashingStore(engine.store)
    moving.store = watched
    again = moving.apply()
    assert watched.commits == []
    assert again.counts[Outcome.THERE] == first.counts[Outcome.WRITTEN]


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
    assert moving.apply().counts[Outcome.WRITTEN] == 152
    assert counts(engine) == after
    assert settled(engine) == 0
    assert moving.verify().counts == {Result.EQUAL: 152}


def memories(engine: LocalEngine) -> dict[str, Any]:
    """Give the agents' memories, without when they were last changed."""
    return {
        path: {k: v for k, v in data.items() if k not in ("last_memory_sync", "counted")}
        for path, data in everything(engine.store).items()
        if path.startswith("agent_memory/") and "/sessions/" not in path
    }


def visible(engine: LocalEngine) -> list[str]:
    """Give the migrated documents that can be seen."""
    return [
        path
        for path, data in everything(engine.store).items()
        if (path.startswith("agent_states/") and data["epoch"] == 0 and not data.get("deleted"))
        or "migrated_by" in data
    ]


def test_what_an_agent_has_written_since_is_left_alone(move: Move, engine: LocalEngine) -> None:
    """A migration goes below a live state, also where the old file is the younger one."""
    engine.publish(outgoing(state_message(1, agent_id="dev_1", status="busy")))
    moving = move({"a.json": old_state(last_updated="2026-01-01T00:00:00")})
    moving.plan()
    assert moving.apply().counts == {Outcome.SUPERSEDED: 1}
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
    assert second.apply().counts == {Outcome.THERE: 4}
    assert set(everything(engine.store)) == there
    assert second.verify().counts == {Result.EQUAL: 4}


def test_a_file_that_changed_since_the_plan_is_refused(move: Move, tmp_path: Path) -> None:
    """Nothing of it is written, and the rest goes on."""
    moving = move({"a.json": old_state(), "b.json": old_state("dev_2")})
    moving.plan()
    (tmp_path / "old" / "a.json").write_text(json.dumps(old_state(status="idle")))
    tally = moving.apply()
    assert tally.counts == {Outcome.WRITTEN: 1, Outcome.REFUSED: 1}
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


def test_a_large_leftover_lies_in_parts(move: Move, engine: LocalEngine) -> None:
    """What a document cannot hold lies below it, is compared, and goes with an undo."""
    moving = move({"a.json": old_state(diary="x" * 2_000_000)})
    (line,) = moving.plan()
    assert line.parts == 3
    moving.apply()
    assert moving.verify().counts == {Result.EQUAL: 1}
    parts = [path for path in _paths(engine) if path.startswith(f"{STATE}/legacy/")]
    assert len(parts) == 3
    (part,) = [each for each in parts if each.endswith("-0001")]
    stored = engine.store.read(part)
    assert stored is not None
    assert len(stored.data["data"]) == 900_000
    moving.undo()
    assert [path for path in _paths(engine) if "/legacy/" in path] == []


def _paths(engine: LocalEngine) -> list[str]:
    rows = engine.store._file.execute("SELECT path FROM documents", ())
    return [path for (path,) in rows]


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


def test_configuration_goes_below_what_operators_have_set(move: Move, engine: LocalEngine) -> None:
    """Flags and settings are merged in order, those that are there stay, an undo takes out ours."""
    change_controls(engine.store, with_flag("parallel", value=True))
    moving = move(SAMPLES / "config")
    moving.plan()
    moving.apply()
    controls = engine.store.read(CONTROLS)
    assert controls is not None
    assert controls.data["feature_flags"] == {"parallel": True, "memory": True}
    config = controls.data["global_config"]
    assert config["max_agents"] == 16
    assert json.loads(config["legacy"]["unfit"]) == {"global_config.weights": [[0.1, 0.2], [0.3]]}
    assert "total_agents_spawned" not in config
    assert moving.verify().counts == {Result.EQUAL: 3}
    moving.undo()
    controls = engine.store.read(CONTROLS)
    assert controls is not None
    assert controls.data["feature_flags"] == {"parallel": True}
    assert controls.data["global_config"] == {}


def test_an_old_emergency_stop_is_set_but_a_lifted_one_stays_lifted(
    move: Move, engine: LocalEngine
) -> None:
    """It holds where nobody has said anything about it; an undo lifts it."""
    moving = move({"config.json": {"emergency_stop": True}})
    moving.plan()
    moving.apply()
    controls = engine.store.read(CONTROLS)
    assert controls is not None
    assert controls.data["emergency_stop"] is True
    moving.verify()
    moving.undo()
    moving.apply()
    controls = engine.store.read(CONTROLS)
    assert controls is not None
    assert controls.data["emergency_stop"] is False


@pytest.mark.parametrize("after", [False, True])
def test_crashes_at_every_call(move: Move, engine: LocalEngine, after: bool) -> None:  # noqa: FBT001 - pytest's parameter
    """Whatever call of the store an apply or an undo ends at, going on comes to the same end."""
    files: dict[str, Any] = {
        "a.json": [old_state(), old_state("dev_2", diary="x" * 1_900_000)],
        "config.json": {"feature_flags": {"parallel": True}},
        "log.json": [old_event(), old_event()],
    }
    moving = move(files)
    moving.plan()

    def ended(work: str) -> int:
        for number in range(60):
            store = CrashingStore(engine.store, number, after=after)
            moving.store = store
            try:
                getattr(moving, work)()
            except Crash:
                continue
            return number
        raise AssertionError(work)

    assert ended("apply") > 1
    moving.store = engine.store
    assert moving.verify().counts == {Result.EQUAL: 5}
    assert settled(engine) == 0
    assert counts(engine)["coordination"]["total"] == 2
    assert ended("undo") > 1
    assert settled(engine) == 0
    assert counts(engine)["coordination"]["total"] == 0
    assert not visible(engine)
    assert ended("apply") > 1
    moving.store = engine.store
    assert moving.verify().counts == {Result.EQUAL: 5}
    assert settled(engine) == 0


def test_it_stops_when_told_and_goes_on(move: Move, engine: LocalEngine) -> None:
    """A function has an hour: the next call begins where this one has stopped."""
    moving = move({"a.json": [old_state(f"dev_{n}") for n in range(500)]})
    moving.plan()
    tally = moving.apply(until=lambda: True)
    assert (tally.finished, tally.done) == (False, 200)
    tally = moving.apply()
    assert (tally.finished, tally.done) == (True, 500)
    assert tally.counts == {Outcome.WRITTEN: 500}
    assert settled(engine) == 0


def test_an_engines_file_moves(move: Move, engine: LocalEngine, tmp_path: Path) -> None:
    """States, events and controls of one machine come over, and are counted anew."""
    path = tmp_path / "state.db"
    local = LocalEngine(path, fold_interval_seconds=0)
    for number in range(3):
        local.publish(outgoing(state_message(1, agent_id=f"a{number}")))
        local.publish(outgoing(event_message(f"e{number}")))
    change_controls(local.store, with_flag("parallel", value=True))
    expected = counts(local)
    local.close()
    moving = move(path)
    moving.plan()
    moving.apply()
    assert counts(engine) == expected
    assert settled(engine) == 0
    assert moving.verify().counts == {Result.EQUAL: 7}


def test_times_yet_to_come_are_refused_by_name(move: Move) -> None:
    """Ingest would not take them; the line says which, and the others arrive."""
    ahead = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    moving = move({"a.json": [old_state(last_updated=ahead), old_state("dev_2")]})
    (refused,) = [line for line in moving.plan() if line.outcome == "refused"]
    assert (refused.place, "yet to come" in refused.reason) == ("[0]", True)
    assert moving.apply().counts == {Outcome.WRITTEN: 1, Outcome.REFUSED: 1}
