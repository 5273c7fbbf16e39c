"""Copy the package `firestate` beside the functions' main.py, before a deploy.

The Firebase CLI uploads the functions folder alone; a plain folder there is importable in the
cloud. Run by firebase.json's predeploy hook, under the machine's own Python.
"""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def bundle(functions: Path = ROOT / "functions") -> Path:
    """Replace `firestate` in the folder `functions` by a fresh copy of shared/firestate."""
    target = functions / "firestate"
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(
        ROOT / "shared" / "firestate", target, ignore=shutil.ignore_patterns("__pycache__")
    )


if __name__ == "__main__":
    print(f"Copied firestate to {bundle().relative_to(ROOT)}.")
