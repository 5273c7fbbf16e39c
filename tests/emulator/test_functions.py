"""The deployed entry points, called as Cloud Functions calls them."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import functions_framework
import pytest

from firestate.ingest.refusal import quarantine_id
from firestate.operations.quarantined_messages import read_quarantined
from firestate.operations.republish_quarantined import as_published
from firestate.pipeline import wiring
from firestate.schema.messages import (
    EVENT_TOPIC,
    STATE_TOPIC,
)
from tests.emulator.function_requests import event_headers, event_of, push_body
from tests.harness import Pipeline, event_message, state_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firestate.stores.firestore import FirestoreStore

FUNCTIONS = Path(__file__).parents[2] / "functions"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def own_store(store: FirestoreStore) -> Iterator[FirestoreStore]:
    wiring.store.cache_clear()
    wiring.roll_up.cache_clear()
    yield store
    wiring.store.cache_clear()
    wiring.roll_up.cache_clear()


def client(target: str) -> Any:
    kind = "http" if target == "sweep" else "cloudevent"
    return functions_framework.create_app(target, str(FUNCTIONS / "main.py"), kind).test_client()


def push(target: str, data: bytes, **attributes: str) -> int:
    """Deliver a Pub/Sub message as a push subscription does."""
    answer = client(target).post("/projects/p/topics/t", json=push_body(data, **attributes))
    status: int = answer.status_code
    return status


def event(target: str, data: bytes, kind: str = "written") -> int:
    """Deliver a Firestore event in binary mode, as Eventarc does."""
    answer = client(target).post("/", data=data, headers=event_headers(kind))
    status: int = answer.status_code
    return status


def test_a_message_goes_all_the_way(own_store: FirestoreStore, capsys: Any) -> None:
    """A state and an event come in as messages and come out as counters."""
    assert push("ingest_state", json.dumps(state_message(1)).encode(), traceparent=TRACE) == 200
    assert push("ingest_event", json.dumps(event_message("e1")).encode()) == 200
    (state,) = own_store._client.collection("agent_states").list_documents()
    (happened,) = own_store._client.collection("coordination").list_documents()
    assert event("derive_state", event_of(own_store, state.path)) == 200
    assert event("derive_event", event_of(own_store, happened.path), "created") == 200
    shards = [
        each.path
        for each in own_store._client.collection(
            "system_state/global_config/shards"
        ).list_documents()
    ]
    assert event("roll_up", event_of(own_store, shards[0])) == 200
    stored = own_store.read("system_state/global_config")
    assert stored is not None
    assert stored.data["total_agents_spawned"] == 1
    assert stored.data["system_metrics"]["coordination"]["total"] == 1
    assert Pipeline(own_store).audit().findings == []

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["outcome"] for line in lines] == [
        "stored",
        "stored",
        "counted",
        "counted",
        "folded",
    ]
    assert lines[0]["logging.googleapis.com/trace"].endswith(TRACE.split("-")[1])
    assert {"severity", "message", "document", "latency_ms"} <= lines[0].keys()


@pytest.mark.parametrize(
    "data", [b"", b"no json", b"\xff", b"[]", b"{}", b'{"state": 1}', b"[" * 100_000]
)
@pytest.mark.parametrize("target", ["ingest_state", "ingest_event"])
def test_bad_messages_are_acknowledged(own_store: FirestoreStore, target: str, data: bytes) -> None:
    """What can never succeed is kept in quarantine with its bytes, and is acknowledged."""
    assert push(target, data, origin="kept") == 200
    (refused,) = own_store._client.collection("quarantine").stream()
    kept = refused.to_dict() or {}
    assert kept["size"] == len(data)
    assert kept["errors"][0]["field"]
    assert kept["attributes"] == [{"name": "origin", "value": "kept"}]
    parts = refused.reference.collection("parts").order_by("__name__").stream()
    assert b"".join((part.to_dict() or {})["data"] for part in parts) == data


def test_a_body_that_is_no_message(own_store: FirestoreStore) -> None:
    """Malformed JSON in the request itself is kept as it came, and is acknowledged."""
    headers = {
        "ce-id": "1",
        "ce-specversion": "1.0",
        "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
        "ce-source": "//pubsub.googleapis.com/projects/p/topics/t",
        "content-type": "application/json",
    }
    answer = client("ingest_state").post("/", data=b'{"message": {"data"', headers=headers)
    assert answer.status_code == 200
    (refused,) = own_store._client.collection("quarantine").stream()
    assert (refused.to_dict() or {})["size"] == len(b'{"message": {"data"')


@pytest.mark.parametrize("kind", ["state", "event"])
def test_what_pubsub_gave_up(own_store: FirestoreStore, kind: str) -> None:
    """It is kept under the topic it was published to; the same again only raises the count."""
    data = json.dumps(state_message(1) if kind == "state" else event_message("e1")).encode()
    attributes = {
        "origin": "kept",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": "eventarc-1",
    }
    for _ in range(2):
        assert push(f"dead_letter_{kind}s", data, **attributes) == 200
    topic = {"state": STATE_TOPIC, "event": EVENT_TOPIC}[kind]
    kept = read_quarantined(own_store, quarantine_id(topic, data))
    assert kept is not None
    assert kept.data == data
    assert (kept.document.topic, kept.document.code) == (topic, "dead_letter")
    assert (kept.document.deliveries, kept.document.waiting) == (2, True)
    assert "5 times (subscription eventarc-1)" in kept.document.errors[0].reason
    assert {each.name: each.value for each in kept.document.attributes} == attributes
    assert as_published(kept).attributes == {"origin": "kept"}
    # Refused once already, it keeps the reason that it was refused for.
    assert push(f"ingest_{kind}", b"nonsense") == 200
    assert push(f"dead_letter_{kind}s", b"nonsense", **attributes) == 200
    refused = read_quarantined(own_store, quarantine_id(topic, b"nonsense"))
    assert refused is not None
    assert (refused.document.code, refused.document.deliveries) == ("json", 2)


def test_garbage_is_collected_again(own_store: FirestoreStore) -> None:
    """Loading goes without; from the first event on, answered or failed, it is as ever."""
    del own_store
    app = client("ingest_event")
    assert not gc.isenabled()
    del app
    assert push("ingest_event", json.dumps(event_message("e1")).encode()) == 200
    assert gc.isenabled()


def test_a_removed_state_changes_nothing(own_store: FirestoreStore) -> None:
    """The trigger of a removal is taken and ignored."""
    assert event("derive_state", b"") == 200
    assert list(own_store._client.collections()) == []


def test_a_passing_fault_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that cannot be reached makes the call fail, so that it is tried again."""
    from firestate.errors import UnavailableError  # noqa: PLC0415 - used here alone

    def fail(*_: object, **__: object) -> None:
        message = "agent_states/x: cannot be reached"
        raise UnavailableError(message)

    monkeypatch.setattr("firestate.stores.firestore.FirestoreStore.read", fail)
    assert push("ingest_state", json.dumps(state_message(1)).encode()) == 500


def test_sweep(own_store: FirestoreStore) -> None:
    """The sweep counts stale agents and quarantine, and takes ended sessions out of the shards."""
    pipeline = Pipeline(own_store)
    long_ago = "2026-01-01T00:00:00Z"
    pipeline.send(state_message(1, status="busy", last_active=long_ago))
    pipeline.send(state_message(1, session_id="s2", status="terminated", last_active=long_ago))
    pipeline.send(state_message(1, session_id="s3"))
    pipeline.send(state_message(2, session_id="s3", status="terminated"))
    pipeline.send({"state": {}})
    pipeline.settle()
    assert client("sweep").post("/").status_code == 200
    stored = own_store.read("system_state/global_config")
    assert stored is not None
    assert stored.data["system_metrics"]["stale_agent_count"] == 1
    assert stored.data["system_metrics"]["quarantine_count"] == 1
    assert stored.data["active_sessions"] == ["s1"]
    sessions: dict[str, Any] = {}
    for shard in own_store._client.collection("system_state/global_config/shards").stream():
        sessions |= (shard.to_dict() or {}).get("sessions", {})
    assert sessions.keys() == {"s1"}
    assert pipeline.audit().findings == []
