"""Putting right what an audit found.

Nothing here can harm, also where the audit is outdated:

- shards get the difference added, never a total set, and only if no other repair came between;
- a state's contribution is computed anew under a higher version, and goes through the ledger;
- an event that was never counted is counted the usual way, on its usual condition;
- a memory is folded anew from its rows and events, on condition that it has not changed meanwhile;
- `global_config` is folded again from the shards.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from firestate.audit.findings import AuditReport, Kind
from firestate.audit.full import DEFAULT_GRACE, FullAudit
from firestate.derive.agent_events import EventsPart, add_event
from firestate.derive.memory import memory_document, parts_of
from firestate.derive.rows import fold_rows
from firestate.pipeline.contention import until_settled
from firestate.pipeline.derive_event import derive_event
from firestate.pipeline.derive_state import next_change
from firestate.pipeline.rederive import recount
from firestate.pipeline.shard_audit import REPAIRS, repair_shards
from firestate.pipeline.sweep import swept_figures
from firestate.schema.ids import EVENTS, SESSIONS
from firestate.stores.protocol import Query, Where, replacing

if TYPE_CHECKING:
    from datetime import timedelta

    from firestate.counters.sums import Counts
    from firestate.pipeline.roll_up import RollUp
    from firestate.stores.protocol import Store


def audit_and_repair(
    store: Store, roll_up: RollUp, grace: timedelta = DEFAULT_GRACE
) -> AuditReport:
    """Audit; repair what was found; the report says what it was and how much was repaired."""
    last_repair = store.read(REPAIRS)
    audit = FullAudit(store, grace)
    report = audit.run()
    if not report.findings:
        return report
    if audit.shard_drift:
        repair_shards(store, _nested(audit.shard_drift), last_repair)
    memories: dict[str, tuple[str, str]] = {}
    for finding in report.findings:
        if finding.kind is Kind.ROW:
            recount(store, finding.path, force=True)
        elif finding.kind is Kind.EVENT:
            event = store.read(finding.path)
            if event is not None and not event.data.get("counted"):
                derive_event(store, event)
        elif finding.kind is Kind.MEMORY:
            agent_type, _, agent_id = finding.path.partition("/")[2].partition("_")
            memories[finding.path] = (agent_type, agent_id)
    for path, (agent_type, agent_id) in memories.items():
        fold_memory(store, path, agent_type, agent_id)
    swept_at = store.now()
    roll_up.fold({**swept_figures(store, swept_at), "swept_at": swept_at})
    report.repaired = report.drift
    return report


def fold_memory(store: Store, path: str, agent_type: str, agent_id: str) -> None:
    """Fold an agent's memory anew from its rows and its counted events."""

    def attempt() -> None:
        # Read before what it is folded from: a change to any of that writes the memory too, and
        # makes the condition fail.
        memory = store.read(path)
        rows = fold_rows(row.data for row in store.query(Query(f"{path}/{SESSIONS}")))
        events = _events_part(store, agent_type, agent_id)
        known = _known_events(memory.data if memory else None)
        if known is not None and _expired(known, events):
            events = replace(known, counts=_largest(known.counts, events.counts))
        document = memory_document(agent_type, agent_id, rows, events)
        if replacing(memory, path, document):
            document["changes"] = next_change(memory)
            store.commit(replacing(memory, path, document))

    until_settled(path, attempt)


def _events_part(store: Store, agent_type: str, agent_id: str) -> EventsPart:
    part = EventsPart()
    for event in store.query(Query(EVENTS, [Where("source_agent_id", "==", agent_id)])):
        if event.data["source_agent_type"] == agent_type and event.data.get("counted"):
            part = add_event(part, event.data)
    return part


def _known_events(memory: dict[str, Any] | None) -> EventsPart | None:
    try:
        return parts_of(memory)[1]
    except (KeyError, TypeError, AttributeError):
        return None  # damaged: then the events that are still there are all that is known


def _expired(known: EventsPart, found: EventsPart) -> bool:
    """Whether `known` reaches further back than the events that are still stored."""
    if known.first_at is None:
        return False
    return found.first_at is None or known.first_at < found.first_at


def _largest(one: Counts, other: Counts) -> Counts:
    """Give the larger of each count: what is known by either."""
    result: Counts = {}
    for name in one.keys() | other.keys():
        left, right = one.get(name, 0), other.get(name, 0)
        if isinstance(left, dict) or isinstance(right, dict):
            result[name] = _largest(left or {}, right or {})
        else:
            result[name] = max(left, right)
    return result


def _nested(flat: dict[tuple[str, ...], int]) -> Counts:
    nested: Counts = {}
    for path, count in flat.items():
        inner = nested
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = count
    return nested
