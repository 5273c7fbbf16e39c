"""What `make check` says of vulnerabilities and secrets."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tools.security_scan import secrets, vulnerabilities

if TYPE_CHECKING:
    from pathlib import Path

GOOD = {"name": "good", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "said", "found"),
    [
        ([GOOD], "0 in 1 packages", ()),
        ([GOOD, UNKNOWN], "0 in 1 packages, 1 unknown to the index", ()),
        ([GOOD, BAD], "1 in 2 packages", ("bad 2: CVE-1, mended in 3",)),
        ([UNKNOWN], "could not be looked for (the package index tells of none of 1 packages)", ()),
    ],
)
def test_vulnerabilities(packages: list[object], said: str, found: tuple[str, ...]) -> None:
    """Those found are named; where none could be known, that is said instead of none."""
    verdict = vulnerabilities(json.dumps({"dependencies": packages}), "")
    assert verdict.said == f"vulnerabilities: {said}"
    assert verdict.found == found


def test_without_a_network() -> None:
    """The last line of what went wrong is told, and nothing counts as found."""
    verdict = vulnerabilities("", "Traceback ...\nrequests.ConnectionError: no route\n")
    assert verdict.said == (
        "vulnerabilities: could not be looked for (requests.ConnectionError: no route)"
    )
    assert not verdict.broken


def test_a_tool_that_does_not_work_is_a_failure() -> None:
    """Else nobody would see that nothing is looked for any more."""
    assert vulnerabilities("", "pip-audit: error: unrecognized arguments: --x\n").broken
    assert secrets("", "No module named detect_secrets\n").broken
    assert secrets("", "").said == "secrets: could not be looked for (it said nothing)"


def test_a_planted_secret_is_found(tmp_path: Path) -> None:
    """With its file and line; a repository without one is clean."""
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "code.py").write_text("a = 1\n")
    assert scanned(tmp_path) == ()
    key = "AKIA" + "ABCDEFGHIJ234567"
    (tmp_path / "code.py").write_text(f"a = 1\naws = '{key}'\n")
    assert scanned(tmp_path) == ("code.py:2: AWS Access Key",)


def scanned(folder: Path) -> tuple[str, ...]:
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    done = subprocess.run(
        [sys.executable, "-m", "detect_secrets", "scan"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return secrets(done.stdout, done.stderr).found
