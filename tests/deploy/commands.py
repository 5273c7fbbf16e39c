"""The project's commands, run as a person runs them."""

from __future__ import annotations

import os
import subprocess
import sys

from tools.processes import ROOT

Done = subprocess.CompletedProcess[str]


def tool(module: str, *arguments: str, answer: str = "", **environment: str) -> Done:
    """Run `python -m tools.MODULE`; `answer` is what is typed."""
    return _run([sys.executable, "-m", f"tools.{module}", *arguments], answer, environment)


def make(*arguments: str, **environment: str) -> Done:
    """Run make."""
    return _run(["make", *arguments], "", environment)


def _run(command: list[str], typed: str, environment: dict[str, str]) -> Done:
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        input=typed,
        capture_output=True,
        text=True,
        check=False,
    )
