"""The package as others see it: its names, its version, what is built of it."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import firestate
from firestate import errors
from firestate.counters.shard_totals import SYSTEM_VERSION

if TYPE_CHECKING:
    from email.message import Message

ROOT = Path(__file__).parents[2]
NAMES = sorted(set(firestate.__all__) - {"__version__"})
_TYPED = Path(firestate.__file__).read_text()


def python(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a fresh interpreter."""
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


def places() -> dict[str, str]:
    """Return the module of each public name, as type checkers read it."""
    return {
        alias.name: node.module or ""
        for block in ast.parse(_TYPED).body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_importing_the_package_loads_nothing_else() -> None:
    """Functions, and commands that only ask the version, start without what they do not need."""
    script = "import sys, json; before = set(sys.modules); import firestate; "
    script += "print(json.dumps(sorted(set(sys.modules) - before)))"
    loaded = set(json.loads(python("-c", script).stdout))
    assert {name for name in loaded if name.startswith("firestate")} == {
        "firestate",
        "firestate.moved_modules",
        "firestate.version",
    }
    others = {name.partition(".")[0] for name in loaded} - {"firestate"}
    assert others <= sys.stdlib_module_names - {"sqlite3", "socket", "asyncio", "threading"}


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_the_object_of_its_own_module(name: str) -> None:
    """It is found where type checkers are told that it is, and listed."""
    own = importlib.import_module(places()[name])
    assert getattr(firestate, name) is getattr(own, name)
    assert name in dir(firestate)


def test_type_checkers_see_the_names_that_programs_see() -> None:
    """One list for both."""
    assert {*places(), "__version__"} == set(firestate.__all__)


def test_every_error_is_a_public_name() -> None:
    """Whatever Firestate raises can be caught by `from firestate import ...`."""
    raised = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.FirestateError)
    }
    assert raised <= set(NAMES)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="'firestate' has no attribute 'StateManger'"):
        getattr(firestate, "StateManger")  # noqa: B009 - mypy knows that there is none
    with pytest.raises(ImportError, match="StateManger"):
        exec("from firestate import StateManger")  # noqa: S102 - mypy knows that there is none


def test_the_version_is_said_once() -> None:
    """The package, the documents and both commands say what the module of the version says."""
    assert firestate.__version__ == SYSTEM_VERSION
    said = f"firestate {firestate.__version__}\n"
    assert python("-m", "firestate", "--version").stdout == said
    assert "version =" not in (ROOT / "shared" / "pyproject.toml").read_text()


def test_python_m_firestate_is_the_command() -> None:
    """With the same commands, and the same exit codes."""
    assert "quarantine" in python("-m", "firestate", "--help").stdout
    assert python("-m", "firestate", "no-such-command").returncode == 2


def test_where_fcntl_is_missing_one_sentence_says_so(tmp_path: Path) -> None:
    """Elsewhere than on Linux and macOS."""
    for asked in ("import firestate", "from firestate.cli import main"):
        done = python("-c", f"import sys; sys.modules['fcntl'] = None; {asked}", folder=tmp_path)
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert last.startswith("ImportError: Firestate runs on Linux and macOS: ")
        assert "During handling of" not in done.stderr


def test_the_built_package_is_complete(tmp_path: Path) -> None:
    """Version, licence, description and types are in the wheel and in the sources."""
    built = python("-m", "hatchling", "build", "-d", str(tmp_path), folder=ROOT / "shared")
    assert built.returncode == 0, built.stderr
    name = f"firestate-{firestate.__version__}"
    with zipfile.ZipFile(tmp_path / f"{name}-py3-none-any.whl") as wheel:
        files = set(wheel.namelist())
        metadata = message_from_string(wheel.read(f"{name}.dist-info/METADATA").decode())
        licence = wheel.read(f"{name}.dist-info/licenses/LICENSE")
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert {"firestate/py.typed", "firestate/version.py", "firestate/__main__.py"} <= files
    assert all(each.startswith(("firestate/", f"{name}.dist-info/")) for each in files)
    check_metadata(metadata)
    with tarfile.open(tmp_path / f"{name}.tar.gz") as sources:
        files = {each.partition("/")[2] for each in sources.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "firestate/py.typed"} <= files
    assert all(each.startswith("firestate/") for each in files if "/" in each)


def check_metadata(metadata: Message) -> None:
    assert metadata["Version"] == firestate.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Author"] == "Firestate maintainers"
    assert metadata["Keywords"]
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert str(metadata.get_payload()).startswith("# Firestate")


def test_the_licence_of_the_package_is_that_of_the_project() -> None:
    """Two files, since what is built of shared/ holds nothing from outside of it."""
    assert (ROOT / "shared" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_example_in_the_package_s_readme_runs(tmp_path: Path) -> None:
    """As it stands, in an empty folder."""
    readme = (ROOT / "shared" / "README.md").read_text()
    example = readme.partition("```python\n")[2].partition("```")[0]
    done = python("-c", example, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / ".firestate").is_dir()


def test_the_changelog_knows_this_version() -> None:
    """Each release has its section, below what is not released yet."""
    log = (ROOT / "CHANGELOG.md").read_text()
    assert log.index("## [Unreleased]") < log.index(f"## [{firestate.__version__}]")
