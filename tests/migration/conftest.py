"""An engine in memory whose clock is the real one, and migrations into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from firestate.local.engine import LocalEngine
from tests.migration.migration_run import MigrationRun, written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Move = Callable[..., MigrationRun]


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    made = LocalEngine(fold_interval_seconds=0)
    yield made
    made.close()


@pytest.fixture
def move(engine: LocalEngine, tmp_path: Path) -> Move:
    """Make a migration of these files, or of a folder, into the engine."""

    def made(files: dict[str, Any] | Path, work: str = "work") -> MigrationRun:
        source = written(tmp_path / "old", files) if isinstance(files, dict) else files
        return MigrationRun(source, tmp_path / work, engine.store)

    return made
