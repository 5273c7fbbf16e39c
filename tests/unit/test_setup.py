"""What is set up, when, and how it ends."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tools import setup
from tools.progress import Progress
from tools.setup import ONLY_EMULATORS_MISSING, SetUp, SetUpError

HERE = Path(__file__).parents[2]


class Recorded(SetUp):
    """A set-up that installs nothing, and says what it would have run."""

    def __init__(self) -> None:
        super().__init__(Progress("Setting up", io.StringIO()))
        self.commands: list[str] = []
        self.failing = ""

    def _run(self, log: Path, *command: str, what: str = "", code: int = 1) -> None:
        del what, log
        said = " ".join(command)
        self.commands.append(said)
        if self.failing and self.failing in said:
            raise SetUpError(f"{self.failing} failed", code=code)
        if command[1:3] == ("-m", "venv"):
            program = Path(command[-1]) / "bin" / "python"
            program.parent.mkdir(parents=True)
            program.write_text("")
        if command[:2] == ("npm", "ci"):
            (setup.ROOT / "node_modules").mkdir(exist_ok=True)

    def check_node(self) -> None:
        """Take it that there is Node."""
        if self.failing == "NODE":
            raise SetUpError("node is missing", code=ONLY_EMULATORS_MISSING)

    def emulators(self) -> None:
        """Take it that they are there."""


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A project without environments."""
    root = tmp_path / "project"
    for name in (
        "tools/requirements.txt",
        "tools/requirements-frameworks.txt",
        "shared/pyproject.toml",
        "functions/requirements.txt",
        "package-lock.json",
        ".npmrc",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / name, root / name)
    (root / ".cache").mkdir()
    monkeypatch.setattr(setup, "ROOT", root)
    monkeypatch.setattr(setup, "CACHE", root / ".cache")
    monkeypatch.setattr(setup, "_LOCK", root / "tools/requirements.txt")
    monkeypatch.setattr(setup, "_PACKAGE", root / "shared/pyproject.toml")
    monkeypatch.setattr(setup, "_FUNCTIONS", root / "functions/requirements.txt")
    return root


def done(mode: str, failing: str = "") -> list[str]:
    """Set up; return what was run."""
    recorded = Recorded()
    recorded.failing = failing
    setup.MODES[mode](recorded)
    return recorded.commands


def made(commands: list[str]) -> set[str]:
    """Return the environments that were made from nothing, and `node_modules`."""
    folders = {Path(each.split()[-1]).name for each in commands if " -m venv " in each}
    return folders | ({"node_modules"} if "npm ci" in commands else set())


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        ("", {".venv", ".venv-frameworks", "venv", "node_modules"}),
        ("python", {".venv"}),
        ("deploy", {".venv", "node_modules"}),
        ("demo", {".venv", "node_modules"}),
        ("demo-local", {".venv"}),
    ],
)
def test_each_mode_makes_what_it_needs_and_once(mode: str, wanted: set[str]) -> None:
    """The second time there is nothing to do."""
    assert made(done(mode)) == wanted
    assert done(mode) == []


def test_the_demo_installs_no_tools_of_development(project: Path) -> None:
    """Only what Firestate, its functions and the emulators' runner import."""
    (installed,) = (each for each in done("demo") if "functions/requirements.txt" in each)
    assert "google-cloud-pubsub" in installed
    assert f"-c {project}/tools/requirements.txt" in installed
    assert f"-r {project}/tools/requirements.txt" not in installed
    assert (project / "functions/venv").resolve() == project / ".venv"


def test_the_demo_on_the_local_engine_installs_the_package_alone(project: Path) -> None:
    """With what it depends on; the demo on emulators adds to that."""
    commands = done("demo-local")
    assert not any("functions" in each for each in commands)
    assert any("google-cloud-firestore" in each for each in commands)
    (project / ".venv" / "kept").write_text("")
    assert made(done("demo")) == {"node_modules"}
    assert (project / ".venv" / "kept").exists()
    assert done("demo-local") == []


def test_the_tests_complete_what_the_demo_has_set_up(project: Path) -> None:
    """Its environment is added to; the functions get their own, and the link's target stays."""
    done("demo")
    kept = project / ".venv" / "kept"
    kept.write_text("")
    commands = done("")
    assert made(commands) == {".venv-frameworks", "venv"}
    assert any(f"-r {project}/tools/requirements.txt" in each for each in commands)
    assert kept.exists()
    assert not (project / "functions/venv").is_symlink()
    assert done("demo") == done("demo-local") == done("python") == done("") == []
    assert not (project / "functions/venv").is_symlink()


@pytest.mark.parametrize(
    "name", ["tools/requirements.txt", "shared/pyproject.toml", "functions/requirements.txt"]
)
def test_the_demo_s_environment_follows_what_it_is_made_of(project: Path, name: str) -> None:
    """From nothing: what is no longer wanted is gone."""
    done("demo")
    with (project / name).open("a") as file:
        file.write("# changed\n")
    assert made(done("demo")) == {".venv"}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("mode", ["python", "demo-local"])
@pytest.mark.parametrize("at", [" -m venv ", "requirements.txt", "--no-build-isolation"])
def test_what_was_interrupted_is_done_again(mode: str, at: str) -> None:
    """From nothing, wherever it was."""
    with pytest.raises(SetUpError):
        done(mode, failing=at)
    assert made(done(mode)) == {".venv"}
    assert done(mode) == []


@pytest.mark.usefixtures("project")
def test_an_interrupted_completion_is_done_again_from_nothing() -> None:
    """What the demo has made may be half changed by then."""
    done("demo-local")
    with pytest.raises(SetUpError):
        done("python", failing="requirements.txt")
    assert made(done("python")) == {".venv"}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("failing", ["NODE", "npm ci"])
def test_without_node_the_local_engine_is_set_up_all_the_same(failing: str) -> None:
    """The exit code tells that only the emulators are missing."""
    with pytest.raises(SetUpError) as raised:
        done("demo", failing=failing)
    assert raised.value.code == ONLY_EMULATORS_MISSING
    assert done("demo-local") == []


@pytest.mark.usefixtures("project")
def test_python_s_failure_counts_before_node_s() -> None:
    """Without it there is no local engine either."""
    recorded = Recorded()
    recorded.failing = "install"
    with pytest.raises(SetUpError) as raised:
        recorded.demo()
    assert raised.value.code == 1


@pytest.mark.usefixtures("project")
def test_a_command_that_fails_is_shown_with_what_it_said(tmp_path: Path) -> None:
    """And with one line that says what to do."""
    script = tmp_path / "pip"
    script.write_text("#!/bin/sh\necho no such package >&2\nexit 1\n")
    script.chmod(0o755)
    set_up = SetUp(Progress("Setting up", io.StringIO()))
    with pytest.raises(SetUpError, match=r"^pip failed .* reach the package registries\.$") as told:
        set_up._run(setup.CACHE / "pip-venv.log", str(script))
    assert told.value.log == "no such package\n"


@pytest.mark.usefixtures("project")
def test_a_stop_ends_what_is_at_work() -> None:
    """Nothing goes on installing into a folder that the next run makes anew."""
    set_up = SetUp(Progress("Setting up", io.StringIO()))
    failures: list[Exception] = []

    def run() -> None:
        try:
            set_up._run(setup.CACHE / "pip.log", sys.executable, "-c", _SLEEPS)
        except SetUpError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not set_up._running:
        pass
    set_up.stop()
    thread.join(10)
    assert failures
    assert not set_up._running


@pytest.mark.parametrize("name", ["shared/pyproject.toml", "functions/requirements.txt"])
def test_a_file_that_is_missing_is_named(project: Path, name: str) -> None:
    """In one line that says what to do."""
    (project / name).unlink()
    with pytest.raises(SetUpError, match=f"^{name} is missing: check the project out again.$"):
        done("demo")


def test_a_mode_that_does_not_exist_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """With those that do."""
    assert setup.main("pyhton") == 2
    assert "python, deploy, demo, demo-local" in capsys.readouterr().err


def test_it_runs_on_a_python_without_any_package() -> None:
    """It makes the environments, so it can rely on none."""
    command = [sys.executable, "-I", "-S", "-c", _WITHOUT_PACKAGES]
    done: Any = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


_SLEEPS = "import time; time.sleep(60)"
_WITHOUT_PACKAGES = f"import sys; sys.path.append({str(HERE)!r}); import tools.demo, tools.setup"


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("", ""),
        ("Collecting a==1\n  Downloading a.whl\nCollecting b==2\n", "2 packages so far"),
        ("Collecting a==1\nInstalling collected packages: a, b, c\n", "installing 3 packages"),
        ("Installing collected packages: a\n", "installing 1 package"),
    ],
)
def test_how_far_pip_has_come(log: str, told: str, tmp_path: Path) -> None:
    """Read from what it writes."""
    file = tmp_path / "pip.log"
    assert setup._told_by_pip(file) == ""
    file.write_text(log)
    assert setup._told_by_pip(file) == told
