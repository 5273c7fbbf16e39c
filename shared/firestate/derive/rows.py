"""What an agent's ledger rows add up to: one part of its memory.

`replace_row` takes one row out and puts its successor in, at a cost that does not depend on how
many sessions the agent has had. Where the successor takes away what was the newest of its kind,
the next newest is not known here; it answers None, and the caller folds all rows once with
`fold_rows`. Both give the same part, a property test holds them together.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from firestate.counters.sums import added, subtracted
from firestate.derive.newest import Entry, replaced
from firestate.limits import MAX_ACTIVITIES, MAX_DECISIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from firestate.counters.contribution import Contribution

    Row = Mapping[str, Any]

PATTERNS = ("kinds", "tools")
COUNTED = ("tries", "successes", "cancelled", "timed", "duration_ms")


@dataclass(frozen=True, slots=True)
class RowsPart:
    """Sums over the rows, and the newest of what they hold.

    `counts`: sessions, tasks, memory, kinds, tools as nested whole numbers without zeros.
    `last_seen`: for kinds and tools, when each was last seen. `latest`: the session that began
    last, with its totals. `last_at`: the time of the last counted change.
    """

    counts: dict[str, Any] = field(default_factory=dict)
    last_seen: dict[str, dict[str, datetime]] = field(default_factory=dict)
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
    counts = added(part.counts, subtracted(_counts(after), _counts(before)))

    decisions = replaced(
        part.decisions,
        MAX_DECISIONS,
        _decisions(before, session_id),
        _decisions(after, session_id),
    )
    sessions = replaced(
        part.sessions, MAX_ACTIVITIES, _activity(old) if old else [], _activity(new)
    )
    last_seen = _last_seen(part.last_seen, counts, before, after)
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
    counts = {"sessions": 1, "tasks": contribution["tasks"], "memory": contribution["memory"]}
    for group in PATTERNS:
        counts[group] = {
            name: {key: pattern[key] for key in COUNTED}
            for name, pattern in contribution[group].items()
        }
    return counts


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
    seen: dict[str, dict[str, datetime]],
    counts: dict[str, Any],
    before: Contribution,
    after: Contribution,
) -> dict[str, dict[str, datetime]] | None:
    result = {}
    for group in PATTERNS:
        times = dict(seen.get(group, {}))
        old, new = before.get(group, {}), after.get(group, {})
        for name in old.keys() | new.keys():
            was = old.get(name, {}).get("last_seen")
            now = new.get(name, {}).get("last_seen")
            known = times.get(name)
            if name not in counts.get(group, {}):
                times.pop(name, None)
            elif now is not None and (known is None or now >= known):
                times[name] = now
            elif was is not None and was == known:
                return None
        result[group] = times
    return result


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
