"""Make the project's environments, each only when what it is made from has changed.

Run by the Makefile under the machine's own Python, before there is any environment: it uses the
standard library alone. `python3 tools/setup.py` makes everything; `python3 tools/setup.py python`
only `.venv`, which is all that the static checks need; `... deploy` the Firebase CLI as well, but
nothing that runs emulators; `... other` what `.venv` holds for the Python that runs this, apart.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
OLDEST_NODE = 20


def main(arguments: Sequence[str]) -> None:
    """Make what is named, or everything."""
    CACHE.mkdir(exist_ok=True)
    with _alone():
        if "other" in arguments:
            _python_environment(other_environment())
            return
        _python_environment(ROOT / ".venv")
        if "python" not in arguments:
            _node_modules()
        if not {"python", "deploy"} & set(arguments):
            _functions_environment()
            _frameworks_environment()
            _emulators()


def other_environment(version: str = f"{sys.version_info[0]}.{sys.version_info[1]}") -> Path:
    """Return where the environment of another Python than that of `.venv` is."""
    return CACHE / "pythons" / version


def _python_environment(folder: Path) -> None:
    lock, package = ROOT / "tools/requirements.txt", ROOT / "shared/pyproject.toml"
    with _when_changed(folder, lock, package) as python:
        if python:
            _install(python, "-r", str(lock))
            _install(python, "--no-deps", "-e", str(package.parent))


def _functions_environment() -> None:
    # The Firebase CLI looks for the functions' environment in exactly this folder, and activates
    # it whatever Python it was made with; functions.yaml's runtime counts only at deploy.
    wanted, lock = ROOT / "functions/requirements.txt", ROOT / "tools/requirements.txt"
    package = ROOT / "shared/pyproject.toml"
    with _when_changed(ROOT / "functions/venv", wanted, lock, package) as python:
        if python:
            _install(python, "-r", str(wanted), "-c", str(lock))
            _install(python, "--no-deps", "-e", str(package.parent))


def _frameworks_environment() -> None:
    # Apart from `.venv`, whose OpenTelemetry and watchdog are newer than the frameworks allow.
    lock, package = ROOT / "tools/requirements-frameworks.txt", ROOT / "shared/pyproject.toml"
    with _when_changed(ROOT / ".venv-frameworks", lock, package) as python:
        if python:
            _install(python, "-r", str(lock))
            _install(python, "--no-deps", "-e", str(package.parent))


def _node_modules() -> None:
    version = _output("node", "--version").lstrip("v")
    if not version or int(version.split(".")[0]) < OLDEST_NODE:
        found = f"Node {version}" if version else "none"
        _stop(f"The Firebase CLI needs Node {OLDEST_NODE} or newer ({found} found): install it.")
    if not shutil.which("npm"):
        _stop("Node is installed without npm, which installs the Firebase CLI: install npm.")
    folder = ROOT / "node_modules"
    stamp, key = folder / ".stamp", _key(ROOT / "package-lock.json", ROOT / ".npmrc")
    if not _is(stamp, key):
        with _step("node_modules (the Firebase CLI)"):
            _run("npm", "ci", log="npm")
            stamp.write_text(key)


def _emulators() -> None:
    python = _python(ROOT / ".venv")
    java = [str(python), "-m", "tools.java"]
    if subprocess.run(java, cwd=ROOT, check=False, capture_output=True).returncode:
        with _step("a Java runtime in .venv"):
            _install(python, "-r", str(ROOT / "tools/requirements-java.txt"))
    files = [str(python), "-m", "tools.emulator_files"]
    found = subprocess.run(files, cwd=ROOT, check=False, capture_output=True, text=True)
    if found.returncode:
        _stop(found.stderr.strip())


@contextlib.contextmanager
def _when_changed(folder: Path, *sources: Path) -> Iterator[Path | None]:
    """Yield the Python of a fresh environment if `sources` differ from what `folder` was made of.

    The stamp is written last, so that an interrupted installation is done again.
    """
    stamp, key = folder / ".stamp", _key(*sources)
    if _is(stamp, key) and _python(folder).exists():
        yield None
        return
    with _step(str(folder.relative_to(ROOT))):
        try:
            venv.create(folder, clear=True, with_pip=True, symlinks=os.name != "nt")
        except subprocess.CalledProcessError:
            _stop("This Python cannot make environments: install its venv module (python3-venv).")
        yield _python(folder)
        stamp.write_text(key)


def _python(environment: Path) -> Path:
    return environment / "bin" / "python"


def _key(*sources: Path) -> str:
    """Return what an environment made of `sources` by this Python is known by."""
    digest = hashlib.sha256(repr((sys.version_info[:2], sys.prefix, str(ROOT))).encode())
    for source in sources:
        if not source.exists():
            _stop(f"{source.relative_to(ROOT)} is missing: check the project out again.")
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _is(stamp: Path, key: str) -> bool:
    return stamp.exists() and stamp.read_text() == key


def _install(python: Path, *arguments: str) -> None:
    _run(str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments)


def _run(*command: str, log: str = "pip") -> None:
    """Run a command silently; should it fail, show what it said and stop."""
    path = CACHE / f"{log}.log"
    with path.open("w") as output:
        done = subprocess.run(command, cwd=ROOT, check=False, stdout=output, stderr=output)
    if done.returncode:
        sys.stderr.write("\n" + path.read_text()[-8000:])
        _stop(f"{log} failed (see above); the first set-up has to reach the package registries.")


def _output(*command: str) -> str:
    if not shutil.which(command[0]):
        return ""
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def _step(what: str) -> Iterator[None]:
    start = time.monotonic()
    print(f"Setting up {what} ...", end="", flush=True)
    try:
        yield
    except BaseException:
        print(" failed", flush=True)
        raise
    print(f" {time.monotonic() - start:.0f} s", flush=True)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold off another `make` in the same folder: both would install into one environment."""
    with (CACHE / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _stop(message: str) -> NoReturn:
    raise SystemExit(message)


if __name__ == "__main__":
    main(sys.argv[1:])
