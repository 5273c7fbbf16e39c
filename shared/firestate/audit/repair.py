"""Putting right what an audit found.

Nothing here can harm, also where the audit is outdated:

- shards get the difference added, never a total set, and only if no other repair came between;
- a state's contribution is computed anew under a higher version, and goes through the ledger;
- an event that was never counted is counted the usual way, on its usual condition;
- a memory is folded anew from its rows and events, on condition that it has not changed meanwhile;
- `global_config` is folded again from the shards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate.audit.findings import AuditReport, FindingKind
from firestate.audit.full import DEFAULT_GRACE, FullAudit
from firestate.operations.rederive import recount
from firestate.pipeline.derive_event import derive_event
from firestate.pipeline.fold_memory import fold_memory
from firestate.pipeline.shard_audit import REPAIRS, repair_shards
from firestate.pipeline.sweep import swept_figures

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
    # Memories first: a row or an event is counted into its agent's memory, which must be whole.
    memories = {each.path for each in report.findings if each.kind is FindingKind.MEMORY}
    for path in sorted(memories):
        agent_type, _, agent_id = path.partition("/")[2].partition("_")
        fold_memory(store, agent_type, agent_id)
    for finding in report.findings:
        if finding.kind is FindingKind.ROW:
            recount(store, finding.path, force=True)
        elif finding.kind is FindingKind.EVENT:
            event = store.read(finding.path)
            if event is not None and not event.data.get("counted"):
                derive_event(store, event)
    swept_at = store.now()
    roll_up.fold({**swept_figures(store, swept_at), "swept_at": swept_at})
    report.repaired = report.drift
    return report


def _nested(flat: dict[tuple[str, ...], int]) -> Counts:
    nested: Counts = {}
    for path, count in flat.items():
        inner = nested
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = count
    return nested
