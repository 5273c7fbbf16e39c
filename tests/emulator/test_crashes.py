"""A crash before or after every single call of the store, and the end is the same."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from google.cloud import firestore

from firestate.errors import ConflictError
from firestate.stores.firestore import FirestoreStore
from tests.harness import (
    CrashingStore,
    Pipeline,
    event_message,
    everything,
    state_message,
    task,
    tombstone_message,
)

if TYPE_CHECKING:
    from firestate.client.outgoing import Outgoing

STORY: list[dict[str, Any]] = [
    state_message(1),
    state_message(2, status="busy", task_history=[task(1)]),
    event_message("e1", "spawn", duration_seconds=0.25),
    state_message(2, status="busy", task_history=[task(1)]),
    event_message("e2", success=False, context={"error_type": "Timeout"}),
    state_message(3, status="busy", task_history=[task(1), task(2, "failed")]),
    event_message("e1", "spawn", duration_seconds=0.25),
    state_message(4, status="terminated", task_history=[task(1), task(2, "failed")]),
    state_message(1, session_id="s2", status="active"),
    tombstone_message(5),
    {"state": "nonsense"},
]


def play(store: Any, story: list[dict[str, Any] | Outgoing]) -> Pipeline:
    pipeline = Pipeline(store)
    for message in story:
        pipeline.send(message)
        pipeline.settle()
    pipeline.fold()
    return pipeline


@pytest.fixture(scope="module")
def fresh_store(firestore_host: str) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRESTORE_EMULATOR_HOST", firestore_host)
        yield lambda: FirestoreStore(firestore.Client(project=f"demo-{uuid.uuid4().hex[:12]}"))


def test_any_crash_leaves_the_same_end(fresh_store: Any) -> None:
    """Wherever a function's process ends, the redelivery brings about the same documents."""
    undisturbed = CrashingStore(fresh_store())
    play(undisturbed, list(STORY))
    calls = undisturbed.calls
    expected = everything(undisturbed)
    assert expected["system_state/global_config"]["total_agents_spawned"] == 2
    assert expected["system_state/global_config"]["current_agent_count"] == 1

    assert calls > 40
    for after in (False, True):
        for at in range(calls):
            store = CrashingStore(fresh_store(), at, after=after)
            pipeline = play(store, list(STORY))
            assert pipeline.crashes == 1, (at, after)
            assert pipeline.audit().findings == [], (at, after)
            assert everything(store) == expected, (at, after)


def test_any_refused_commit_is_tried_again(fresh_store: Any) -> None:
    """A commit that lost a race, or was aborted, says nothing of what is stored: same end."""
    undisturbed = CrashingStore(fresh_store())
    play(undisturbed, list(STORY))
    expected = everything(undisturbed)
    assert len(undisturbed.commits) > 15
    for at in undisturbed.commits:
        store = CrashingStore(fresh_store(), at, fault=ConflictError)
        pipeline = play(store, list(STORY))
        assert pipeline.audit().findings == [], at
        assert everything(store) == expected, at
