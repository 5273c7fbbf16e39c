"""Play the demo: on the emulators, or on the local engine where they cannot be had.

python -m tools.demo [emulators | local]   without a word: emulators if they can be had

PYTHON names the machine's own Python, which makes the environments.
"""

import os
import subprocess
import sys
from pathlib import Path

from tools.processes import ROOT

FIRESTATE = ROOT / ".venv" / "bin" / "firestate"
FILE = Path(".firestate") / "demo.db"


def main() -> int:
    """Set up what is needed, play, and return the demo's exit code."""
    engine = sys.argv[1] if len(sys.argv) > 1 else ""
    if engine not in ("", "emulators", "local"):
        sys.exit(f"ENGINE is emulators or local, not {engine!r}.")
    if engine != "local":
        missing = _missing()
        if not missing:
            return _run(sys.executable, "-m", "tools.emulators", "exec", "--", FIRESTATE, "demo")
        if engine == "emulators":
            sys.exit(missing)
        until_then = "Until then the demo runs on the local engine, which needs Python alone."
        print(f"{missing}\n{until_then}", flush=True)
    for part in (FILE, *FILE.parent.glob(f"{FILE.name}-*")):
        part.unlink(missing_ok=True)
    return _run(FIRESTATE, "demo", "--file", FILE)


def _missing() -> str:
    """Set up the emulators; say in a line what could not be had, or nothing."""
    setup = [os.environ.get("PYTHON", sys.executable), "tools/setup.py"]
    done = subprocess.run(setup, cwd=ROOT, check=False, stderr=subprocess.PIPE, text=True)
    said = done.stderr.strip().splitlines()
    return said[-1] if done.returncode and said else ""


def _run(*command: str | Path) -> int:
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
