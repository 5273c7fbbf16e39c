"""What becomes of a record, given what is stored: each row of the table in record_decision.py."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from firestate.ingest.events import event_creation
from firestate.ingest.states import decide_state
from firestate.migration.apply.record_decision import (
    MIGRATED_BY,
    Decision,
    RecordOutcome,
    decide_record,
)
from firestate.schema.ids import Identity
from firestate.schema.messages import EventMessage, StateMessage, Tombstone, TombstoneMessage
from firestate.stores.protocol import Create, Stored, Update
from tests.migration.migration_run import old_event, old_state
from tests.unit.json_leaves import WRITER, built_of
from tests.unit.old_file_samples import NINE, record_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firestate.migration.plan.message_builder import BuiltMessage

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LATER = (NINE + timedelta(hours=1)).isoformat()
EARLIER = (NINE - timedelta(minutes=1)).isoformat()


def state(**changes: Any) -> BuiltMessage:
    """Build an old state."""
    return built_of(record_of(old_state(**changes)))


def event(**changes: Any) -> BuiltMessage:
    """Build an old event."""
    return built_of(record_of(old_event(**changes)), "e1")


def stored(path: str, data: Mapping[str, Any]) -> Stored:
    """Give a document as a store would."""
    return Stored(path, dict(data), "token", NOW)


def after(built: BuiltMessage, head: Stored | None = None) -> Stored:
    """Give the document that a migration makes of a record."""
    write = decide_record(built, head, None, NOW).writes[0]
    assert isinstance(write, Create | Update)
    return stored(built.path, (head.data if head else {}) | dict(write.data))


def by_agent(built: BuiltMessage, **changes: Any) -> Stored:
    """Give the document as the agent itself has written it."""
    assert isinstance(built.message, StateMessage)
    message = built.message.model_copy(update={"epoch": 1, "writer": "host-1"} | changes)
    write = decide_state(None, message, NOW).write
    assert isinstance(write, Create)
    return stored(built.path, write.data)


def undone(built: BuiltMessage) -> Stored:
    """Give the document as an undo leaves it."""
    head = after(built)
    identity = Identity(*(head.data[name] for name in Identity._fields))
    tombstone = TombstoneMessage(
        epoch=0,
        revision=head.data["revision"] + 1,
        writer=WRITER,
        migration=True,
        deleted=Tombstone(**identity._asdict(), deleted_at=NOW),
    )
    write = decide_state(head, tombstone, NOW, None).write
    assert isinstance(write, Update)
    kept = {k: v for k, v in head.data.items() if k not in write.removed}
    return stored(built.path, kept | dict(write.data))


def row(epoch: int, revision: int, *, live: bool) -> Stored:
    """Give a ledger row of a session whose document has been removed."""
    contribution = {"spawned": 1} | ({"status": "terminated"} if live else {})
    return stored("row", {"version": [1, epoch, revision], "contribution": contribution})


IDENTITY = {"agent_id": "dev", "session_id": "1_s1"}
STATES: list[tuple[str, Stored | None, Stored | None, RecordOutcome]] = [
    ("nothing", None, None, RecordOutcome.WRITTEN),
    ("nothing, its row is live", None, row(0, 5, live=True), RecordOutcome.SUPERSEDED),
    ("nothing, its row is an agent's", None, row(7, 1, live=False), RecordOutcome.SUPERSEDED),
    ("nothing, its row is a tombstone's", None, row(0, 5, live=False), RecordOutcome.WRITTEN),
    ("the same", after(state()), None, RecordOutcome.THERE),
    ("newer", after(state(last_updated=LATER)), None, RecordOutcome.SUPERSEDED),
    ("older", after(state(last_updated=EARLIER)), None, RecordOutcome.WRITTEN),
    ("undone", undone(state()), None, RecordOutcome.WRITTEN),
    ("undone, of a newer file", undone(state(last_updated=LATER)), None, RecordOutcome.WRITTEN),
    ("by an agent", by_agent(state(last_updated=EARLIER)), None, RecordOutcome.SUPERSEDED),
    ("by a client, epoch 0", by_agent(state(), epoch=0), None, RecordOutcome.SUPERSEDED),
    ("another agent", after(state(**IDENTITY)), None, RecordOutcome.REFUSED),
    ("damaged", stored("x", {"agent_id": 5}), None, RecordOutcome.REFUSED),
    ("damaged row", None, stored("row", {"version": None}), RecordOutcome.REFUSED),
]


@pytest.mark.parametrize(
    ("head", "ledger", "outcome"),
    [each[1:] for each in STATES],
    ids=[each[0] for each in STATES],
)
def test_what_becomes_of_a_state(
    head: Stored | None, ledger: Stored | None, outcome: RecordOutcome
) -> None:
    """It is written where it is the latest that a migration has, and no agent has written."""
    decision = decide_record(state(), head, ledger, NOW)
    assert decision.outcome is outcome
    assert bool(decision.writes) is (outcome is RecordOutcome.WRITTEN)
    assert bool(decision.reason) is (outcome in (RecordOutcome.SUPERSEDED, RecordOutcome.REFUSED))
    if decision.writes:
        written = decision.writes[0].data  # type: ignore[union-attr] # it is no Remove
        stands = head.data["revision"] if head else 0
        assert written.get("epoch", 0) == 0
        assert written["revision"] > stands


def test_above_the_row_of_a_tombstone() -> None:
    """The order in the ledger only grows."""
    (write,) = decide_record(state(), None, row(0, 10**17, live=False), NOW).writes
    assert isinstance(write, Create)
    assert write.data["revision"] == 10**17 + 1


def test_of_two_of_one_time_the_same_one_stays() -> None:
    """Whichever comes first."""
    one, other = state(status="busy"), state(status="idle")
    first = decide_record(other, after(one), None, NOW).outcome
    second = decide_record(one, after(other), None, NOW).outcome
    assert {first, second} == {RecordOutcome.WRITTEN, RecordOutcome.SUPERSEDED}


def test_the_date_of_the_file_alone_changes_nothing() -> None:
    """What was guessed by it does not make another content."""
    old = {"status": "idle", "agent_id": "a", "agent_type": "QA"}
    head = after(built_of(record_of(old)))
    dated = head.data | {"last_updated": NOW, "last_active": NOW, "created_at": NOW}
    dated["digests"] = head.data["digests"] | {"last_updated": "x", "created_at": "y"}
    assert (
        decide_record(built_of(record_of(old)), stored("x", dated), None, NOW).outcome
        is RecordOutcome.THERE
    )


def test_parts_are_created_with_their_document() -> None:
    """After it in the list; they go when it does."""
    document, *parts = decide_record(
        state(diary="x" * 1_900_000, status="stopped"), None, None, NOW
    ).writes
    assert len(parts) == 3
    assert all(isinstance(part, Create) and "/legacy/" in part.path for part in parts)
    assert isinstance(document, Create)
    assert {part.data["expire_at"] for part in parts if isinstance(part, Create)} == {
        document.data["expire_at"]
    }


def event_head(built: BuiltMessage) -> Stored:
    """Give an event as it was stored."""
    assert isinstance(built.message, EventMessage)
    return stored(built.path, event_creation(built.message, NOW).data)


def timeless(**changes: Any) -> BuiltMessage:
    """Build an event that has no time of its own."""
    return event(timestamp=None, **changes)


@pytest.mark.parametrize(
    ("built", "head", "outcome"),
    [
        (event(), None, RecordOutcome.WRITTEN),
        (event(), event_head(event()), RecordOutcome.THERE),
        (event(), event_head(event(note="other")), RecordOutcome.REFUSED),
        (timeless(), event_head(timeless(note="other")), RecordOutcome.REFUSED),
        (event(), stored("x", {}), RecordOutcome.REFUSED),
        (event(timestamp=(NOW + timedelta(days=2)).isoformat()), None, RecordOutcome.REFUSED),
    ],
)
def test_what_becomes_of_an_event(
    built: BuiltMessage, head: Stored | None, outcome: RecordOutcome
) -> None:
    """It is created once, and never changed."""
    decision: Decision = decide_record(built, head, None, NOW)
    assert decision.outcome is outcome
    if decision.writes:
        (write,) = decision.writes
        assert isinstance(write, Create)
        assert write.data[MIGRATED_BY] == WRITER


def test_a_state_of_the_future_is_refused_in_the_words_of_ingest() -> None:
    """Its clock was wrong: it would stay the latest."""
    decision = decide_record(
        state(last_updated=(NOW + timedelta(days=3)).isoformat()), None, None, NOW
    )
    assert decision.outcome is RecordOutcome.REFUSED
    assert "yet to come" in decision.reason
