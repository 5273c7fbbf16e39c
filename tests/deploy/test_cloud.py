"""What `make deploy` does besides the Firebase CLI: what it says, asks, runs and prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tools import deploy
from tools.cloud import BEFORE, endpoints, problem, script
from tools.deploy import Step, plan, run, steps
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


def asked(
    tmp_path: Path,
    when: str,
    *,
    absent: bool = False,
    fails: str = "",
    database: str = "FIRESTORE_NATIVE",
) -> list[list[str]]:
    """Run a script with a `gcloud` that does nothing; give what it was asked for.

    With `absent` it finds nothing that it is asked to describe; what holds `fails` does not work.
    """
    calls = tmp_path / "calls"
    calls.write_text("")
    stand_in = tmp_path / "gcloud"
    stand_in.write_text(
        f"""#!{sys.executable}
import json, pathlib, sys
line = " ".join(sys.argv[1:])
with pathlib.Path({str(calls)!r}).open("a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
wanted = next((each for each in sys.argv if each.startswith("--format=value")), "")
if {absent!r} and " describe " in line and not wanted or {fails!r} and {fails!r} in line:
    sys.exit(1)
if "projectNumber" in wanted:
    print(123)
elif wanted.endswith("(type)"):
    print({database!r})
elif wanted:
    print("of-" + sys.argv[sys.argv.index("describe") + 1])
"""
    )
    stand_in.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script(when, "my-project", pause_seconds=0)], env=environment, check=False
    )
    assert bool(done.returncode) == (bool(fails) or database != "FIRESTORE_NATIVE")
    return [json.loads(line) for line in calls.read_text().splitlines()]


def granted(calls: list[list[str]]) -> set[tuple[str, str, str]]:
    """Give who was given which role on what."""
    found = set()
    for call in calls:
        options = dict(each[2:].partition("=")[::2] for each in call if each.startswith("--"))
        if any(each.startswith("add-") for each in call):
            resource = call[call.index(next(e for e in call if e.startswith("add-"))) + 1]
            member = options["member"].removeprefix("serviceAccount:").partition("@")[0]
            found.add((member, options.get("role", "invoker"), resource))
    return found


def test_before(tmp_path: Path) -> None:
    """Each account gets just the roles that it needs, on just what it needs them for."""
    calls = asked(tmp_path, "before", absent=True)
    assert granted(calls) == {
        ("firestate-functions", "roles/datastore.user", "my-project"),
        ("firestate-functions", "roles/eventarc.eventReceiver", "my-project"),
        ("firestate-agents", "roles/datastore.viewer", "my-project"),
        ("firestate-agents", "roles/pubsub.publisher", "agent-state"),
        ("firestate-agents", "roles/pubsub.publisher", "agent-coordination"),
        ("123-compute", "roles/cloudbuild.builds.builder", "my-project"),
    }
    made = {tuple(call[:4]) for call in calls if "create" in call}
    triggers = [each.get("eventTrigger", {}) for each in endpoints().values()]
    topics = {each.get("eventFilters", {}).get("topic") for each in triggers} - {None}
    assert made == {
        ("firestore", "databases", "create", "--location=us-central1"),
        *(("pubsub", "topics", "create", topic) for topic in topics),
        *(
            ("iam", "service-accounts", "create", account)
            for account in ("firestate-functions", "firestate-agents")
        ),
    }
    accounts = {each["serviceAccount"].partition("@")[0] for each in endpoints().values()}
    assert accounts == {"firestate-functions"}


def test_before_again(tmp_path: Path) -> None:
    """What is there is not made again."""
    calls = asked(tmp_path, "before")
    assert [call for call in calls if "create" in call] == []
    assert len(granted(calls)) == 6


def test_what_fails_ends_a_script(tmp_path: Path) -> None:
    """Nothing after it is done; a role is tried again, since a new account takes a moment."""
    calls = asked(tmp_path, "before", fails="topics create agent-coordination", absent=True)
    assert calls[-1][:4] == ["pubsub", "topics", "create", "agent-coordination"]
    calls = asked(tmp_path, "before", database="DATASTORE_MODE")
    assert calls[-1][:3] == ["firestore", "databases", "describe"]
    calls = asked(tmp_path, "before", fails="datastore.user")
    assert ["datastore.user" in " ".join(call) for call in calls[-6:]] == [True] * 6
    assert granted(calls) == {("firestate-functions", "roles/datastore.user", "my-project")}


def test_after(tmp_path: Path) -> None:
    """Each function is called by its own account alone; its messages are kept until it works."""
    calls = asked(tmp_path, "after")
    names = [name for name, each in endpoints().items() if "eventTrigger" in each]
    ingest = {
        "ingest_state": "agent-state-dead-letter",
        "ingest_event": "agent-coordination-dead-letter",
    }
    # The stand-in names a trigger after its function, and a subscription after its trigger.
    assert granted(calls) == {
        *(("firestate-functions", "invoker", name) for name in names),
        *(("service-123", "roles/pubsub.publisher", topic) for topic in ingest.values()),
        *(("service-123", "roles/pubsub.subscriber", f"of-of-{name}") for name in ingest),
    }
    updates: dict[str, set[str]] = {}
    for call in calls:
        if call[:3] == ["pubsub", "subscriptions", "update"]:
            updates.setdefault(call[3], set()).update(call[4:])
    assert updates.keys() == {f"of-of-{name}" for name in names}
    for name in names:
        seconds = endpoints()[name]["timeoutSeconds"] + 30
        wanted = {
            f"--ack-deadline={seconds}",
            "--min-retry-delay=10s",
            "--max-retry-delay=600s",
            "--message-retention-duration=7d",
            "--expiration-period=never",
        }
        if name in ingest:
            wanted |= {f"--dead-letter-topic={ingest[name]}", "--max-delivery-attempts=100"}
        assert updates[f"of-of-{name}"] == wanted


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
    done = subprocess.run([*command, "-h"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "before PROJECT" in done.stdout


@pytest.mark.parametrize("value", ["no", "0", "yes"])
def test_only_one_word_is_a_yes(value: str) -> None:
    """What might mean no is not taken for a yes, nor is a variable of the environment."""
    command = ["make", "-n", "deploy", "PROJECT=my-project"]
    done = subprocess.run(
        ["make", "deploy", "PROJECT=my-project", f"YES={value}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "YES=1 asks nothing" in done.stderr
    environment = os.environ | {"YES": "1"}
    dry = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert "--yes" not in dry.stdout


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
    (tmp_path / "gcloud").symlink_to("/bin/false")
    done = subprocess.run(
        [sys.executable, "-m", "tools.deploy", "my-project"],
        cwd=ROOT,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        input=answer,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "REPLACE" in done.stdout
    assert "[1/" not in done.stdout
    assert done.stderr == "That is not my-project: nothing was done.\n"


@pytest.mark.parametrize("project", ["", "demo-x", "My-Project", "a b", "x; rm -rf /", "-p", "abc"])
def test_what_is_no_project(project: str) -> None:
    """It is refused before anything is said."""
    assert problem(project)
    for module, arguments in (("deploy", ["--", project]), ("cloud", ["before", project])):
        done = subprocess.run(
            [sys.executable, "-m", f"tools.{module}", *arguments],
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
