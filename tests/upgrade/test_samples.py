"""The samples hold what their README.md says, and open with this release."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from firestate.audit.full import FullAudit
from firestate.limits import MAX_OUTBOX_BYTES
from firestate.outbox.open import open_outbox
from firestate.queries import ALL_EVENTS, ALL_STATES
from firestate.schema.ids import QUARANTINE
from firestate.stores.protocol import Query
from tests.migration.migration_run import MigrationRun
from tests.upgrade.made_by.next_ids import next_id
from tests.upgrade.old_store import SampleFolder, identities

if TYPE_CHECKING:
    from firestate.local.engine import LocalEngine
    from firestate.stores.protocol import Store


def test_nothing_is_left_to_be_counted(engine: LocalEngine) -> None:
    """All that differs is what this release counts in another way, or shows anew."""
    assert engine.store.triggers.count() == 0
    report = FullAudit(engine.store, timedelta(0)).run()
    assert {(each.kind, each.field) for each in report.findings} == {
        ("row", "contribution"),
        ("global", "error_counts"),
        ("global", "system_metrics.coordination"),
    }
    assert (report.states, report.rows, report.events) == (60, 60, 19)
    assert report.in_flight == 0


def test_states_lie_where_the_older_release_puts_them(engine: LocalEngine) -> None:
    listed = identities()
    stored = {each.path: each.data for each in engine.store.query(ALL_STATES.query())}
    assert stored.keys() == {each.old_path for each in listed if each.stored}
    for each in listed:
        assert each.next_path == f"agent_states/{next_id(*each.identity)}"
        if each.stored:
            data = stored[each.old_path]
            assert each.identity == tuple(data[name] for name in each.identity._fields)
            form = "deleted" if data.get("deleted") else data["status"]
            assert (each.stored, each.migrated) == (form, data["epoch"] == 0)
    assert len({each.next_path for each in listed}) == len(listed) == 68
    moved = [each for each in listed if each.moves]
    assert Counter(each.stored for each in moved) == {
        "active": 22,
        "idle": 8,
        "deleted": 4,
        "terminated": 4,
        "": 3,
    }
    # One of them moves to where another one lies, which has to move first.
    assert [each.old_path for each in listed if each.old_path in {m.next_path for m in moved}] == [
        "agent_states/QA_red_team_lead_7~8"
    ]


def test_quarantined_messages_by_their_codes(engine: LocalEngine) -> None:
    kept = list(engine.store.query(Query(QUARANTINE)))
    assert Counter(each.data["code"] for each in kept) == {
        "identity": 13,
        "schema": 6,
        "conflict": 5,
        "too_late": 2,
        "too_early": 1,
        "json": 1,
    }
    assert sum(each.quarantined for each in identities()) == 13
    brought = [each for each in kept if b'"migration": true' in _bytes(engine.store, each.path)]
    assert Counter(each.data["code"] for each in brought) == {
        "conflict": 2,
        "schema": 1,
        "identity": 1,
    }
    assert [each.data["deliveries"] for each in kept if each.data["deliveries"] > 1] == [2]


def test_children_histories_and_sessions_of_a_framework(engine: LocalEngine) -> None:
    states = [each.data for each in engine.store.query(ALL_STATES.query())]
    children = Counter(each.get("parent_agent_id") for each in states)
    assert children == {None: 51, "lead": 7, "help_2": 1, "sales_bot": 1}
    events = Counter(each.data["event_type"] for each in engine.store.query(ALL_EVENTS.query()))
    assert events == {"spawn": 8, "handoff": 5, "error": 4, "collaboration": 1, "termination": 1}

    kinds = _read(engine, "agent_states/Builder_long_run_night_shift_1")["task_totals"]["kinds"]
    assert sum(each["tries"] for each in kinds.values()) == 261
    assert sum(each.get("cancelled", 0) for each in kinds.values()) == 26
    assert _read(engine, "agent_states/Builder_long_run_day").get("task_totals") is None

    adk = [each for each in states if each["agent_type"] == "helper"]
    found = {each["session_id"]: each["status"] for each in adk}
    assert found == {"main": "error", "s-77": "idle", "order_12": "idle"}


def test_migrated_files_are_as_their_receipt_says(
    samples: SampleFolder, engine: LocalEngine
) -> None:
    run = MigrationRun(samples.sources, samples.work, engine.store, samples.target)
    assert run.verify().counts["equal"] == 12
    head, *lines = map(json.loads, samples.receipt.read_text(encoding="utf-8").splitlines())
    assert (head["source"], head["target"]) == (str(samples.sources), samples.target)
    ours = [each["path"] for each in lines if each.get("ours")]
    assert all(engine.store.read(path) for path in ours)
    assert len([path for path in ours if path.startswith("agent_states/")]) == 7
    (parts,) = (each["parts"] for each in lines if each.get("parts"))
    part = _read(engine, *parts)
    assert len(json.loads(part["data"])["pages"]) == 50_001


def test_the_outbox_holds_what_was_not_sent(samples: SampleFolder) -> None:
    """And each snapshot is under the key of its own identity, once it is open."""
    outbox = open_outbox(samples.outbox, most_bytes=MAX_OUTBOX_BYTES)
    waiting = outbox.waiting(100)
    rows = outbox._rows("SELECT document, agent, sent_at IS NULL, data != x'' FROM snapshots")
    (shared,) = (each for each in waiting if each.document.endswith("Worker_tenant_3_4"))
    data = json.loads(outbox.data([shared])[shared])
    outbox.close()

    assert Counter(each.is_snapshot for each in waiting) == {True: 8, False: 2}
    assert (shared.agent, data["state"]["agent_id"]) == ("Worker_tenant_3", "tenant_3")
    assert sorted(
        (document, agent, bool(full)) for document, agent, waits, full in rows if not waits
    ) == [
        ("agent_states/Closer_done_1_shift_3~6", "Closer_done_1", False),
        ("agent_states/Closer_sent_1_shift_4~6", "Closer_sent_1", True),
        ("agent_states/Guard_gate_x_9~4", "Guard_gate", False),
    ]


def _bytes(store: Store, path: str) -> bytes:
    part = store.read(f"{path}/parts/0000")
    assert part is not None
    data: bytes = part.data["data"]
    return data


def _read(engine: LocalEngine, path: str) -> dict[str, Any]:
    stored = engine.store.read(path)
    assert stored is not None, path
    return stored.data
