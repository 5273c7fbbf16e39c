"""Play the demo: on the emulators, or on the local engine where they cannot be had.

python -m tools.demo [emulators | local]   without a word: emulators if they can be had

It runs under the machine's own Python, and first sets up what the demo needs, and no more.
"""

import subprocess
import sys
from pathlib import Path

from tools.processes import ROOT
from tools.setup import ONLY_EMULATORS_MISSING

PROGRAMS = ROOT / ".venv" / "bin"
FIRESTATE = PROGRAMS / "firestate"
FILE = Path(".firestate") / "demo.db"


def main() -> int:
    """Set up what is needed, play, and return the demo's exit code."""
    engine = sys.argv[1] if len(sys.argv) > 1 else ""
    if engine not in ("", "emulators", "local"):
        sys.exit(f"ENGINE is emulators or local, not {engine!r}.")
    code, said = _set_up("demo-local" if engine == "local" else "demo")
    if code == 0 and engine != "local":
        python = PROGRAMS / "python"
        return _run(python, "-m", "tools.emulators", "exec", "--", FIRESTATE, "demo")
    if code == ONLY_EMULATORS_MISSING and not engine:
        until_then = "Until then the demo runs on the local engine, which needs Python alone."
        print(f"{said.splitlines()[-1]}\n{until_then}", flush=True)
    elif code:
        sys.stderr.write(said)
        return code
    for part in (FILE, *FILE.parent.glob(f"{FILE.name}-*")):
        part.unlink(missing_ok=True)
    return _run(FIRESTATE, "demo", "--file", FILE)


def _set_up(mode: str) -> tuple[int, str]:
    """Set up for the demo; return the exit code, and what was said of errors."""
    command = [sys.executable, "-m", "tools.setup", mode]
    done = subprocess.run(command, cwd=ROOT, check=False, stderr=subprocess.PIPE, text=True)
    return done.returncode, done.stderr


def _run(*command: str | Path) -> int:
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
