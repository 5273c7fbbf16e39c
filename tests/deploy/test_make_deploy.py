"""What `make deploy` says, asks and runs."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from tests.deploy.commands import make, tool
from tools import deploy
from tools.cloud import endpoints, problem
from tools.deploy import Step, plan, run, steps
from tools.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("value", ["no", "0", "yes"])
def test_only_one_word_is_a_yes(value: str) -> None:
    """What might mean no is not taken for a yes, nor is a variable of the environment."""
    done = make("deploy", "PROJECT=my-project", f"YES={value}")
    assert done.returncode == 2
    assert "YES=1 asks nothing" in done.stderr
    assert "--yes" not in make("-n", "deploy", "PROJECT=my-project", YES="1").stdout
    assert "--yes" in make("-n", "deploy", "PROJECT=my-project", "YES=1").stdout


def test_what_will_be_touched_is_said() -> None:
    """Every function, what is replaced, and what will be removed in time."""
    said = plan("my-project")
    assert all(name in said for name in endpoints())
    assert "REPLACE" in said
    assert "my-project" in said
    indexes = json.loads((ROOT / "firestore.indexes.json").read_text())["indexes"]
    assert f"{len(indexes)} composite indexes" in said
    assert max(map(len, said.splitlines())) <= 100


@pytest.mark.parametrize("answer", ["", "y\n", "yes\n", "my-project-2\n"])
def test_nothing_is_begun_unless_the_project_is_named(answer: str, tmp_path: Path) -> None:
    """A yes is not enough, and neither is no answer at all."""
    (tmp_path / "gcloud").symlink_to(shutil.which("false") or "")
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = tool("deploy", "my-project", answer=answer, PATH=path)
    assert done.returncode == 1
    assert "REPLACE" in done.stdout
    assert "[1/" not in done.stdout
    assert done.stderr == "That is not my-project: nothing was done.\n"


@pytest.mark.parametrize("project", ["", "demo-x", "My-Project", "a b", "x; rm -rf /", "-p", "abc"])
def test_what_is_no_project(project: str) -> None:
    """It is refused before anything is said."""
    assert problem(project)
    for module, arguments in (("deploy", ["--", project]), ("cloud", ["before", project])):
        done = tool(module, *arguments)
        assert done.returncode == 2
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1


def test_once_it_is_named_the_steps_are_run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Accounts, then the Firebase CLI, then subscriptions; where a program is missing, none."""
    assert [step.command[0].rpartition("/")[2] for step in steps("my-project")] == [
        "bash",
        "firebase",
        "bash",
    ]
    assert "--force" not in steps("my-project")[1].command
    monkeypatch.setattr(sys, "argv", ["deploy", "my-project"])
    monkeypatch.setattr("builtins.input", lambda _: "my-project")
    monkeypatch.setattr(deploy, "steps", lambda *_, **__: [Step("a step", ("echo", "ran"))])
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert deploy.main() == 3
    told = capfd.readouterr()
    assert "gcloud and bash cannot be found" in told.err
    assert "ran" not in told.out
    monkeypatch.setattr("shutil.which", lambda name: name)
    assert deploy.main() == 0
    assert "ran\nDeployed." in capfd.readouterr().out


def test_unasked() -> None:
    """Who does not want to be asked is told that the Firebase CLI then removes things."""
    assert "--force" in steps("my-project", unasked=True)[1].command
    assert "REMOVES" in plan("my-project", unasked=True)
    assert "REMOVES" not in plan("my-project")


def test_a_step_that_fails_is_the_last(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its code is the whole's, and it is told that the same command goes on."""
    after = tmp_path / "after"
    every = [
        Step("first", ("true",)),
        Step("second", ("bash", "-c", "exit 7")),
        Step("third", ("touch", str(after))),
    ]
    assert run(every) == 7
    assert not after.exists()
    assert "Step 2, second, failed (code 7)" in capfd.readouterr().err
