"""A store, an outbox and a migration of an earlier release, used and brought up to this one."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from firestate.agents.manager import StateManager
from firestate.audit.full import FullAudit
from firestate.client.outgoing import outgoing
from firestate.local.engine import LocalEngine
from firestate.operations.rederive import rederive
from firestate.operations.republish_quarantined import republish_quarantined
from firestate.queries import ALL_KEPT, ALL_ROWS, ALL_STATES, PARTS_OF_OLD
from firestate.schema.ids import Identity
from firestate.schema.values import time_text
from firestate.stored_states import read_state
from tests.harness import state_message
from tests.migration.migration_run import MigrationRun
from tests.upgrade.old_store import (
    MADE_AT,
    SampleFolder,
    SampleIdentity,
    identities,
)

if TYPE_CHECKING:
    from firestate.stores.protocol import Store

OURS = {
    "contribution",
    "counted_version",
    "counted_at",
    "digests",
    "status_since",
    "task_since",
    "since_order",
}
"""Fields that a recount may change; all others are the agent's."""


def upgraded(engine: LocalEngine) -> Counter[str]:
    """Rederive, count what that has set off, and return how often each outcome came."""
    outcomes = Counter(
        report.outcome.value for report in rederive(engine.store, clock=lambda: MADE_AT)
    )
    engine.settle()
    engine.roll_up.fold()
    return outcomes


def audit(engine: LocalEngine) -> Any:
    return FullAudit(engine.store, timedelta(0)).run()


def told(store: Store) -> dict[str, dict[str, Any]]:
    """Return what the agents have told, by the identity of each state."""
    return {
        "/".join(str(each.data[name]) for name in ("agent_type", "agent_id", "session_id")): {
            name: value for name, value in each.data.items() if name not in OURS
        }
        for each in store.query(ALL_STATES.query())
    }


def waiting(store: Store, code: str) -> list[str]:
    return [
        each.id
        for each in store.query(ALL_KEPT.query())
        if each.data["code"] == code and each.data["waiting"]
    ]


def test_every_state_goes_to_its_place_and_none_is_lost(engine: LocalEngine) -> None:
    """After `rederive` each state lies under its own id, and says what it said before."""
    before = told(engine.store)
    rows = {each.path for each in engine.store.query(ALL_ROWS.query())}
    outcomes = upgraded(engine)
    stored = {each.path: each for each in engine.store.query(ALL_STATES.query())}
    assert stored.keys() == {
        each.next_path for each in identities() if each.stored or each.quarantined
    }
    after = told(engine.store)
    assert {name: after[name] for name in before} == before
    assert outcomes["moved"] == sum(1 for each in identities() if each.stored and each.moves)
    assert rows <= {each.path for each in engine.store.query(ALL_ROWS.query())}
    report = audit(engine)
    assert (report.findings, report.at_former_paths, report.in_flight) == ([], 0, 0)


def test_messages_that_had_no_place_are_stored(engine: LocalEngine) -> None:
    """What was refused as another's document is ingested, however old it is by now."""
    kept = waiting(engine.store, "identity")
    outcomes = upgraded(engine)
    assert outcomes["released"] == len(kept) == sum(each.quarantined for each in identities())
    assert waiting(engine.store, "identity") == []
    found = {
        each.identity: read_state(engine.store, each.identity).state
        for each in identities()
        if each.quarantined
    }
    assert None not in found.values()
    # Its messages came as 1, 3, 2 and a tombstone, 4: the last in the order counts.
    (red,) = (state for who, state in found.items() if who[:2] == ("QA", "red"))
    assert red is not None
    assert (red.data["revision"], red.data["deleted"]) == (4, True)


def test_a_second_time_changes_nothing(engine: LocalEngine) -> None:
    """What has been brought up to this release stays as it is."""
    upgraded(engine)
    before = {each.path: each.data for each in engine.store.query(ALL_STATES.query())}
    outcomes = upgraded(engine)
    assert outcomes.keys() == {"unchanged"}
    assert {each.path: each.data for each in engine.store.query(ALL_STATES.query())} == before


def test_parts_go_along(engine: LocalEngine) -> None:
    """What lies below a moved state lies below it afterwards, and nowhere else."""
    paths = {each.old_path: each.next_path for each in identities() if each.moves}
    before = {
        old: {part.id: part.data for part in engine.store.query(PARTS_OF_OLD.query(under=old))}
        for old in paths
    }
    assert any(before.values())
    upgraded(engine)
    for old, new in paths.items():
        found = engine.store.query(PARTS_OF_OLD.query(under=new))
        assert {part.id: part.data for part in found} == before[old]
        left = engine.store.query(PARTS_OF_OLD.query(under=old))
        assert (old in paths.values()) or not list(left)


def test_states_are_read_and_written_where_they_are_before_they_move(
    engine: LocalEngine,
) -> None:
    """An agent's next message changes the document that is there, and makes no second one."""
    moving = [each for each in identities() if each.stored in ("active", "idle") and each.moves]
    before = len(list(engine.store.query(ALL_STATES.query())))
    for each in moving:
        head = read_state(engine.store, each.identity).state
        assert head is not None
        assert head.path == each.old_path
        engine.publish(outgoing(_next_message(each, head.data)))
    engine.settle()
    stored = {each.path: each.data for each in engine.store.query(ALL_STATES.query())}
    assert len(stored) == before
    assert {stored[each.old_path]["performance_metrics"]["after"] for each in moving} == {1.0}
    upgraded(engine)
    assert audit(engine).findings == []
    after = [read_state(engine.store, each.identity).state for each in moving]
    assert {state and state.data["performance_metrics"]["after"] for state in after} == {1.0}


def _next_message(each: SampleIdentity, head: dict[str, Any]) -> dict[str, Any]:
    """Return what the agent would publish next; its clock is that of the samples."""
    at = time_text(MADE_AT)
    message = state_message(
        1,
        **each.identity._asdict(),
        created_at=at,
        last_updated=at,
        last_active=at,
        performance_metrics={"after": 1.0},
    )
    order = {"epoch": head["epoch"], "revision": head["revision"] + 1}
    return message | order | {"writer": head["writer"]}


@pytest.mark.parametrize("moved", [False, True])
def test_a_migration_is_undone_and_applied_by_its_old_receipt(
    samples: SampleFolder,
    engine: LocalEngine,
    moved: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Before and after the states have moved: nothing of it is left, and then all is back.

    Once they have moved, the agent that was refused for another's document has a place too.
    """
    if moved:
        upgraded(engine)
    states = [each for each in identities() if each.migrated and each.stored]
    run = MigrationRun(samples.sources, samples.work, engine.store, samples.target)
    undone = run.undo()
    assert (undone.counts["undone"], undone.reasons) == (12, [])
    engine.settle()
    assert {_status(engine.store, each.identity) for each in states} == {"deleted"}
    run.apply()
    engine.settle()
    assert {each.identity: _status(engine.store, each.identity) for each in states} == {
        each.identity: each.stored for each in states
    }
    verified = run.verify()
    assert (verified.counts["equal"], verified.well) == (12 + moved, True)
    upgraded(engine)
    report = audit(engine)
    assert (report.findings, report.at_former_paths) == ([], 0)


def _status(store: Store, identity: Identity) -> str:
    state = read_state(store, identity).state
    assert state is not None, identity
    return "deleted" if state.data.get("deleted") else str(state.data["status"])


def test_messages_that_say_migration_are_released_by_a_replay(engine: LocalEngine) -> None:
    """They were refused for another reason; a replay lets them in, and what is wrong stays so."""
    upgraded(engine)
    for code, expected in (("conflict", "conflict"), ("schema", "schema")):
        for kept in waiting(engine.store, code):
            republish_quarantined(engine.store, engine, kept, MADE_AT)
            stored = engine.store.read(f"quarantine/{kept}")
            assert stored is not None
            assert stored.data["code"] in (expected, "schema")
            assert stored.data["code"] != "migration"


def test_an_outbox_is_sent_under_the_ids_of_this_release(samples: SampleFolder) -> None:
    """What waited arrives, each for its own agent; and reads see it before it has."""
    with StateManager(project="", folder=samples.state.parent) as manager:
        answer = manager.load("Worker", "tenant_3", "4")
        assert answer.value is not None
        assert answer.value.agent_id == "tenant_3"
        assert manager.load("Worker", "tenant", "3_4").value is None
        assert manager.flush(30)
    with LocalEngine(samples.state) as engine:
        engine.settle()
        for each in (("QA", "red_team", "lead_9"), ("QA", "red_team", "lead_9~8")):
            identity = Identity(*each)
            state = read_state(engine.store, identity).state
            assert state is not None
            assert state.path == identity.state_path
