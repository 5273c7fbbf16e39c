"""The gcloud lines around a deploy: who gets which role on what, and how events are delivered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.deploy.commands import tool
from tools.cloud import endpoints, script

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
    assert tool("cloud", "before", "my-project").stdout == script("before", "my-project")
    wrong = tool("cloud", "x")
    assert wrong.returncode == 2
    assert "before PROJECT" in wrong.stderr
    asked_for = tool("cloud", "-h")
    assert asked_for.returncode == 0
    assert "before PROJECT" in asked_for.stdout
