"""The audit on demand: everything counted once more, and compared.

All is read at one time of the store. What one commit writes must agree exactly at that time:
rows with shards, rows and events with memories. What follows by triggers may lag: a row behind
its state, an event not yet counted, `global_config` behind the shards. For as long as `grace` that
is counted as in flight; after it, it is drift.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from firestate.audit.differences import add, differences, flattened, groups_that_differ
from firestate.audit.findings import AuditReport, Finding, FindingKind
from firestate.audit.recount import recount_row, recount_state
from firestate.audit.recount_agent import (
    WORD_DEPTH,
    as_memories_show,
    recount_agent,
    recount_events,
)
from firestate.audit.recount_system import recount_system
from firestate.errors import PastNotKeptError
from firestate.ingest.states import EDITED
from firestate.pipeline.sweep import swept_figures
from firestate.queries import ALL_EVENTS, ALL_MEMORIES, ALL_ROWS, ALL_STATES, SHARDS
from firestate.schema.ids import CONTROLS, GLOBAL_CONFIG, SESSIONS, Identity, memory_path
from firestate.schema.messages import Tombstone
from firestate.schema.models import AgentState
from firestate.schema.values import digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from firestate.audit.recount import Flat
    from firestate.queries import Shape
    from firestate.stores.protocol import Store, Stored

DEFAULT_GRACE = timedelta(seconds=60)
_EVENT_LIFETIME = timedelta(days=90)
_FIELDS = AgentState.model_fields.keys() | Tombstone.model_fields.keys() | {"deleted"}
_OF_ROWS = ("sessions", "tasks")  # in learning_context; the rest of it is of events
_READABLE_PAST = timedelta(minutes=50)  # Firestore reads up to an hour back


class FullAudit:
    """One audit: `run` reads and compares; `drift` says by how much the shards are off."""

    def __init__(self, store: Store, grace: timedelta = DEFAULT_GRACE) -> None:
        """Take a store, and how long a trigger may take before its absence is drift."""
        self._store = store
        self._at = store.now()
        self._ripe = self._at - grace
        self._expected: Flat = {}
        # Figures by word, once a memory has put words of expired events together under `other`:
        # which words these were is no longer known.
        self._unknown: set[tuple[str, ...]] = set()
        self._at_two_paths: dict[Identity, tuple[tuple[int, int, bool], str]] = {}
        self._outdated: set[str] = set()
        self.report = AuditReport(self._at)
        self.shard_drift: Flat = {}

    def run(self) -> AuditReport:
        """Read everything at one time and compare; writes nothing."""
        rows = {row.path: row for row in self._read(ALL_ROWS)}
        self.report.rows = len(rows)
        self._check_states(rows)
        events = self._check_events()
        self._check_memories(rows, events)
        self._check_shards(rows)
        return self.report

    def _read(self, everything: Shape) -> Iterator[Stored]:
        return self._store.query(everything.query(), at=self._at)

    def _check_states(self, rows: dict[str, Stored]) -> None:
        for state in self._read(ALL_STATES):
            self.report.states += 1
            known = len(self.report.findings)
            try:
                self._place(state)
                self._check_fields(state)
                self._check_state(state, rows)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                # Somebody has edited it into a form that is not counted: the others are audited.
                if len(self.report.findings) == known:
                    reason = f"cannot be read: {type(error).__name__}"
                    self._find(FindingKind.STATE, state.path, "document", "a state", reason)
        outdated = self._outdated
        self.report.findings = [f for f in self.report.findings if f.path not in outdated]

    def _check_state(self, state: Stored, rows: dict[str, Stored]) -> None:
        """Compare a state with its row, and its contribution with a recount."""
        data = state.data
        path = (
            f"{memory_path(data['agent_type'], data['agent_id'])}/{SESSIONS}/{data['session_id']}"
        )
        row = rows.get(path)
        worth = recount_state(data)
        if data["contribution"] != worth:
            self._find(FindingKind.ROW, state.path, "contribution", worth, data["contribution"])
        elif row is None or row.data["version"] != data["counted_version"]:
            found = row.data["version"] if row else None
            ahead = found is not None and _later(found, data["counted_version"])
            if state.updated_at > self._ripe and not ahead:
                self.report.in_flight += 1
            else:
                expected = data["counted_version"]
                self._find(FindingKind.ROW, state.path, "version", expected, found)
        elif (counted := row.data["contribution"]) != worth:
            self._find(FindingKind.ROW, state.path, "row", worth, counted)
        elif row.data["counted_at"] != data["counted_at"]:
            found_at, expected_at = row.data["counted_at"], data["counted_at"]
            self._find(FindingKind.ROW, state.path, "counted_at", expected_at, found_at)
        elif (errors := row.data.get("task_errors", {})) != worth.get("task_errors", {}):
            expected = worth.get("task_errors", {})
            self._find(FindingKind.ROW, state.path, "task_errors", expected, errors)

    def _place(self, state: Stored) -> None:
        """Note a state that is not where it belongs; of two of one identity, the earlier one.

        While two releases run beside each other each writes at its own path. The earlier state
        is left over: what is wrong with it counts nothing, and `rederive` removes it.
        """
        identity = Identity(*(state.data[name] for name in Identity._fields))
        if state.path not in identity.state_paths:
            # Its agent's next message would find another identity's document here.
            self._find(FindingKind.STATE, state.path, "identity", state.id, "/".join(identity))
        if len(identity.state_paths) == 1:
            return
        self.report.at_former_paths += state.path != identity.state_path
        order = (state.data["epoch"], state.data["revision"], state.path == identity.state_path)
        known = self._at_two_paths.get(identity)
        if known is not None:
            self._outdated.add(min(known, (order, state.path))[1])
        self._at_two_paths[identity] = max(known or (order, ""), (order, state.path))

    def _check_fields(self, state: Stored) -> None:
        """Find fields that are not as ingest stored them: somebody has edited the document."""
        digests = state.data["digests"]
        names = (digests.keys() - {"contribution"}) | (_FIELDS & state.data.keys())
        for name in sorted(names):
            known = digests.get(name, "")
            if name in digests and known == EDITED:
                continue  # repaired before: the agent's next snapshot writes it
            if name not in state.data:
                self._find(FindingKind.STATE, state.path, name, "a value", None)
            elif digest(state.data[name]) != known:
                expected = "as the agent wrote it" if known else None
                self._find(FindingKind.STATE, state.path, name, expected, state.data[name])

    def _check_events(self) -> dict[str, list[dict[str, Any]]]:
        by_agent: dict[str, list[dict[str, Any]]] = {}
        for event in self._read(ALL_EVENTS):
            self.report.events += 1
            if event.data.get("counted"):
                source = memory_path(event.data["source_agent_type"], event.data["source_agent_id"])
                by_agent.setdefault(source, []).append(event.data)
            elif event.updated_at > self._ripe:
                self.report.in_flight += 1
            else:
                self._find(FindingKind.EVENT, event.path, "counted", expected=True, found=None)
        return by_agent

    def _check_memories(
        self, rows: dict[str, Stored], events: dict[str, list[dict[str, Any]]]
    ) -> None:
        by_agent: dict[str, list[dict[str, Any]]] = {}
        for path, row in rows.items():
            by_agent.setdefault(path.rpartition(f"/{SESSIONS}/")[0], []).append(row.data)
        seen = set()
        for memory in self._read(ALL_MEMORIES):
            self.report.memories += 1
            seen.add(memory.path)
            self._check_memory(memory, by_agent.get(memory.path, []), events.get(memory.path, []))
        for path in (by_agent.keys() | events.keys()) - seen:
            self._find(FindingKind.MEMORY, path, "document", "a document", None)
            self._expect(recount_events(events.get(path, [])))

    def _check_memory(
        self, memory: Stored, rows: list[dict[str, Any]], events: list[dict[str, Any]]
    ) -> None:
        expected = recount_agent(rows, events)
        learning = memory.data.get("learning_context")
        learning = learning if isinstance(learning, dict) else {}
        found = flattened({k: v for k, v in learning.items() if k not in _OF_ROWS})
        worth = recount_events(events)
        shown = as_memories_show(worth)
        counted = sum(found.get(("coordination", name), 0) for name in ("total", "cancelled"))
        expired = counted - len(events)
        if expired > 0 and self._may_have_expired(memory):
            # Their documents are gone after 90 days; what they added stays, and only a lower
            # bound of it can be recounted.
            self.report.expired_events += expired
            worth = shown = {
                path: max(shown.get(path, 0), found.get(path, 0)) for path in shown.keys() | found
            }
            self._unknown |= {
                path[:-1] for path in shown if len(path) == WORD_DEPTH and path[-1] == "other"
            }
            for name in ("decision_history", "recent_activity", "last_memory_sync", "counted"):
                expected.pop(name)
        for group, wanted, had in groups_that_differ(shown, found):
            self._find(FindingKind.MEMORY, memory.path, f"learning_context.{group}", wanted, had)
        self._expect(worth)
        for name in _OF_ROWS:
            if learning.get(name) != (value := expected.pop(name)):
                field = f"learning_context.{name}"
                self._find(FindingKind.MEMORY, memory.path, field, value, learning.get(name))
        for name, value in expected.items():
            if memory.data.get(name) != value:
                self._find(FindingKind.MEMORY, memory.path, name, value, memory.data.get(name))

    def _may_have_expired(self, memory: Stored) -> bool:
        counted = memory.data.get("counted")
        events = counted.get("events") if isinstance(counted, dict) else None
        first_at: datetime | None = events.get("first_at") if isinstance(events, dict) else None
        # Stored at most 30 days after its own time, an event lives for 90 days from then on.
        return first_at is not None and first_at < self._at - _EVENT_LIFETIME

    def _check_shards(self, rows: dict[str, Stored]) -> None:
        for row in rows.values():
            self._expect(
                recount_row(
                    row.data["agent_type"],
                    row.data["session_id"],
                    row.data["contribution"],
                    row.data.get("task_errors", {}),
                )
            )
        shards = list(self._read(SHARDS))
        found: Flat = {}
        for shard in shards:
            add(found, flattened(shard.data))
        self.shard_drift = {
            path: drift
            for path in self._expected.keys() | found.keys()
            if (drift := self._expected.get(path, 0) - found.get(path, 0))
            and path[:-1] not in self._unknown
        }
        for path in sorted(self.shard_drift):
            expected = self._expected.get(path, 0)
            self._find(
                FindingKind.SHARDS, SHARDS.collection, ".".join(path), expected, found.get(path, 0)
            )
        self._check_global(shards)

    def _check_global(self, shards: list[Stored]) -> None:
        stored = self._store.read(GLOBAL_CONFIG, at=self._at)
        if stored is None and not shards:
            return
        controls = self._store.read(CONTROLS, at=self._at)
        expected = recount_system(
            [shard.data for shard in shards], controls.data if controls else {}
        )
        metrics = stored.data.get("system_metrics") if stored else None
        swept_at = metrics.get("swept_at") if isinstance(metrics, dict) else None
        if swept_at is not None and swept_at > self._at - _READABLE_PAST:
            # Nobody can tell them any more where the local engine has deleted something since.
            with suppress(PastNotKeptError):
                expected["system_metrics"] |= swept_figures(self._store, swept_at)
        written = [*shards, *([controls] if controls else [])]
        newest = max((each.updated_at for each in written), default=self._ripe)
        found = stored.data if stored else {}
        wrong = list(differences(expected, found))
        folded_at = metrics.get("folded_at") if isinstance(metrics, dict) else None
        if wrong and newest > self._ripe and (folded_at is None or folded_at < newest):
            self.report.in_flight += 1
            return
        for name, value, actual in wrong:
            self._find(FindingKind.GLOBAL, GLOBAL_CONFIG, name, value, actual)

    def _expect(self, flat: Flat) -> None:
        add(self._expected, flat)

    def _find(
        self, kind: FindingKind, path: str, field: str, expected: object, found: object
    ) -> None:
        self.report.findings.append(Finding(kind, path, field, expected, found))


def _later(one: list[int], other: list[int]) -> bool:
    return (one[1:], one[0]) > (other[1:], other[0])
