"""A local engine in memory, and the command in a folder, for each test its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from firestate.local.engine import LocalEngine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Run


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    engine = LocalEngine(fold_interval_seconds=0)
    yield engine
    engine.close()


@pytest.fixture
def run(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `firestate` in an empty folder; give its exit code, output and notes."""
    for name in list(os.environ):
        if "EMULATOR" in name or "PROJECT" in name or name.startswith("FIRESTATE"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    return run
