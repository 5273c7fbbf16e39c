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
    EDITED,
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
    with pytest.raises(InvalidMessageError, match=r"\('Developer', 'a_b', 'c'\)") as caught:
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


WORKING: dict[str, Any] = {"status": "busy", "current_task": "x", "task_status": "in_progress"}
TIMELINE: list[tuple[dict[str, Any], int | None, int | None]] = [
    (state_message(1), 1, None),
    (state_message(2), 1, None),
    (state_message(3, **WORKING), 3, 3),
    (state_message(4, **WORKING, memory_context={"m": 1}), 3, 3),
    (state_message(5, **WORKING | {"task_status": "completed"}), 3, 5),
    (state_message(6, **WORKING | {"task_status": "completed", "status": "idle"}), 6, 5),
    (state_message(7), 6, None),
    (state_message(8), 6, None),
    (state_message(9, current_task="x"), 6, 9),
    (state_message(10, current_task="x", task_status="pending"), 6, 10),
    (state_message(11, current_task="y", task_status="pending"), 6, 11),
    (state_message(12, task_status="pending"), 6, 12),
    (state_message(13, epoch=2, task_status="pending"), 6, 12),
    (state_message(14, epoch=2, **WORKING), 14, 14),
    (state_message(15, epoch=2), 15, None),
    (state_message(16, epoch=2, status="terminated"), 16, None),
    (state_message(17, epoch=2, **WORKING), 17, 17),
    (tombstone_message(18, epoch=2), None, None),
    (tombstone_message(19, epoch=2), None, None),
    (state_message(20, epoch=2, **WORKING), 20, 20),
]
"""Messages of a session, each with the revision since which its status and its task are so."""


def test_since_when_status_and_task_are_as_they_are() -> None:
    """By the agent's own times: what does not change keeps its time, what is gone has none."""
    stored: dict[str, Any] | None = None
    for message, status_since, task_since in TIMELINE:
        stored = written(stored, message)
        expected = {
            name: NOW + timedelta(seconds=revision)
            for name, revision in (("status_since", status_since), ("task_since", task_since))
            if revision is not None
        }
        found = {name: stored[name] for name in ("status_since", "task_since") if name in stored}
        assert found == expected, message


def test_since_is_written_only_where_it_changes() -> None:
    """A heartbeat writes neither; one that is late or comes twice nothing at all."""
    stored = written(None, state_message(2, **WORKING))
    heartbeat = after(stored, state_message(3, **WORKING)).write
    assert isinstance(heartbeat, Update)
    assert not {"status_since", "task_since"} & {*heartbeat.data, *heartbeat.removed}
    ended = after(stored, state_message(3, status="busy")).write
    assert isinstance(ended, Update)
    assert "status_since" not in ended.data
    assert "task_since" in ended.removed
    for late in (state_message(2, **WORKING), state_message(1)):
        assert after(stored, late).write is None


@pytest.mark.parametrize(
    ("changes", "status_since", "task_since"),
    [
        (WORKING, 5, 5),
        (WORKING | {"status": "idle"}, 5, 5),
        (WORKING | {"current_task": "y"}, 5, 5),
        ({"status": "busy"}, 5, None),
    ],
)
def test_a_state_stored_by_an_earlier_release_has_no_since(
    changes: dict[str, Any], status_since: int, task_since: int | None
) -> None:
    """It has one from the next message on, later than the truth and never earlier."""
    former = written(None, state_message(1, **WORKING))
    for name in ("status_since", "task_since"):
        del former[name]
    now = written(former, state_message(5, **changes))
    assert now["status_since"] == NOW + timedelta(seconds=status_since)
    assert now.get("task_since") == (task_since and NOW + timedelta(seconds=task_since))
    again = written(now, state_message(6, **changes))
    assert again["status_since"] == now["status_since"]
    assert again.get("task_since") == now.get("task_since")
    gone = after(former, tombstone_message(6)).write
    assert isinstance(gone, Update)
    assert not {"status_since", "task_since"} & {*gone.data, *gone.removed}


@given(st.permutations(range(len(TIMELINE))))
def test_since_is_never_later_than_the_state_itself(arrivals: list[int]) -> None:
    """Whatever comes late or never: it is the time of a message that said the same."""
    stored: dict[str, Any] | None = None
    said: dict[Any, set[Any]] = {}
    for number in arrivals:
        message = TIMELINE[number][0]
        if stored is not None and after(stored, message).write is None:
            continue
        stored = written(stored, message)
        at = stored.get("last_updated")
        for name, parts in (("status", ["status"]), ("task", ["current_task", "task_status"])):
            told = (name, *(stored.get(part) for part in parts))
            said.setdefault(told, set()).add(at)
            if f"{name}_since" in stored:
                assert stored[f"{name}_since"] in said[told]
                assert stored[f"{name}_since"] <= at


WRITTEN_BY_HAND: list[tuple[str, dict[str, Any], Any]] = [
    ("memory_context", {"memory_context": {"a": 1}}, {"a": "by hand"}),
    ("memory_context", {"memory_context": {"a": 1}}, None),
    ("task_history", {"task_history": [task(1)]}, []),
    ("status", {"status": "busy"}, "error"),
    ("task_totals", {"task_totals": {"kinds": {"code": {"tries": 2, "successes": 1}}}}, {}),
    ("current_task", {"current_task": "x"}, None),
    ("current_task", {}, "by hand"),
    ("parent_agent_id", {}, "by hand"),
    ("deleted", {}, True),
]
"""A field, what the agent says, what somebody has made of it; None: has taken it away."""


@pytest.mark.parametrize(("name", "says", "edited"), WRITTEN_BY_HAND)
def test_a_field_that_was_edited_is_written_again(
    name: str, says: dict[str, Any], edited: Any
) -> None:
    """Once its digest is cleared: as the agent says it with its next snapshot, or not at all."""
    whole = written(None, state_message(1, **says))
    by_hand = {**whole, name: edited, "digests": whole["digests"] | {name: EDITED}}
    if edited is None:
        del by_hand[name]
    assert after(by_hand, state_message(1, **says)).outcome is Outcome.DUPLICATE
    assert after(by_hand, state_message(1, **says)).write is None
    expected = written(whole, state_message(2, **says))
    found = written(by_hand, state_message(2, **says))
    since = {"status_since": found["status_since"]} if name == "status" else {}
    if name == "current_task" and says:
        since = {"task_since": found["task_since"]}
    assert found == expected | since
    assert found["digests"] == expected["digests"], "nothing is left of the edit"
    update = after(found, state_message(3, **says)).write
    assert isinstance(update, Update)
    assert name not in {*update.data, *update.removed}, "and is not written for ever"


@pytest.mark.parametrize(
    "other",
    [
        state_message(1, memory_context={"a": 1}, status="busy"),
        state_message(1, memory_context={"a": 1}, current_task="x"),
        state_message(1, memory_context={"a": 1}) | {"writer": "another"},
        tombstone_message(1),
    ],
)
def test_an_edited_field_hides_no_conflict(other: dict[str, Any]) -> None:
    """Whatever else differs is still another content at one place in the order."""
    stored = written(None, state_message(1, memory_context={"a": 1}))
    stored["digests"] = stored["digests"] | {"memory_context": EDITED}
    with pytest.raises(InvalidMessageError, match="stored with other content"):
        after(stored, other)


@pytest.mark.parametrize(
    "message",
    [
        state_message(3, epoch=5, last_updated=time_text(OLD), created_at=time_text(OLD)),
        state_message(3, epoch=5, last_updated="0001-01-01T00:00:00Z"),
        tombstone_message(3, epoch=5, deleted_at=time_text(OLD)),
    ],
)
def test_what_was_kept_back_may_be_of_any_age(message: dict[str, Any]) -> None:
    """Its row alone tells whether its session has ended, or gone on, since."""
    parsed = read(message)

    def decide(row: Stored | None) -> Outcome:
        return decide_state(None, parsed, NOW, row, of_any_age=True).outcome

    def row(version: list[int]) -> Stored:
        return Stored(parsed.identity.row_path, {"version": version}, "token", NOW)

    with pytest.raises(InvalidMessageError, match="older than 30 days"):
        decide_state(None, parsed, NOW)
    assert decide(None) is Outcome.STORED
    assert decide(row([1, 5, 3])) is Outcome.STORED
    assert decide(row([9, 4, 8])) is Outcome.STORED
    for later in ([1, 5, 4], [1, 6, 0]):
        with pytest.raises(InvalidMessageError, match="removed since") as caught:
            decide(row(later))
        assert caught.value.code == "too_late"


@pytest.mark.parametrize("revision", [4, 5, 6])
def test_of_any_age_changes_nothing_where_a_document_is(revision: int) -> None:
    """Earlier is superseded, the same a duplicate, later stored; ahead of time is refused."""
    stored = Stored("agent_states/x", written(None, state_message(5)), "token", NOW)
    message = read(state_message(revision))
    found = decide_state(stored, message, NOW, of_any_age=True)
    assert found == decide_state(stored, message, NOW)
    ahead = read(state_message(9, created_at=time_text(NOW + timedelta(hours=25))))
    with pytest.raises(InvalidMessageError, match=r"state\.created_at: .* yet to come"):
        decide_state(stored, ahead, NOW, of_any_age=True)


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
