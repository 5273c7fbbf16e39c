"""What is kept between two commands, progress, receipts and notes, and how far it holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from firestate.errors import ConfigurationError, RefusedError
from firestate.local.engine import LocalEngine
from firestate.migration.apply.merge_controls import forget
from firestate.migration.apply.record_decision import RecordOutcome
from firestate.migration.plan.plan_reader import CHANGED
from firestate.migration.verify.comparison import Result
from firestate.operations.operator_controls import change_controls, with_flag
from firestate.schema.ids import CONTROLS
from firestate.stores.protocol import Remove, Update
from tests.migration.inspection import STATE, settled, visible
from tests.migration.migration_run import MigrationRun, old_event, old_state

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from firestate.stores.protocol import Store, Write
    from tests.migration.conftest import Move


def many(first: int, number: int = 300) -> list[dict[str, Any]]:
    return [old_state(f"dev_{first + n}") for n in range(number)]


def test_progress_is_of_one_plan(move: Move, tmp_path: Path) -> None:
    """A plan made anew, with the same records in another order, begins at the beginning."""
    moving = move({"a.json": many(0), "b.json": many(300)})
    moving.plan()
    assert moving.apply(until=lambda: True).done == 200
    (tmp_path / "old" / "a.json").rename(tmp_path / "old" / "z.json")
    moving.plan()
    assert moving.apply().counts == {RecordOutcome.WRITTEN: 400, RecordOutcome.THERE: 200}
    assert moving.verify().counts == {Result.EQUAL: 600}


def test_progress_is_of_one_target(move: Move) -> None:
    """What was tried on one machine is not done in the cloud; nor is its receipt for that."""
    moving = move({"a.json": many(0)})
    moving.label = "file a"
    moving.plan()
    moving.apply(until=lambda: True)
    other = LocalEngine(fold_interval_seconds=0)
    elsewhere = MigrationRun(moving.source, moving.folder, other.store, "project b")
    assert elsewhere.apply().counts == {RecordOutcome.WRITTEN: 300}
    elsewhere.verify()
    with pytest.raises(ConfigurationError, match="is of project b, not of file a"):
        moving.undo()
    other.close()


def test_a_mended_file_goes_on_as_the_same_migration(
    move: Move, engine: LocalEngine, tmp_path: Path
) -> None:
    """Planned anew, all of it is undone together."""
    moving = move({"a.json": [old_state()], "b.json": b"{"})
    moving.plan()
    moving.apply()
    (tmp_path / "old" / "b.json").write_text(json.dumps(old_state("dev_2")))
    moving.plan()
    moving.apply()
    assert moving.verify().counts == {Result.EQUAL: 2}
    assert moving.undo().counts["undone"] == 2
    assert not visible(engine)


def test_files_that_are_gone_can_still_be_undone(
    move: Move, engine: LocalEngine, tmp_path: Path
) -> None:
    """The comparison says that there is nothing to compare with, and whose the documents are."""
    moving = move({"a.json": [old_state()], "log.json": [old_event()]})
    moving.plan()
    moving.apply()
    (tmp_path / "old" / "a.json").unlink()
    (tmp_path / "old" / "log.json").write_text(json.dumps([old_event(note="x")]))
    found = moving.verify()
    assert not found.well
    assert found.counts == {Result.REFUSED: 2}
    assert [CHANGED in each or "cannot be read" in each for each in found.reasons] == [True, True]
    assert moving.undo().counts["undone"] == 2
    assert not visible(engine)
    assert settled(engine) == 0


def test_what_was_changed_by_hand_is_not_undone(move: Move, engine: LocalEngine) -> None:
    """A field that was added counts as a change; it is named, and left."""
    moving = move({"a.json": old_state()})
    moving.plan()
    moving.apply()
    stored = engine.store.read(STATE)
    assert stored is not None
    engine.store.commit([Update(STATE, stored.token, {"current_task": "by hand"})])
    found = moving.verify()
    assert found.counts == {Result.DIFFERS: 1}
    assert "current_task not as in the source" in found.reasons[0]
    assert moving.undo().counts == {}
    assert visible(engine) == [STATE]


def test_a_session_that_has_ended_is_superseded(move: Move, engine: LocalEngine) -> None:
    """Removed by expiry, it neither comes back nor counts as missing."""
    moving = move({"a.json": old_state(status="stopped")})
    moving.plan()
    moving.apply()
    settled(engine)
    stored = engine.store.read(STATE)
    assert stored is not None
    engine.store.commit([Remove(STATE, stored.token)])
    assert moving.verify().counts == {Result.SUPERSEDED: 1}
    assert moving.apply().counts == {RecordOutcome.SUPERSEDED: 1}


def test_a_receipt_is_never_replaced(move: Move) -> None:
    """Each comparison has its own; a damaged one is told to be that."""
    moving = move({"a.json": old_state()})
    moving.plan()
    moving.apply()
    first, second = moving.verify().receipt, moving.verify().receipt
    assert first != second
    (moving.folder / second).write_text((moving.folder / second).read_text()[:-5])
    with pytest.raises(ConfigurationError, match="damaged: line 3"):
        moving.undo()


class Refusing:
    """A store that refuses to write one document."""

    def __init__(self, store: Store, path: str) -> None:
        self._store = store
        self._path = path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, writes: Sequence[Write]) -> datetime:
        if any(each.path == self._path for each in writes):
            raise RefusedError(f"{self._path}: not today")
        return self._store.commit(writes)


def test_one_that_the_store_refuses_does_not_stop_the_others(
    move: Move, engine: LocalEngine
) -> None:
    """Neither when they are written nor when they are undone."""
    moving = move({"a.json": many(0, 5)})
    moving.plan()
    path = "agent_states/Developer_dev_2_s1"
    moving.store = Refusing(engine.store, path)
    tally = moving.apply()
    assert tally.counts == {RecordOutcome.WRITTEN: 4, RecordOutcome.REFUSED: 1}
    assert "not today" in tally.reasons[0]
    moving.store = engine.store
    moving.apply()
    moving.verify()
    moving.store = Refusing(engine.store, path)
    undone = moving.undo()
    assert dict(undone.counts) == {"undone": 4, "left": 1}
    assert undone.reasons == [f"{path}: {path}: not today"]


def test_damaged_documents_are_named(move: Move, engine: LocalEngine) -> None:
    """What somebody else has written over stops neither apply, nor verify, nor undo."""
    moving = move({"a.json": many(0, 2), "config.json": {"feature_flags": {"x": True}}})
    moving.plan()
    moving.apply()
    path = "agent_states/Developer_dev_1_s1"
    stored = engine.store.read(path)
    assert stored is not None
    engine.store.commit([Update(path, stored.token, {}, ["writer", "digests"])])
    controls = engine.store.read(CONTROLS)
    assert controls is not None
    engine.store.commit([Update(CONTROLS, controls.token, {"feature_flags": 5})])
    tally = moving.apply()
    assert tally.counts == {RecordOutcome.THERE: 1, RecordOutcome.REFUSED: 2}
    assert moving.verify().counts == {Result.EQUAL: 1, Result.DIFFERS: 2}


def test_an_operators_flag_is_not_taken_out(move: Move, engine: LocalEngine) -> None:
    """Set after an undo it is theirs, whatever an earlier apply had put in."""
    moving = move({"config.json": {"feature_flags": {"x": True}}})
    moving.plan()
    moving.apply()
    moving.verify()
    moving.undo()
    forget(moving.work)
    change_controls(engine.store, with_flag("x", value=True))
    moving.apply()
    moving.verify()
    moving.undo()
    controls = engine.store.read(CONTROLS)
    assert controls is not None
    assert controls.data["feature_flags"] == {"x": True}


def test_parts_move_with_an_engines_file(move: Move, tmp_path: Path) -> None:
    """What lies below a document comes along, and the file is not changed by being read."""
    path = tmp_path / "state.db"
    local = LocalEngine(path, fold_interval_seconds=0)
    first = move({"a.json": old_state(diary="x" * 1_000_000)})
    first.store = local.store
    first.plan()
    first.apply()
    expected = local.store.read(STATE)
    local.close()
    before = path.read_bytes()
    second = move(path, "later")
    assert [line.parts for line in second.plan()] == [2]
    second.apply()
    assert second.verify().counts == {Result.EQUAL: 1}
    stored = second.store.read(STATE)
    assert stored is not None
    assert expected is not None
    assert stored.data["memory_context"] == expected.data["memory_context"]
    assert path.read_bytes() == before
