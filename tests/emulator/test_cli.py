"""The commands that show what is stored, also where it is damaged or odd."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from firestate.schema.ids import CONTROLS
from firestate.schema.messages import EVENT_TOPIC
from firestate.stores.protocol import Create, Remove, Update
from tests.harness import (
    NOW,
    Pipeline,
    event_message,
    state_message,
    task,
    tombstone_message,
)

if TYPE_CHECKING:
    from pathlib import Path

    from firestate.client.outgoing import Outgoing
    from firestate.stores.firestore import FirestoreStore
    from tests.conftest import Run


def test_nothing_stored_yet(run: Run) -> None:
    """It says so, and what to do."""
    code, _, err = run("system")
    assert code == 1
    assert "nothing is stored yet" in err
    for command in ("agents", "events", "memory"):
        assert run(command, "--json")[:2] == (0, "[]\n")
    assert run("audit")[0] == 0


def test_deleted_agents_are_no_agents(run: Run, store: FirestoreStore) -> None:
    """They are not listed, and take no place from those that live."""
    pipeline = Pipeline(store)
    for number in range(3):
        pipeline.send(state_message(1, agent_id=f"gone-{number}"))
        pipeline.send(tombstone_message(2, agent_id=f"gone-{number}"))
    pipeline.send(state_message(1, agent_id="zoe", current_task="fix [/tmp/x] [red]now"))
    _, out, _ = run("agents", "--limit", "2")
    assert "zoe" in out
    assert "gone" not in out
    assert "fix [/tmp/x] [red]now" in out
    (agent,) = json.loads(run("agents", "--limit", "1", "--json")[1])
    assert agent["agent_id"] == "zoe"
    assert agent["child_agent_ids"] == []


def test_sessions_that_ended_long_ago_are_cleaned_up(run: Run, store: FirestoreStore) -> None:
    """In the cloud as on one machine; who lives stays."""
    pipeline = Pipeline(store)
    at = (NOW - timedelta(days=9)).isoformat()
    for name, status in (("ended", "terminated"), ("living", "idle")):
        pipeline.send(state_message(1, agent_id=name, status=status, last_active=at))
    arguments = ("clean-up", "--older-than-days", "7")
    assert json.loads(run(*arguments, "--dry-run", "--json")[1])["found"] == 1
    assert run(*arguments, "--yes")[:2] == (0, "1 deleted.\n")
    (left,) = json.loads(run("agents", "--json")[1])
    assert left["agent_id"] == "living"


def test_a_damaged_document_is_named_and_left_out(run: Run, store: FirestoreStore) -> None:
    """The others are shown all the same."""
    pipeline = Pipeline(store)
    path = pipeline.send(state_message(1, agent_id="bad")).document
    pipeline.send(state_message(1, agent_id="good"))
    stored = store.read(path)
    assert stored is not None
    store.commit([Update(path, stored.token, {"created_at": 7})])
    code, out, err = run("agents")
    assert code == 0
    assert "good" in out
    assert err == (
        f"firestate: {path} cannot be read: created_at: must be an ISO 8601 time, not int\n"
    )


def test_damaged_controls(run: Run, store: FirestoreStore) -> None:
    """A setting of the wrong type is one line that names it, with an exit code of its own."""
    pipeline = Pipeline(store)
    store.commit([Create(CONTROLS, {"feature_flags": {"new": "on"}})])
    pipeline.send(state_message(1))
    pipeline.settle()
    pipeline.fold()
    for more in ((), ("--json",)):
        code, _, err = run("system", *more)
        assert code == 3
        assert "system_state/global_config cannot be read: feature_flags.new" in err
        assert len(err.splitlines()) == 1


def test_an_emergency_is_told(run: Run, store: FirestoreStore) -> None:
    """Whoever looks at the system sees that it was stopped, and why."""
    pipeline = Pipeline(store)
    store.commit([Create(CONTROLS, {"emergency_stop": True, "emergency_reason": "[fire]"})])
    pipeline.send(state_message(1))
    pipeline.settle()
    pipeline.fold()
    assert "EMERGENCY STOP: [fire]" in run("system")[1]
    assert json.loads(run("system", "--json")[1])["emergency_stop"] is True


def test_audit_finds_repairs_and_is_content(run: Run, store: FirestoreStore) -> None:
    """Exit code 1 as long as there was drift, 0 once there is none."""
    pipeline = Pipeline(store)
    pipeline.send(state_message(1, task_history=[task(1)]))
    pipeline.send(event_message("e1"))
    pipeline.settle()
    pipeline.fold()
    assert run("audit", "--grace", "0")[0] == 0
    memory = store.read("agent_memory/Developer_a_1")
    assert memory is not None
    store.commit([Remove(memory.path, memory.token)])
    code, out, _ = run("audit", "--grace", "0", "--json")
    assert code == 1
    assert json.loads(out)["drift"] == 1
    code, out, _ = run("audit", "--grace", "0", "--repair")
    assert code == 1
    assert "1 repaired" in out
    assert run("audit", "--grace", "0")[0] == 0
    code, out, _ = run("memory", "Developer_a_1", "--json")
    assert json.loads(out)["learning_context"]["coordination"]["total"] == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "hold no message"),
        ('{"history": [{"role": 5}]}', "is no message"),
        ('{"history": [{"name": null}]}', "is no message"),
        ('{"history": [{"name": "a"}], "mistake_agent": "a", "mistake_step": "x"}', "cannot be"),
        ("[" * 100_000, "is not JSON"),
        ('{"event": ', "is not JSON"),
        ('{"topic": "elsewhere", "raw": "x"}', "is no message"),
    ],
)
def test_what_cannot_be_replayed(run: Run, tmp_path: Path, text: str, reason: str) -> None:
    """It is one line that names the file and the reason, and nothing is sent."""
    path = tmp_path / "run.jsonl"
    path.write_text(text)
    code, out, err = run("replay", str(path))
    assert code == 3
    assert out == ""
    assert reason in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["memory", "a/b_c"],
        ["memory", ""],
        ["memory", "x" * 2_000],
        ["agents", "--limit", "100000000000"],
        ["audit", "--grace", "1e20"],
        ["audit", "--project", ""],
        ["nonsense"],
    ],
)
def test_what_is_not_understood(run: Run, arguments: list[str]) -> None:
    """Exit code 2, no traceback, and no page of what was typed."""
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert 0 < len(err) < 1_200


@pytest.mark.parametrize("command", ["system", "agents", "events", "memory", "audit", "rederive"])
def test_no_emulator_there(run: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """It is said at once, with what to do."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")
    code, _, err = run(command)
    assert code == 3
    assert "such as by `make emulators`" in err


def test_version_and_help(run: Run) -> None:
    """Both end well."""
    assert run("--version")[:2] == (0, "firestate 0.1.0\n")
    assert "replay" in run("--help")[1]


class LossyPublisher:
    """Delivers to the pipeline in this process; some messages only when they are sent again."""

    def __init__(self, store: FirestoreStore, lost: int) -> None:
        self._pipeline = Pipeline(store)
        self._to_lose = lost
        self.sent: Counter[bytes] = Counter()

    def publish(self, message: Outgoing) -> None:
        self.sent[message.data] += 1
        first_time, under_way = self.sent[message.data] == 1, self.sent.total() > 30
        if self._to_lose and message.topic == EVENT_TOPIC and first_time and under_way:
            self._to_lose -= 1
            return
        self._pipeline.send(message)
        self._pipeline.settle()

    def flush(self) -> None:
        self._pipeline.fold()


def test_the_demo_sends_again_what_was_lost(
    run: Run, store: FirestoreStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Pub/Sub would; it says so, and then everything is accounted for."""
    publisher = LossyPublisher(store, lost=3)
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "stands in for one")
    monkeypatch.setattr("firestate.cli.demo.open_publisher", lambda *_: publisher)
    monkeypatch.setattr("firestate.cli.demo._PATIENCE_SECONDS", 4.0)
    code, out, _ = run("demo", "--rate", "1000")
    assert code == 0, out
    assert "lost 3 messages" in out
    assert "0 drift" in out
