"""Make the project's environments, each only when what it is made from has changed.

    python3 -m tools.setup              everything
    python3 -m tools.setup python       `.venv` alone, which is all that the static checks need
    python3 -m tools.setup deploy       that, and the Firebase CLI; nothing that runs emulators
    python3 -m tools.setup demo         what the demo needs on emulators, and no more
    python3 -m tools.setup demo-local   what it needs on the local engine
    python3 -m tools.setup other        what `.venv` holds, apart, for the Python that runs this

Run by the Makefile under the machine's own Python, before there is any environment: it uses the
standard library alone. It ends with one line that says what to do, and with the code 3 where only
the emulators cannot be had.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

from tools.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
OLDEST_NODE = 20

ONLY_EMULATORS_MISSING = 3
"""The exit code where the local engine can be used at least."""

_LOCK = ROOT / "tools/requirements.txt"
_PACKAGE = ROOT / "shared/pyproject.toml"
_FUNCTIONS = ROOT / "functions/requirements.txt"
_TAIL = 8_000
_PATIENCE_SECONDS = 5.0


class SetUpError(Exception):
    """Something cannot be set up; the message is one line that says what to do."""

    def __init__(self, message: str, *, log: str = "", code: int = 1) -> None:
        """Take the message, what a program said that failed, and the exit code."""
        super().__init__(message)
        self.log = log
        self.code = code


class SetUp:
    """One run: what is made in it is shown by `progress`."""

    def __init__(self, progress: Progress) -> None:
        """Begin with nothing at work."""
        self._progress = progress
        self._running: list[subprocess.Popen[bytes]] = []
        self._stopped = False

    def everything(self) -> None:
        """Make all that the tests need."""
        self.check_node()
        self._together(  # what takes longest comes first
            self.python, self.frameworks_environment, self.node_modules, self.functions_environment
        )
        self.emulators()

    def demo(self) -> None:
        """Make what the demo needs on emulators."""
        self._together(self.demo_python, self.node_modules)
        self.functions_in_the_demo()
        self.emulators()

    def deploy(self) -> None:
        """Make what a deploy needs."""
        self.check_node()
        self._together(self.python, self.node_modules)

    def python(self) -> None:
        """Make `.venv`, with all that it can hold."""
        self._make_python(ROOT / ".venv", _FULL)

    def other_python(self) -> None:
        """Make what `.venv` holds for the Python that runs this, in a folder of its own."""
        (CACHE / "pythons").mkdir(exist_ok=True)
        self._make_python(other_environment(), _FULL)

    def demo_python(self) -> None:
        """Make a `.venv` that has what the demo and the functions import, or more."""
        self._make_python(ROOT / ".venv", _DEMO)

    def local_python(self) -> None:
        """Make a `.venv` that has what the package imports, or more."""
        self._make_python(ROOT / ".venv", _LOCAL)

    def _make_python(self, folder: Path, wanted: int) -> None:
        levels = _levels()
        there = [number for number, (key, _) in enumerate(levels) if _is(folder, key)]
        if there and there[0] >= wanted:
            return
        key, packages = levels[wanted]
        # One that holds less is added to.
        with self._making(folder, key, keep=bool(there)) as install:
            install(*packages)
            if not there:
                # By the hatchling that is installed by now: nothing is downloaded for it.
                install("--no-deps", "--no-build-isolation", "-e", str(_PACKAGE.parent))

    def functions_environment(self) -> None:
        """Make the functions' environment: what is deployed, and nothing else."""
        # The Firebase CLI looks for it in exactly this folder, and activates it whatever Python it
        # was made with; functions.yaml's runtime counts only at deploy.
        folder = ROOT / "functions/venv"
        key = _key(_FUNCTIONS, _LOCK, _PACKAGE)
        if folder.is_symlink() or not _is(folder, key):
            with self._making(folder, key) as install:
                install("-r", str(_FUNCTIONS), "-c", str(_LOCK))
                install("--no-deps", "-e", str(_PACKAGE.parent))

    def functions_in_the_demo(self) -> None:
        """Let the functions have `.venv`, unless they have an environment of their own."""
        folder = ROOT / "functions/venv"
        if not folder.is_symlink() and not _is(folder, _key(_FUNCTIONS, _LOCK, _PACKAGE)):
            _remove(folder)
            folder.symlink_to(Path("..") / ".venv")

    def frameworks_environment(self) -> None:
        """Make the environment of the agent frameworks."""
        # Apart from `.venv`, whose OpenTelemetry and watchdog are newer than the frameworks allow.
        lock = ROOT / "tools/requirements-frameworks.txt"
        folder, key = ROOT / ".venv-frameworks", _key(lock, _PACKAGE)
        if not _is(folder, key):
            with self._making(folder, key) as install:
                install("-r", str(lock))
                install("--no-deps", "-e", str(_PACKAGE.parent))

    def check_node(self) -> None:
        """Raise where there is no Node, or none that the Firebase CLI runs on."""
        version = _output("node", "--version").lstrip("v")
        if not version or int(version.split(".")[0]) < OLDEST_NODE:
            found = f"Node {version}" if version else "none"
            message = f"The Firebase CLI needs Node {OLDEST_NODE} or newer ({found} found)"
            raise SetUpError(f"{message}: install it.", code=ONLY_EMULATORS_MISSING)
        if not shutil.which("npm"):
            message = "Node is installed without npm, which installs the Firebase CLI: install npm."
            raise SetUpError(message, code=ONLY_EMULATORS_MISSING)

    def node_modules(self) -> None:
        """Install the Firebase CLI."""
        self.check_node()
        folder = ROOT / "node_modules"
        key = _key(ROOT / "package-lock.json", ROOT / ".npmrc")
        if not _is(folder, key):
            with self._progress.step("node_modules (the Firebase CLI)"):
                (folder / ".stamp").unlink(missing_ok=True)
                self._run(CACHE / "npm.log", "npm", "ci", code=ONLY_EMULATORS_MISSING)
                (folder / ".stamp").write_text(key)

    def emulators(self) -> None:
        """See to it that there are a Java and both emulators; all else must be there."""
        python = str(_python(ROOT / ".venv"))
        java = [python, "-m", "tools.java"]
        if subprocess.run(java, cwd=ROOT, check=False, capture_output=True).returncode:
            log = CACHE / "pip-java.log"
            with self._progress.step("a Java runtime in .venv", lambda: _told_by_pip(log)):
                wanted = ROOT / "tools/requirements-java.txt"
                self._install(log, python, "-r", str(wanted), code=ONLY_EMULATORS_MISSING)
        with self._progress.step("the emulators (looked for, or downloaded)"):
            files = [python, "-m", "tools.emulator_files"]
            found = subprocess.run(files, cwd=ROOT, check=False, capture_output=True, text=True)
        if found.returncode:
            raise SetUpError(found.stderr.strip(), code=ONLY_EMULATORS_MISSING)

    def stop(self) -> None:
        """End what is at work, so that nothing goes on installing afterwards."""
        self._stopped = True
        for process in list(self._running):
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                process.terminate()
                process.wait(_PATIENCE_SECONDS)

    def _together(self, *jobs: Callable[[], None]) -> None:
        """Do `jobs`, as many at a time as there are processors; raise the first one's error."""
        pool = ThreadPoolExecutor(max(2, os.cpu_count() or 2))
        done = [pool.submit(job) for job in jobs]
        try:
            wait(done)
        except BaseException:
            self.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        for job in done:
            job.result()

    @contextlib.contextmanager
    def _making(
        self, folder: Path, key: str, *, keep: bool = False
    ) -> Iterator[Callable[..., None]]:
        """Make `folder` an environment, from nothing unless `keep`; yield what installs into it.

        The stamp is written last, so that an interrupted installation is done again.
        """
        name = str(folder.relative_to(ROOT))
        log = CACHE / f"pip-{name.replace('/', '-').lstrip('.')}.log"
        log.unlink(missing_ok=True)
        stamp = folder / ".stamp"
        python = _python(folder)

        def install(*arguments: str) -> None:
            self._install(log, str(python), *arguments)

        with self._progress.step(name, lambda: _told_by_pip(log)):
            if keep:
                stamp.unlink()
            else:
                _remove(folder)
                self._run(log, sys.executable, "-m", "venv", str(folder), what="venv")
            yield install
            stamp.write_text(key)

    def _install(self, log: Path, python: str, *arguments: str, code: int = 1) -> None:
        options = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")
        self._run(log, python, "-m", "pip", "install", *options, *arguments, code=code)

    def _run(self, log: Path, *command: str, what: str = "", code: int = 1) -> None:
        """Run a command silently; should it fail, raise what it said."""
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self._running.append(process)
        if self._stopped:  # while it was being started
            process.terminate()
        failed = process.wait()
        self._running.remove(process)
        if failed and what == "venv":
            message = "This Python cannot make environments: install its venv module (python3-venv)"
            raise SetUpError(f"{message}.", log=_tail(log))
        if failed:
            message = f"{what or log.stem.partition('-')[0]} failed (see above)"
            message += "; the first set-up has to reach the package registries."
            raise SetUpError(message, log=_tail(log), code=code)


MODES: dict[str, Callable[[SetUp], None]] = {
    "": SetUp.everything,
    "python": SetUp.python,
    "deploy": SetUp.deploy,
    "demo": SetUp.demo,
    "demo-local": SetUp.local_python,
    "other": SetUp.other_python,
}


def other_environment(version: str = f"{sys.version_info[0]}.{sys.version_info[1]}") -> Path:
    """Return where the environment of another Python than that of `.venv` is."""
    return CACHE / "pythons" / version


_LOCAL, _DEMO, _FULL = range(3)


def _levels() -> list[tuple[str, tuple[str, ...]]]:
    """Return what `.venv` can hold, from the least to all: what it is known by, and for pip."""
    whole = _key(_LOCK, _PACKAGE)  # tells of a file that is missing, before one is read
    dependencies: list[str] = tomllib.loads(_PACKAGE.read_text())["project"]["dependencies"]
    local = (*dependencies, "hatchling", "-c", str(_LOCK))
    demo = ("-r", str(_FUNCTIONS), "psutil", *local)  # psutil ends what the emulators have started
    return [
        (_key(_LOCK, _PACKAGE, what="local"), local),
        (_key(_LOCK, _PACKAGE, _FUNCTIONS, what="demo"), demo),
        (whole, ("-r", str(_LOCK))),
    ]


def _python(environment: Path) -> Path:
    return environment / "bin" / "python"


def _key(*sources: Path, what: str = "") -> str:
    """Return what a folder made of `sources` by this Python is known by."""
    digest = hashlib.sha256(repr((sys.version_info[:2], sys.prefix, str(ROOT))).encode())
    digest.update(what.encode())
    for source in sources:
        if not source.exists():
            where = source.relative_to(ROOT)
            raise SetUpError(f"{where} is missing: check the project out again.")
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _is(folder: Path, key: str) -> bool:
    """Tell whether `folder` is there, and was made whole of what `key` stands for."""
    stamp = folder / ".stamp"
    whole = stamp.exists() and stamp.read_text() == key
    return whole and (folder.name == "node_modules" or _python(folder).exists())


def _remove(folder: Path) -> None:
    # Never through a link: what it leads to is another environment.
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _told_by_pip(log: Path) -> str:
    """Return how far pip has come, by its log."""
    try:
        said = log.read_text(errors="replace")
    except OSError:
        return ""
    if installing := re.findall(r"^Installing collected packages: (.*)$", said, re.MULTILINE):
        return f"installing {_packages(installing[-1].count(',') + 1)}"
    fetched = len(re.findall(r"^Collecting ", said, re.MULTILINE))
    return f"{_packages(fetched)} so far" if fetched else ""


def _packages(count: int) -> str:
    return f"{count} package{'s' if count > 1 else ''}"


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-_TAIL:]


def _output(*command: str) -> str:
    if not shutil.which(command[0]):
        return ""
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold off another `make` in the same folder: both would install into one environment."""
    with (CACHE / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with Progress("Waiting") as progress, progress.step("for another make in this folder"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Take a `kill` for a Ctrl-C meanwhile: what is at work is ended as well."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def set_up(mode: str = "") -> None:
    """Make what `mode` names, one of MODES; raise SetUpError where that cannot be done."""
    CACHE.mkdir(exist_ok=True)
    with _stoppable(), _alone(), Progress("Setting up") as progress:
        run = SetUp(progress)
        try:
            MODES[mode](run)
        finally:
            run.stop()


def report(error: SetUpError) -> int:
    """Print what failed, and what to do; return the exit code."""
    sys.stderr.write(error.log and f"{error.log.rstrip()}\n")
    print(error, file=sys.stderr)
    return error.code


def stopped() -> int:
    """Print that the set-up was stopped; return the exit code."""
    print("The set-up was stopped; make goes on with it the next time.", file=sys.stderr)
    return 128 + signal.SIGINT


def main(mode: str = "") -> int:
    """Make what the command line names; return the exit code."""
    if mode not in MODES:
        names = ", ".join(filter(None, MODES))
        print(f"There is no set-up {mode!r}, only: {names}.", file=sys.stderr)
        return 2
    try:
        set_up(mode)
    except SetUpError as error:
        return report(error)
    except KeyboardInterrupt:
        return stopped()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
