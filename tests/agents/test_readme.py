"""What the README and the tutorial tell an agent's developer, as it stands there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def blocks(text: str, language: str = "python") -> list[str]:
    """Give the blocks of code in a page."""
    return [part.partition("```")[0] for part in text.split(f"```{language}\n")[1:]]


def run(code: str, folder: Path) -> str:
    """Run code in a process of its own, in a folder that has no project."""
    environment = {k: v for k, v in os.environ.items() if "EMULATOR" not in k}
    environment.pop("GOOGLE_CLOUD_PROJECT", None)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_readme_s_agents(tmp_path: Path) -> None:
    """They spawn, hand over, end, are resumed, and have learned."""
    section = (ROOT / "README.md").read_text().partition("## In your agents\n")[2]
    told = run(blocks(section)[0], tmp_path)
    assert told.splitlines()[0] == "t1 tabs"
    assert "tasks of the kind 'code': 1 of 1 tries succeeded" in told


@pytest.mark.parametrize("page", ["clean-up", "emergency-stop", "refusals", "sessions"])
def test_a_page_about_a_task(tmp_path: Path, page: str) -> None:
    """Its programs say what it says they do."""
    text = (ROOT / "docs" / f"{page}.md").read_text()
    programs, said = blocks(text), blocks(text, "text")
    assert programs
    assert [run(program, tmp_path) for program in programs] == said


def test_the_tutorial(tmp_path: Path) -> None:
    """Its steps, one after the other, each in a process of its own, say what they say they do."""
    page = (ROOT / "docs" / "tutorial.md").read_text()
    steps, said = blocks(page), blocks(page, "text")
    assert len(steps) == len(said)
    for step, expected in zip(steps, said, strict=True):
        assert run(step, tmp_path) == expected, step
