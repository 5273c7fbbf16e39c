"""Putting right what an audit found.

Nothing here can harm, also where the audit is outdated:

- shards get the difference added, never a total set, and only if no other repair came between;
- the digest of an edited field of a state is cleared: the agent's next snapshot writes the field
  again, since what it was is not known here. An edited id is put back: the path tells it;
- a state's contribution is computed anew under a higher version, and goes through the ledger;
- an event that was never counted is counted the usual way, on its usual condition;
- a memory is folded anew from its rows and events, on condition that it has not changed meanwhile;
- `global_config` is folded again from the shards.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from firestate.audit.findings import AuditReport, FindingKind
from firestate.audit.full import DEFAULT_GRACE, FullAudit
from firestate.errors import DamagedDocumentError
from firestate.ingest.states import EDITED
from firestate.operations.rederive import recount
from firestate.pipeline.derive_event import derive_event
from firestate.pipeline.fold_memory import fold_memory
from firestate.pipeline.retry import retry_on_conflict
from firestate.pipeline.shard_audit import REPAIRS, repair_shards
from firestate.pipeline.sweep import swept_figures
from firestate.schema.ids import Identity, identities_joined_as, read_state_id
from firestate.schema.values import digest
from firestate.stores.protocol import Update

_NO_FIELDS = ("identity", "document")
"""What findings name beside fields of a state."""

if TYPE_CHECKING:
    from datetime import timedelta

    from firestate.counters.sums import Counts
    from firestate.pipeline.roll_up import RollUp
    from firestate.stores.protocol import Store


def audit_and_repair(
    store: Store, roll_up: RollUp, grace: timedelta = DEFAULT_GRACE
) -> AuditReport:
    """Audit; repair what was found; the report says what it was and how much was repaired.

    A state that cannot be read, or of which nothing tells whose it was, stays a finding.
    """
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
    left = _clear_digests(store, report)
    for finding in report.findings:
        if finding.kind is FindingKind.ROW:
            try:
                recount(store, finding.path, force=True)
            except DamagedDocumentError:
                left += 1  # it stays a finding until its agent writes it
        elif finding.kind is FindingKind.EVENT:
            event = store.read(finding.path)
            if event is not None and not event.data.get("counted"):
                derive_event(store, event)
    swept_at = store.now()
    roll_up.fold({**swept_figures(store, swept_at), "swept_at": swept_at})
    report.repaired = report.drift - left
    return report


def _clear_digests(store: Store, report: AuditReport) -> int:
    """Have the agents write again the fields that somebody has edited.

    Return how many findings nothing can be done about here.
    """
    edited: dict[str, list[str]] = {}
    for finding in report.findings:
        if finding.kind is FindingKind.STATE:
            edited.setdefault(finding.path, []).append(finding.field)

    def clear(path: str, names: list[str]) -> int:
        state = store.read(path, ["digests"])
        if state is None or not isinstance(digests := state.data.get("digests"), dict):
            return len(names)
        whose = _whose(path, digests)
        ids = [name for name in names if name in Identity._fields]
        if ids and whose is None:
            return len(names)  # nothing tells whose it was: it stays a finding
        restored = whose._asdict() if whose else {}
        edited = [name for name in names if name not in _NO_FIELDS and name not in ids]
        changes: dict[str, Any] = {name: restored[name] for name in ids}
        if edited:
            changes["digests"] = digests | dict.fromkeys(edited, EDITED)
        if changes:
            store.commit([Update(path, state.token, changes)])
        return sum(name in _NO_FIELDS for name in names) if not ids else 0

    return sum(
        retry_on_conflict(path, partial(clear, path, names)) for path, names in edited.items()
    )


def _whose(path: str, digests: dict[str, Any]) -> Identity | None:
    """Return the identity that a state's path and the digests of its parts name."""
    known = read_state_id(path.partition("/")[2])
    for identity in [*([known] if known is not None else []), *identities_joined_as(path)]:
        if all(digests.get(name) == digest(part) for name, part in identity._asdict().items()):
            return identity
    return None


def _nested(flat: dict[tuple[str, ...], int]) -> Counts:
    nested: Counts = {}
    for path, count in flat.items():
        inner = nested
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = count
    return nested
