"""Shards that are full: every accepted message is counted all the same, and exactly."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from firestate.audit.full import FullAudit
from firestate.client.outgoing import outgoing
from firestate.errors import RefusedError
from firestate.limits import MAX_DOCUMENT_BYTES, SHARDS
from firestate.pipeline.shard_audit import cheap_audit
from firestate.pipeline.shard_overflow import shard_with_room
from firestate.schema.ids import GLOBAL_CONFIG, SESSIONS, shard_path
from firestate.schema.ids import SHARDS as ALL_SHARDS
from firestate.schema.values import stored_size
from firestate.stores.protocol import Add, Query, Remove
from tests.harness import event_message, state_message, task

if TYPE_CHECKING:
    from firestate.local.engine import LocalEngine

WIDE = 1_000
ROOM = MAX_DOCUMENT_BYTES - 100


def fill(engine: LocalEngine) -> None:
    """Leave no room in any of the eight shards, without counting anything."""
    for number in range(SHARDS):
        known = engine.store.read(shard_path(number))
        room = ROOM - stored_size(known.data if known else {})
        names = [f"{n:0{WIDE}}" for n in range(room // (WIDE + 9))]
        names.append("0" * (room % (WIDE + 9)))
        engine.store.commit([Add(shard_path(number), {"filler": dict.fromkeys(names, 0)})])
    for shard in engine.store.query(Query(ALL_SHARDS)):
        assert stored_size(shard.data) > MAX_DOCUMENT_BYTES - 200


@pytest.fixture
def full(engine: LocalEngine) -> LocalEngine:
    fill(engine)
    return engine


def test_new_words_and_sessions_find_room(full: LocalEngine) -> None:
    """What does not fit into its shard is counted in another; sums and audits see no difference."""
    for number in range(20):
        context = {"error_type": f"new-{number}"}
        full.publish(outgoing(event_message(f"e{number}", success=False, context=context)))
        full.publish(outgoing(state_message(1, session_id=f"s{number}", task_history=[task(1)])))
    full.settle()
    stored = full.store.read(GLOBAL_CONFIG)
    assert stored is not None
    assert stored.data["total_agents_spawned"] == 20
    assert len(stored.data["active_sessions"]) == 20
    assert stored.data["system_metrics"]["tasks"]["completed"] == 20
    assert sum(stored.data["error_counts"]["by_error_type"].values()) == 20
    assert FullAudit(full.store, timedelta(0)).run().findings == []
    rows = full.store.query(Query(SESSIONS, group=True))
    assert all(row.data["shard"] >= SHARDS for row in rows)


def test_a_row_moves_when_its_own_shard_is_full(engine: LocalEngine) -> None:
    """A session that comes back after its entry was compacted takes its counts along."""
    engine.publish(outgoing(state_message(1, status="terminated", task_history=[task(1)])))
    engine.settle()
    (row,) = engine.store.query(Query(SESSIONS, group=True))
    shard = engine.store.read(shard_path(row.data["shard"]))
    assert shard is not None
    engine.store.commit([Remove(shard.path, shard.token, [("sessions", "s1")])])
    fill(engine)
    engine.publish(outgoing(state_message(2, status="busy", task_history=[task(1), task(2)])))
    engine.settle()
    (moved,) = engine.store.query(Query(SESSIONS, group=True))
    assert moved.data["shard"] == row.data["shard"] + SHARDS
    assert FullAudit(engine.store, timedelta(0)).run().findings == []


def test_a_repair_finds_room(full: LocalEngine) -> None:
    """A difference that the first shard cannot take is added to another."""
    full.publish(outgoing(state_message(1)))
    full.settle()
    full.store.commit([Add(shard_path(SHARDS), {"spawned": 3})])
    assert "repaired" in cheap_audit(full.store)
    assert cheap_audit(full.store) == "no drift"


def test_what_no_shard_can_take_is_refused() -> None:
    """A write that is refused for another reason than a full shard stays refused."""
    tried = []

    def attempt(number: int) -> None:
        tried.append(number)
        message = f"shard {number}"
        raise RefusedError(message)

    with pytest.raises(RefusedError, match="shard 3"):
        shard_with_room(3, attempt)
    assert tried[:3] == [3, 3 + SHARDS, 3 + 2 * SHARDS]
