"""Configuration, parts, engines' files, and applies and undos that end half-way."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from firestate.client.outgoing import outgoing
from firestate.local.engine import LocalEngine
from firestate.migration.apply.record_decision import RecordOutcome
from firestate.migration.apply.target import Target
from firestate.migration.verify.comparison import Result
from firestate.migration.verify.undo import undo
from firestate.operations.operator_controls import change_controls, with_flag
from firestate.schema.ids import CONTROLS
from tests.harness import Crash, CrashingStore, event_message, state_message
from tests.migration.inspection import STATE, counts, paths, settled, visible
from tests.migration.migration_run import SAMPLES, old_event, old_state

if TYPE_CHECKING:
    from pathlib import Path

    from tests.migration.conftest import Move


def test_a_large_leftover_lies_in_parts(move: Move, engine: LocalEngine) -> None:
    """What a document cannot hold lies below it, is compared, and goes with an undo."""
    moving = move({"a.json": old_state(diary="x" * 2_000_000)})
    (line,) = moving.plan()
    assert line.parts == 3
    moving.apply()
    assert moving.verify().counts == {Result.EQUAL: 1}
    parts = [path for path in paths(engine) if path.startswith(f"{STATE}/legacy/")]
    assert len(parts) == 3
    (part,) = [each for each in parts if each.endswith("-0001")]
    stored = engine.store.read(part)
    assert stored is not None
    assert len(stored.data["data"]) == 900_000
    moving.undo()
    assert [path for path in paths(engine) if "/legacy/" in path] == []


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
    assert tally.counts == {RecordOutcome.WRITTEN: 500}
    assert settled(engine) == 0


def test_an_undo_stops_when_told_and_goes_on(move: Move, engine: LocalEngine) -> None:
    """The next call finds what is done already, and finishes with the memories."""
    files = {"a.json": [old_state(f"dev_{n}") for n in range(990)]}
    moving = move(files | {"log.json": [old_event(note=n) for n in range(30)]})
    moving.plan()
    moving.apply()
    moving.verify()
    engine.settle()
    undone = moving.undo(until=lambda: True)
    assert (undone.finished, undone.counts["undone"]) == (False, 1_000)
    undone = moving.undo()
    assert (undone.finished, undone.counts["undone"]) == (True, 20)
    assert undone.counts["undone before"] == 1_000
    assert settled(engine) == 0


def test_what_was_undone_before_takes_no_time(move: Move) -> None:
    """Else an undo that is called again after its limit would come no further than before."""
    moving = move({"a.json": old_state(), "log.json": [old_event(note=n) for n in range(30)]})
    moving.plan()
    moving.apply()
    moving.verify()
    (receipt,) = moving.folder.glob("receipt-*.jsonl")
    taken: list[int] = []
    pace = SimpleNamespace(take=taken.append)
    undo(receipt, Target(moving.store, pace))
    assert sum(taken) >= 31
    taken.clear()
    assert undo(receipt, Target(moving.store, pace)).counts["undone before"] == 31
    assert taken == []


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
