"""What becomes of a state, given what is stored."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestate.counters.contribution import CODE
from firestate.errors import InvalidMessageError
from firestate.ingest.outcomes import Outcome
from firestate.ingest.states import (
    HEAD,
    StateDecision,
    decide_state,
    may_be_removed,
    next_version,
)
from firestate.limits import (
    LATEST_ARRIVAL,
    STATE_LIFETIME,
)
from firestate.schema.messages import (
    Order,
    StateMessage,
    TombstoneMessage,
    parse_state_message,
)
from firestate.schema.values import time_text
from firestate.stores.protocol import Create, Stored, Update
from tests.harness import (
    NOW,
    state_message,
    task,
    tombstone_message,
)

OLD = NOW - LATEST_ARRIVAL - timedelta(seconds=1)


def read(message: dict[str, Any]) -> StateMessage | TombstoneMessage:
    return parse_state_message(json.dumps(message).encode())


def after(document: dict[str, Any], message: dict[str, Any]) -> StateDecision:
    """Decide on `message` where `document` is stored, read as ingest reads it."""
    head = {name: document[name] for name in HEAD if name in document}
    return decide_state(Stored("agent_states/x", head, "token", NOW), read(message), NOW)


def written(stored: dict[str, Any] | None, message: dict[str, Any]) -> dict[str, Any]:
    """Give the document after `message`, which must be stored."""
    if stored is None:
        creation = decide_state(None, read(message), NOW).write
        assert isinstance(creation, Create)
        return dict(creation.data)
    update = after(stored, message).write
    assert isinstance(update, Update)
    document = {**stored, **update.data}
    return {name: value for name, value in document.items() if name not in update.removed}


@pytest.mark.parametrize(
    ("order", "outcome"),
    [
        ((1, 6), Outcome.STORED),
        ((2, 0), Outcome.STORED),
        ((1, 5), Outcome.DUPLICATE),
        ((1, 4), Outcome.SUPERSEDED),
        ((0, 9), Outcome.SUPERSEDED),
    ],
)
def test_later_replaces_earlier(order: tuple[int, int], outcome: Outcome) -> None:
    """Only a later pair of epoch and revision changes what is stored."""
    stored = written(None, state_message(5))
    epoch, revision = order
    message = state_message(5) | {"epoch": epoch, "revision": revision}
    decision = after(stored, message)
    assert decision.outcome is outcome
    assert (decision.write is not None) == (outcome is Outcome.STORED)


@pytest.mark.parametrize(
    "other",
    [
        state_message(5, status="busy"),
        state_message(5) | {"writer": "another"},
        tombstone_message(5),
        state_message(5, current_task="x"),
    ],
)
def test_one_place_in_the_order_with_other_content(other: dict[str, Any]) -> None:
    """Two writers that claim one place are a conflict, whoever came first."""
    for first, second in ((state_message(5), other), (other, state_message(5))):
        with pytest.raises(InvalidMessageError, match=r"1\.5 is stored with other") as caught:
            after(written(None, first), second)
        assert caught.value.code == "conflict"


def test_the_same_content_in_other_bytes_is_a_duplicate() -> None:
    """Neither the order of keys nor the zone of a time makes content another."""
    stored = written(None, state_message(1, memory_context={"a": 1, "b": 2}))
    elsewhere = (NOW + timedelta(seconds=1)).isoformat()
    message = state_message(1, memory_context={"b": 2, "a": 1}, last_updated=elsewhere)
    assert after(stored, message).outcome is Outcome.DUPLICATE


def test_a_document_of_another_identity() -> None:
    """Ids that join to the same document id do not overwrite one another."""
    stored = written(None, state_message(1, agent_id="a_b", session_id="c"))
    with pytest.raises(InvalidMessageError, match="agent_id='a_b'") as caught:
        after(stored, state_message(2, agent_id="a", session_id="b_c"))
    assert caught.value.code == "identity"


@pytest.mark.parametrize(
    "message",
    [
        state_message(1, last_updated=time_text(OLD)),
        tombstone_message(1, deleted_at=time_text(OLD)),
    ],
)
def test_too_late(message: dict[str, Any]) -> None:
    """After 30 days nothing comes back whose document may have been removed; old files may."""
    with pytest.raises(InvalidMessageError, match="older than 30 days") as caught:
        decide_state(None, read(message), NOW)
    assert caught.value.code == "too_late"
    assert decide_state(None, read(message | {"migration": True}), NOW).outcome is Outcome.STORED
    stored = written(None, state_message(0))
    assert after(stored, message).outcome is Outcome.STORED


@pytest.mark.parametrize(
    ("message", "looked_up", "refused"),
    [
        (state_message(9, epoch=4, created_at=time_text(OLD)), True, True),
        (state_message(9, epoch=5, created_at=time_text(OLD)), True, False),
        (state_message(1, epoch=6, created_at=time_text(OLD)), True, False),
        (state_message(9, epoch=4), False, False),
        (tombstone_message(9, epoch=4), True, True),
        (tombstone_message(1, epoch=6), True, False),
    ],
)
def test_a_former_writer_after_the_document_was_removed(
    message: dict[str, Any], *, looked_up: bool, refused: bool
) -> None:
    """The ledger row, which stays, keeps out what is earlier than what has been removed."""
    parsed = read(message)
    assert may_be_removed(parsed, NOW) is looked_up
    row = Stored(parsed.identity.row_path, {"version": [1, 5, 3]}, "token", NOW)
    if refused:
        with pytest.raises(InvalidMessageError, match="removed since") as caught:
            decide_state(None, parsed, NOW, row)
        assert caught.value.code == "too_late"
    else:
        decision = decide_state(None, parsed, NOW, row if looked_up else None)
        assert decision.outcome is Outcome.STORED


@pytest.mark.parametrize("kind", ["state", "tombstone"])
def test_too_early(kind: str) -> None:
    """What is dated more than a day ahead would stay the latest for as long."""
    ahead, soon = (time_text(NOW + timedelta(hours=hours)) for hours in (25, 23))

    def decide(at: str) -> None:
        if kind == "state":
            decide_state(None, read(state_message(1, last_updated=at)), NOW)
        else:
            after(written(None, state_message(1)), tombstone_message(2, deleted_at=at))

    decide(soon)
    with pytest.raises(InvalidMessageError, match="yet to come") as caught:
        decide(ahead)
    assert caught.value.code == "too_early"


def test_a_heartbeat_writes_only_what_changed() -> None:
    """Large fields that are as they were are not written again."""
    stored = written(None, state_message(1, memory_context={"text": "x" * 1000}))
    update = after(stored, state_message(2, memory_context={"text": "x" * 1000})).write
    assert isinstance(update, Update)
    assert "memory_context" not in update.data
    assert "task_history" not in update.data
    assert update.data["revision"] == 2
    assert update.token == "token"  # noqa: S105 - no secret


def test_another_writer_s_document_names_whom_it_has_fenced_off() -> None:
    """The former writer watches for its own name; as long as nobody takes over, none is there."""
    stored = written(None, state_message(1))
    assert "fenced_writer" not in written(stored, state_message(2))
    taken = written(stored, state_message(1, epoch=2) | {"writer": "newcomer"})
    assert taken["fenced_writer"] == "w"
    own = written(taken, state_message(2, epoch=2) | {"writer": "newcomer"})
    assert own["fenced_writer"] == "w"


def test_what_is_left_out_is_removed() -> None:
    """A state is the whole state: a field that it no longer has goes."""
    stored = written(None, state_message(1, current_task="x", status="terminated"))
    assert stored["expire_at"] == NOW + STATE_LIFETIME
    again = written(stored, state_message(2))
    assert "current_task" not in again
    assert "expire_at" not in again


def test_a_tombstone_keeps_nothing_of_the_state() -> None:
    """It says which state is gone, and goes itself in 45 days."""
    gone = written(written(None, state_message(1, memory_context={"a": 1})), tombstone_message(2))
    assert "memory_context" not in gone
    assert gone["deleted"] is True
    assert gone["expire_at"] == NOW + STATE_LIFETIME
    assert gone["contribution"]["spawned"] == 1
    assert gone["contribution"]["current"] == 0
    back = written(gone, state_message(3))
    assert "deleted" not in back
    assert back["contribution"]["current"] == 1


def test_counted_version_stays_where_nothing_countable_changed() -> None:
    """It is the place in the order at which the contribution last changed."""
    first = written(None, state_message(1))
    assert first["counted_version"] == [CODE, 1, 1]
    heartbeat = written(first, state_message(2))
    assert heartbeat["counted_version"] == [CODE, 1, 1]
    assert heartbeat["counted_at"] == first["counted_at"]
    worked = written(heartbeat, state_message(3, task_history=[task(1)]))
    assert worked["counted_version"] == [CODE, 1, 3]
    assert worked["counted_at"] == NOW + timedelta(seconds=3)


@given(
    st.none() | st.tuples(st.integers(1, 5), st.integers(0, 3), st.integers(0, 3)),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_versions_rise(stored: tuple[int, int, int] | None, epoch: int, revision: int) -> None:
    """A later order, or a recount of the same, has a higher version, also after a roll-back."""
    if stored is not None and (epoch, revision) > stored[1:]:
        assert next_version(stored, Order(epoch, revision)) > stored
    if stored is not None:
        assert next_version(stored, Order(*stored[1:]), recount=True) > stored
    assert next_version(stored, Order(epoch, revision))[0] >= CODE


@given(st.permutations(range(6)), st.data())
def test_the_end_does_not_depend_on_the_order_of_arrival(
    arrivals: list[int], data: st.DataObject
) -> None:
    """Whatever comes first or twice, the last state stands, whole and with its contribution."""
    history = [
        state_message(0),
        state_message(1, status="busy", current_task="x", task_history=[task(1)]),
        state_message(2, status="busy", memory_context={"m": {"type": "fact"}}),
        tombstone_message(3),
        state_message(0, epoch=2, collaboration_context={"with": "q"}),
        state_message(1, epoch=2, status="terminated", task_history=[task(1), task(2)]),
    ]
    twice = data.draw(st.lists(st.sampled_from(range(6)), max_size=4))
    stored: dict[str, Any] | None = None
    for number in [*arrivals, *twice]:
        if stored is None:
            stored = written(None, history[number])
        elif after(stored, history[number]).write is not None:
            stored = written(stored, history[number])
    alone = written(None, history[-1])
    counted = {"counted_version", "counted_at"}
    assert stored is not None
    assert {k: v for k, v in stored.items() if k not in counted} == {
        k: v for k, v in alone.items() if k not in counted
    }
