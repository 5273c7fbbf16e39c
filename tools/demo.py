"""Play the demo: on the emulators, or on the local engine where they cannot be had.

python -m tools.demo [emulators | local]   without a word: emulators if they can be had

It runs under the machine's own Python, and first sets up what the demo needs, and no more.
"""

import subprocess
import sys
from pathlib import Path

from tools.processes import ROOT
from tools.setup import ONLY_EMULATORS_MISSING, SetUpError, report, set_up, stopped

PROGRAMS = ROOT / ".venv" / "bin"
FIRESTATE = PROGRAMS / "firestate"
FILE = Path(".firestate") / "demo.db"


def main() -> int:
    """Set up what is needed, play, and return the demo's exit code."""
    engine = sys.argv[1] if len(sys.argv) > 1 else ""
    if engine not in ("", "emulators", "local"):
        sys.exit(f"ENGINE is emulators or local, not {engine!r}.")
    try:
        set_up("demo-local" if engine == "local" else "demo")
    except SetUpError as error:
        if engine or error.code != ONLY_EMULATORS_MISSING:
            return report(error)
        until_then = "Until then the demo runs on the local engine, which needs Python alone."
        print(f"{error}\n{until_then}", flush=True)
        engine = "local"
    except KeyboardInterrupt:
        return stopped()
    if engine != "local":
        python = PROGRAMS / "python"
        return _run(python, "-m", "tools.emulators", "exec", "--", FIRESTATE, "demo")
    for part in (FILE, *FILE.parent.glob(f"{FILE.name}-*")):
        part.unlink(missing_ok=True)
    return _run(FIRESTATE, "demo", "--file", FILE)


def _run(*command: str | Path) -> int:
    process = subprocess.Popen(command, cwd=ROOT)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # it has come from the terminal to both


if __name__ == "__main__":
    sys.exit(main())
