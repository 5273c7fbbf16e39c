"""What the README says of the local engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_its_example_runs(tmp_path: Path) -> None:
    """Each run counts its event, in the file that the one before has left."""
    section = README.read_text().partition("## On one machine")[2]
    example = section.partition("```python\n")[2].partition("```")[0]
    for expected in ("1", "2"):
        command = [sys.executable, "-c", example]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.split() == [expected]
    assert (tmp_path / ".firestate" / "state.db").exists()
