"""Logs hold ids and outcomes: no payload, no attribute, no token, whatever happens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import functions_framework
import pytest

from firestate.pipeline import wiring
from tests.emulator.function_requests import event_headers, event_of, push_body
from tests.emulator.test_functions import FUNCTIONS
from tests.harness import event_message, state_message, task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from firestate.stores.firestore import FirestoreStore

PAYLOAD, TOKEN = "payload-of-a-user", "token-of-a-caller"
FIELDS: dict[str, Any] = {
    "memory_context": {PAYLOAD: {"type": PAYLOAD, "text": PAYLOAD}},
    "task_history": [task(1, kind=PAYLOAD, tool=PAYLOAD, task_id=PAYLOAD, result=PAYLOAD)],
    "performance_metrics": {PAYLOAD: 1.0},
    "agent_config": {"key": PAYLOAD},
    "tools_enabled": [PAYLOAD],
    "current_task": PAYLOAD,
    "collaboration_context": {"with": PAYLOAD},
}
EVENT: dict[str, Any] = {
    "success": False,
    "error_message": PAYLOAD,
    "context": {"error_type": PAYLOAD},
    "task_context": {PAYLOAD: PAYLOAD},
}


@pytest.fixture(autouse=True)
def own_store(store: FirestoreStore) -> Iterator[None]:
    del store
    wiring.store.cache_clear()
    wiring.roll_up.cache_clear()
    yield
    wiring.store.cache_clear()
    wiring.roll_up.cache_clear()


def call(target: str, content: Any, kind: str = "message") -> int:
    """Call an entry point as Cloud Run does, with the caller's token; give the status."""
    body = content if kind != "message" else json.dumps(push_body(content, secret=PAYLOAD)).encode()
    signature = "http" if target == "sweep" else "cloudevent"
    app = functions_framework.create_app(target, str(FUNCTIONS / "main.py"), signature)
    headers = event_headers(kind) | {"Authorization": f"Bearer {TOKEN}", "X-Token": TOKEN}
    status: int = app.test_client().post("/", data=body, headers=headers).status_code
    return status


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Give all that was written, and what the web server logs, and check both."""
    return lambda: checked(capfd, caplog)


def checked(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> str:
    told = capfd.readouterr()
    text = told.out + told.err + caplog.text
    assert PAYLOAD not in text
    assert TOKEN not in text
    return text


def test_all_that_can_become_of_messages(store: FirestoreStore, said: Callable[[], str]) -> None:
    """Stored, counted, duplicate, in conflict, refused for each reason, given up."""
    good = state_message(1, **FIELDS)
    for message in (good, good, state_message(1, **FIELDS | {"current_task": PAYLOAD + "!"})):
        assert call("ingest_state", json.dumps(message).encode()) == 200
    refused = [
        f'{{"state": "{PAYLOAD}"'.encode(),
        f'{{"{PAYLOAD}": NaN}}'.encode(),
        json.dumps(state_message(2, **FIELDS | {"status": PAYLOAD})).encode(),
        json.dumps(state_message(2, **FIELDS | {PAYLOAD: PAYLOAD})).encode(),
        json.dumps(state_message(2, memory_context={"text": PAYLOAD * 100_000})).encode(),
        PAYLOAD.encode() + b"\xff",
    ]
    for data in refused:
        assert call("ingest_state", data) == 200
    assert call("ingest_event", json.dumps(event_message("e1", **EVENT)).encode()) == 200
    assert call("dead_letter_states", json.dumps(good).encode()) == 200
    (state,) = store._client.collection("agent_states").list_documents()
    (event,) = store._client.collection("coordination").list_documents()
    assert call("derive_state", event_of(store, state.path), "written") == 200
    assert call("derive_event", event_of(store, event.path), "created") == 200
    assert call("sweep", b"", "written") == 200
    lines = [json.loads(line) for line in said().splitlines() if line.startswith("{")]
    outcomes = [line["outcome"] for line in lines]
    assert outcomes == [
        *("stored", "duplicate", "quarantined"),
        *["quarantined"] * len(refused),
        *("stored", "quarantined", "counted", "counted", "swept"),
    ]


def test_a_fault_of_the_store(monkeypatch: pytest.MonkeyPatch, said: Callable[[], str]) -> None:
    """It is told what cannot be reached, and what raised it; the message comes again."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setattr("google.api_core.retry.Retry.__call__", lambda _, function: function)
    assert call("ingest_state", json.dumps(state_message(1, **FIELDS)).encode()) == 500
    assert "raised, will be tried again: UnavailableError" in said()


def test_a_damaged_memory(
    store: FirestoreStore, monkeypatch: pytest.MonkeyPatch, said: Callable[[], str]
) -> None:
    """What our own errors were made of is not told either: it may name a word of users."""
    call("ingest_state", json.dumps(state_message(1, **FIELDS)).encode())
    (state,) = store._client.collection("agent_states").list_documents()

    def broken(*_: object) -> None:
        raise KeyError(PAYLOAD)

    monkeypatch.setattr("firestate.pipeline.derive_state.parts_of", broken)
    assert call("derive_state", event_of(store, state.path), "written") == 500
    text = said()
    assert "is damaged: KeyError at test_logs.py" in text
    assert "Traceback" in text


def test_a_fault_that_nobody_thought_of(
    monkeypatch: pytest.MonkeyPatch, said: Callable[[], str]
) -> None:
    """Its text may quote what was being worked on: the type is told, and where it was raised."""

    def broken(*_: object, **__: object) -> None:
        raise ValueError(f"cannot work with {PAYLOAD}")

    monkeypatch.setattr("firestate.pipeline.ingest_state.decide_state", broken)
    assert call("ingest_state", json.dumps(state_message(1, **FIELDS)).encode()) == 500
    text = said()
    assert "Traceback" in text
    (line,) = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert line["detail"] == "ValueError"
    assert "ingest_state.py" in line["raised_at"]
    assert "broken" in line["raised_at"]
