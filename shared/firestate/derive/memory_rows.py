"""What an agent's ledger rows add up to: one part of its memory.

`replace_row` takes one row out and puts its successor in, at a cost that does not depend on how
many sessions the agent has had. Where the successor takes away what was the newest of its kind,
the next newest is not known here; it answers None, and the caller folds all rows once with
`fold_rows`. Both give the same part, a property test holds them together.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from firestate.counters.labels import OTHER
from firestate.counters.sums import added, subtracted
from firestate.derive.label_groups import Group, changed
from firestate.derive.newest_entries import Entry, replaced
from firestate.limits import MAX_ACTIVITIES, MAX_DECISIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from firestate.counters.contribution import Contribution

    Row = Mapping[str, Any]

PATTERNS = ("kinds", "tools")
GROUPS = (*PATTERNS, "memory_types", "importance")
COUNTED = ("tries", "successes", "cancelled", "timed", "duration_ms")


@dataclass(frozen=True, slots=True)
class RowsPart:
    """Sums over the rows, and the newest of what they hold.

    `counts`: sessions, tasks, memory_count and the GROUPS as nested whole numbers without zeros.
    `last_seen`: for kinds and tools, when each was last seen. `latest`: the session that began
    last, with its totals. `last_at`: the time of the last counted change.
    """

    counts: dict[str, Any] = field(default_factory=dict)
    last_seen: dict[str, dict[str, datetime]] = field(
        default_factory=lambda: {group: {} for group in PATTERNS}
    )
    decisions: list[Entry] = field(default_factory=list)
    sessions: list[Entry] = field(default_factory=list)
    latest: dict[str, Any] | None = None
    last_at: datetime | None = None


def fold_rows(rows: Iterable[Row]) -> RowsPart:
    """Fold rows, in any order."""
    part = RowsPart()
    for row in rows:
        grown = replace_row(part, None, row)
        if grown is None:  # pragma: no cover - adding never takes away
            message = "a fold that only adds cannot lose track"
            raise AssertionError(message)
        part = grown
    return part


def replace_row(part: RowsPart, old: Row | None, new: Row) -> RowsPart | None:
    """Give the part with `new` in place of `old` (None: a first row), or None: fold anew."""
    before = old["contribution"] if old else {}
    after = new["contribution"]
    session_id = new["session_id"]
    groups = _groups(part.counts, before, after)
    if groups is None:
        return None
    rest = {name: value for name, value in part.counts.items() if name not in GROUPS}
    counts = added(rest, subtracted(_counts(after), _counts(before)))
    counts |= {name: group.counts for name, group in groups.items() if group.counts}

    decisions = replaced(
        part.decisions,
        MAX_DECISIONS,
        _decisions(before, session_id),
        _decisions(after, session_id),
    )
    sessions = replaced(
        part.sessions, MAX_ACTIVITIES, _activity(old) if old else [], _activity(new)
    )
    last_seen = _last_seen(part.last_seen, groups, before, after)
    latest_known, latest = _latest(part.latest, session_id, after)
    last_at = new["counted_at"]
    if part.last_at is not None and last_at < part.last_at:
        if old and old["counted_at"] == part.last_at:
            return None
        last_at = part.last_at
    if decisions is None or sessions is None or last_seen is None or not latest_known:
        return None
    return replace(
        part,
        counts=counts,
        last_seen=last_seen,
        decisions=decisions,
        sessions=sessions,
        latest=latest,
        last_at=last_at,
    )


def _counts(contribution: Contribution) -> dict[str, Any]:
    if "status" not in contribution:  # a tombstone, or nothing yet
        return {}
    memory_count = contribution["memory"]["count"]
    return {"sessions": 1, "tasks": contribution["tasks"], "memory_count": memory_count}


def _labelled(contribution: Contribution) -> dict[str, dict[str, Any]]:
    if "status" not in contribution:
        return {}
    labelled = {
        group: {
            name: {key: pattern[key] for key in COUNTED}
            for name, pattern in contribution[group].items()
        }
        for group in PATTERNS
    }
    memory = contribution["memory"]
    return labelled | {"memory_types": memory["types"], "importance": memory["importance"]}


def _groups(
    counts: Mapping[str, Any], before: Contribution, after: Contribution
) -> dict[str, Group] | None:
    change = subtracted(_labelled(after), _labelled(before))
    found = {}
    for name in GROUPS:
        group = changed(counts.get(name, {}), change.get(name, {}))
        if group is None:
            return None
        found[name] = group
    return found


def _decisions(contribution: Contribution, session_id: str) -> list[Entry]:
    return [
        {"decision": "task", "session_id": session_id, **decision}
        for decision in contribution.get("decisions", ())
    ]


def _activity(row: Row) -> list[Entry]:
    status = row["contribution"].get("status")
    if status is None:
        return []
    return [
        {
            "activity": "session",
            "session_id": row["session_id"],
            "at": row["counted_at"],
            "status": status,
        }
    ]


def _last_seen(
    seen: Mapping[str, Mapping[str, datetime]],
    groups: Mapping[str, Group],
    before: Contribution,
    after: Contribution,
) -> dict[str, dict[str, datetime]] | None:
    result = {}
    for name in PATTERNS:
        old, new = before.get(name, {}), after.get(name, {})
        times = _times(seen[name], groups[name], old, new)
        if times is None:
            return None
        result[name] = times
    return result


def _times(
    seen: Mapping[str, datetime],
    group: Group,
    old: Mapping[str, Mapping[str, Any]],
    new: Mapping[str, Mapping[str, Any]],
) -> dict[str, datetime] | None:
    times = {label: time for label, time in seen.items() if label in group.counts}
    joining = [seen[label] for label in (*group.displaced, OTHER) if label in seen]
    if joining and OTHER in group.counts:
        times[OTHER] = max(joining)
    for label in old.keys() | new.keys():
        shown = label if label in group.counts else OTHER
        if shown not in group.counts:
            continue  # nothing of it is left
        was = old.get(label, {}).get("last_seen")
        now = new.get(label, {}).get("last_seen")
        known = times.get(shown)
        if now is not None and (known is None or now >= known):
            times[shown] = now
        elif was is not None and was == known:
            return None
    return times


def _latest(
    latest: dict[str, Any] | None, session_id: str, after: Contribution
) -> tuple[bool, dict[str, Any] | None]:
    if "status" in after:
        key = (after["created_at"], session_id)
        if latest is None or key >= (latest["created_at"], latest["session_id"]):
            kinds = after["kinds"].values()
            totals = {name: sum(kind[name] for kind in kinds) for name in COUNTED}
            return True, {"session_id": session_id, "created_at": after["created_at"], **totals}
    still_known = latest is None or latest["session_id"] != session_id
    return still_known, latest
