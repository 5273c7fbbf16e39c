"""Run the tests that need Python alone on every Python that Firestate supports and is found here.

    python -m tools.pythons [pytest's arguments]

Each has an environment of its own in `.cache/pythons`, made anew when what it is made of changes.
A Python is there if it can be run: what pyenv puts on PATH often cannot.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.processes import ROOT
from tools.setup import other_environment

VERSIONS = ("3.12", "3.13", "3.14")
"""All but the oldest, 3.11, on which `make test` is mostly run."""

TESTS = ("tests/unit", "tests/local")


def main(arguments: Sequence[str]) -> int:
    """Test on each Python that is found; say on which, and which are not there."""
    found = {version: path for version in VERSIONS if (path := find(version))}
    ends = {version: _test(version, path, arguments) for version, path in found.items()}
    passed = [version for version, code in ends.items() if code == 0]
    failed = [version for version, code in ends.items() if code]
    missing = [version for version in VERSIONS if version not in found]
    told = {"passed on": passed, "failed on": failed, "not found here": missing}
    print("Python: " + "; ".join(f"{what} {', '.join(v)}" for what, v in told.items() if v) + ".")
    return 1 if failed or not found else 0


def find(version: str) -> Path | None:
    """Return a Python of this version that runs; None where there is none."""
    return next((path for path in _candidates(version) if _runs(path, version)), None)


def _candidates(version: str) -> Iterator[Path]:
    name = f"python{version}"
    if on_path := shutil.which(name):
        yield Path(on_path)
    # Of pyenv's versions only those that are chosen run by their names.
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(root.glob(f"versions/{version}.*/bin/{name}"))


def _runs(path: Path, version: str) -> bool:
    program = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([path, "-c", program], check=False, capture_output=True, text=True)
    return done.returncode == 0 and done.stdout.strip() == version


def _test(version: str, path: Path, arguments: Sequence[str]) -> int:
    print(f"On Python {version}, {path}:", flush=True)
    setup = subprocess.run([path, "-m", "tools.setup", "other"], cwd=ROOT, check=False)
    if setup.returncode:
        return setup.returncode
    python = other_environment(version) / "bin" / "python"
    cache = f"cache_dir=.cache/pytest-{version}"
    command = [str(python), "-m", "pytest", "-q", "-o", cache, *TESTS, *arguments]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
