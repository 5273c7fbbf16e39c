"""What the Firebase CLI uploads is complete, and loads no more than it needs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tools.bundle import bundle

FUNCTIONS = Path(__file__).parents[2] / "functions"

# Run without this project on the path, and with what the functions do not install kept away.
PROGRAM = """
import importlib, sys
folder, *absent = sys.argv[1:]
for name in absent:
    sys.modules[name] = None
sys.path = [folder, *(each for each in sys.path if "shared" not in each)]
import main
import firestate
assert firestate.__file__.startswith(folder), firestate.__file__
for step in ("ingest_state", "ingest_event", "derive_state", "derive_event", "roll_up", "sweep"):
    importlib.import_module(f"firestate.pipeline.{step}")
    assert callable(getattr(main, step))
"""
ABSENT = ("rich", "typer", "google.cloud.pubsub_v1", "httpx", "yaml", "psutil", "hypothesis")


def test_the_uploaded_folder_is_complete(tmp_path: Path) -> None:
    """Every function can be imported from the folder alone, with its own requirements."""
    shutil.copy(FUNCTIONS / "main.py", tmp_path)
    bundle(tmp_path)
    subprocess.run([sys.executable, "-c", PROGRAM, tmp_path, *ABSENT], check=True, cwd=tmp_path)


def test_bundling_again_leaves_nothing_old(tmp_path: Path) -> None:
    """A module that was removed is not deployed any more."""
    bundle(tmp_path)
    (tmp_path / "firestate" / "gone.py").touch()
    bundle(tmp_path)
    assert not (tmp_path / "firestate" / "gone.py").exists()
