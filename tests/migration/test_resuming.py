"""An agent goes on where its old file left it: what a migration is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate import StateManager
from firestate.local.engine import LocalEngine
from tests.migration.migration_run import MigrationRun, old_state, written

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_an_agent_resumes_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its memory, its history counts once, and the session of the file is the former one."""
    for name in ("GOOGLE_CLOUD_PROJECT", "FIRESTATE_FILE", "FIRESTORE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "agents"
    engine = LocalEngine(folder / "state.db", fold_interval_seconds=0)
    old = written(tmp_path / "old", {"a.json": old_state(memory={"goal": {"text": "a parser"}})})
    moving = MigrationRun(old, tmp_path / "work", engine.store)
    moving.plan()
    moving.apply()
    engine.settle()
    engine.close()
    with StateManager("", folder=folder, patience_seconds=30) as manager:
        agent = manager.resume("Developer", "dev_1")
        assert agent.state.memory_context["goal"] == {"text": "a parser", "session_id": "s1"}
        assert agent.state.collaboration_context["resumed_from"] == "s1"
        with agent.task("t2", "code"):
            pass
        assert manager.settle()
    engine = LocalEngine(folder / "state.db", fold_interval_seconds=0)
    memory = engine.store.read("agent_memory/Developer_dev_1")
    assert memory is not None
    assert memory.data["learning_context"]["tasks"]["completed"] == 2
    assert memory.data["learning_context"]["sessions"] == 2
    engine.close()
