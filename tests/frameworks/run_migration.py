"""What today's release of a framework saves can still be moved in.

The samples in tests/migration are of the day on which they were made; these are made now.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from firestate.audit.full import FullAudit
from firestate.local.engine import LocalEngine
from firestate.migration.verify.comparison import Result
from tests.migration.migration_run import SAMPLES, MigrationRun

MADE_BY = Path(__file__).parents[1] / "migration" / "made_by"


def test_sessions_of_adk(tmp_path: Path) -> None:
    """Each session's agents and transfers arrive, and are equal to the file."""
    saved = tmp_path / "saved"
    saved.mkdir()
    command = [sys.executable, str(MADE_BY / "adk_now.py"), str(saved)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    engine = LocalEngine(fold_interval_seconds=0)
    now = MigrationRun(saved, tmp_path / "now", engine.store)
    then = MigrationRun(SAMPLES / "adk", tmp_path / "then", engine.store)
    found = [(line.source, line.format, line.kind) for line in now.plan()]
    assert len(found) == 6
    # The same shape as on the day of the samples, whatever ids and times are.
    assert set(found) == {
        (line.source, line.format, line.kind)
        for line in then.plan()
        if not line.source.startswith(("before", "context"))
    }
    now.apply()
    engine.settle()
    assert now.verify().counts == {Result.EQUAL: len(found)}
    assert FullAudit(engine.store, timedelta(0)).run().drift == 0
    engine.close()
