"""What `make deploy` does besides the Firebase CLI: what it says, asks, runs and prints."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tools import deploy
from tools.cloud import BEFORE, DEAD_LETTERS, endpoints, script
from tools.deploy import Step, plan, problem, run, steps
from tools.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_scripts_are_shell(when: str) -> None:
    """Bash can read them, and nothing is left to fill in."""
    text = script(when, "my-project")
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert "set -euo pipefail" in text
    assert "%" not in text.replace("%%", "")


def test_before() -> None:
    """The functions' account gets two roles on the project, the agents' one, and two topics."""
    text = script("before", "my-project")
    roles = set(re.findall(r"roles/[\w.]+", text))
    assert roles == {
        "roles/datastore.user",
        "roles/eventarc.eventReceiver",
        "roles/datastore.viewer",
        "roles/pubsub.publisher",
    }
    accounts = {each["serviceAccount"].partition("@")[0] for each in endpoints().values()}
    assert accounts == {"firestate-functions"}
    topics = {
        each.get("eventTrigger", {}).get("eventFilters", {}).get("topic")
        for each in endpoints().values()
    }
    assert topics - {None} == {*DEAD_LETTERS, *DEAD_LETTERS.values()}
    assert all(topic in text for topic in topics if topic)
    assert "allUsers" not in text


def test_after() -> None:
    """Each function that takes events is set up; those of messages have a dead-letter topic."""
    lines = [
        line for line in script("after", "my-project").splitlines() if line[:10] == "configure "
    ]
    assert [line.split()[1:] for line in lines] == [
        ["ingest_state", "90", "agent-state-dead-letter"],
        ["ingest_event", "90", "agent-coordination-dead-letter"],
        *(
            [name, "90"]
            for name in (
                "dead_letter_states",
                "dead_letter_events",
                "derive_state",
                "derive_event",
                "roll_up_shards",
                "roll_up_controls",
            )
        ),
    ]
    assert all(
        int(line.split()[2]) > endpoints()[line.split()[1]]["timeoutSeconds"] for line in lines
    )


def test_each_is_printed() -> None:
    """By a command of its own, which tells how it is used where it is used otherwise."""
    command = [sys.executable, "-m", "tools.cloud"]
    done = subprocess.run(
        [*command, "before", "my-project"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == script("before", "my-project")
    assert done.stdout.startswith(BEFORE.template[:19])
    wrong = subprocess.run([*command, "x"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "before PROJECT" in wrong.stderr


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
def test_nothing_is_begun_unless_the_project_is_named(answer: str) -> None:
    """A yes is not enough, and neither is no answer at all."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.deploy", "my-project"],
        cwd=ROOT,
        input=answer,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "REPLACE" in done.stdout
    assert "[1/" not in done.stdout
    assert done.stderr == "Nothing was done.\n"


@pytest.mark.parametrize("project", ["", "demo-x", "My-Project", "a b", "x; rm -rf /", "-p", "abc"])
def test_what_is_no_project(project: str) -> None:
    """It is refused before anything is said."""
    assert problem(project)
    done = subprocess.run(
        [sys.executable, "-m", "tools.deploy", "--", project],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
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
    monkeypatch.setattr(sys, "argv", ["deploy", "my-project"])
    monkeypatch.setattr("builtins.input", lambda _: "my-project")
    monkeypatch.setattr(deploy, "steps", lambda _: [Step("a step", ("echo", "ran"))])
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert deploy.main() == 3
    told = capfd.readouterr()
    assert "gcloud and bash cannot be found" in told.err
    assert "ran" not in told.out
    monkeypatch.setattr("shutil.which", lambda name: name)
    assert deploy.main() == 0
    assert "ran\nDeployed." in capfd.readouterr().out


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
