"""The adapters on the real frameworks, which have an environment of their own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


@pytest.mark.parametrize("module", sorted(path.name for path in HERE.glob("run_*.py")))
def test_framework(module: str) -> None:
    """All that a framework's own runs show is stored, and nothing else."""
    python = str(ROOT / ".venv-frameworks" / "bin" / "python")
    cache = "cache_dir=.cache/pytest-frameworks"
    command = [python, "-W", "error", "-m", "pytest", "-q", "-o", cache, str(HERE / module)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
