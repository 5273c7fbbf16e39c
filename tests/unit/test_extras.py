"""Where a package of an extra is missing, the error names the extra and the command."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import firestate
from firestate.errors import ConfigurationError, FirestateError, MissingExtraError
from firestate.extras import required_extra

PACKAGE = Path(firestate.__file__).parent
EXTRAS = set(
    tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
)
# Each extra, one of its packages, and what needs it.
NEEDS = [
    (
        "roles",
        "firebase_admin",
        "from firestate.cli.roles import _accounts as a; a('x').__enter__()",
    ),
    (
        "buckets",
        "google.cloud.storage",
        "from firestate.migration.sources.resolve_source import open_source as a; a('gs://x')",
    ),
    ("openai-agents", "agents", "import firestate.adapters.openai_agents"),
    ("langgraph", "langchain_core", "import firestate.adapters.langgraph"),
    ("adk", "google.adk", "import firestate.adapters.adk"),
    ("opentelemetry", "opentelemetry", "import firestate.adapters.opentelemetry"),
]


@pytest.mark.parametrize(("extra", "package", "program"), NEEDS)
def test_a_missing_extra_is_named_with_the_command(extra: str, package: str, program: str) -> None:
    """In the last line of the traceback, as an ImportError that can be caught as ours too."""
    script = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from firestate.errors import MissingExtraError\n"
        f"try:\n    {program}\n"
        "except ImportError as error:\n"
        "    assert isinstance(error, MissingExtraError)\n"
        "    print(error.extra, '|', error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.startswith(f"{extra} | "), done.stderr
    assert f'pip install "./shared[{extra}]"' in done.stdout
    assert package in done.stdout


def test_every_extra_is_asked_for_by_its_name() -> None:
    """No program sends anybody to an extra that does not exist."""
    sources = [path.read_text() for path in PACKAGE.rglob("*.py")]
    asked = {name for text in sources for name in re.findall(r'required_extra\("([^"]+)"', text)}
    assert asked == EXTRAS == {extra for extra, _, _ in NEEDS}


def test_a_missing_extra_is_a_setting_and_an_import() -> None:
    """Whoever imports a framework if it is there catches ImportError, as ever."""
    with (
        pytest.raises(MissingExtraError, match="cannot import name") as caught,
        required_extra("langgraph", "here"),
    ):
        from firestate.errors import NoSuchName  # type: ignore[attr-defined] # noqa: F401, PLC0415
    for kind in (ImportError, ConfigurationError, FirestateError):
        assert isinstance(caught.value, kind)
