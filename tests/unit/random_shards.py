"""Random shards: whatever events and ledger rows add to them.

A new counter belongs here as well; test_new_counters.py says so where it is missing.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.unit.strategies import times

counts = st.integers(-2, 3)
figures: dict[str, Any] = dict.fromkeys(("total", "succeeded", "cancelled", "duration_ms"), counts)
by_event_type = st.dictionaries(
    st.sampled_from(["spawn", "error"]), st.fixed_dictionaries({}, optional=figures)
)
OF_EVENTS: dict[str, dict[str, Any]] = {
    "coordination": figures | {"by_type": by_event_type},
    "errors": {
        "by_event_type": st.dictionaries(st.just("error"), counts),
        "by_error_type": st.dictionaries(st.sampled_from(["A", "B"]), counts),
    },
}
OF_ROWS: dict[str, Any] = {
    "spawned": counts,
    "current": counts,
    "by_status": st.dictionaries(st.sampled_from(["idle", "busy"]), counts),
    "by_type": st.dictionaries(st.sampled_from(["Father", "QA"]), counts),
    "tasks": st.dictionaries(st.sampled_from(["completed", "failed", "cancelled"]), counts),
    "sessions": st.dictionaries(
        st.sampled_from(["s1", "s2", "s3"]),
        st.fixed_dictionaries({"agents": counts}, optional={"at": times}),
    ),
}
OF_ROWS_BESIDE_EVENTS: dict[str, dict[str, Any]] = {
    "errors": {"by_task_error_type": st.dictionaries(st.sampled_from(["A", "C"]), counts)},
}
"""What rows add to the groups of events."""
GROUPS = {name: group | OF_ROWS_BESIDE_EVENTS.get(name, {}) for name, group in OF_EVENTS.items()}
shards = st.fixed_dictionaries(
    {},
    optional=OF_ROWS
    | {name: st.fixed_dictionaries({}, optional=group) for name, group in GROUPS.items()},
)
CLOSED_OF_ROWS = ("by_status",)
"""The same of rows: counts by words of ours."""
CLOSED = ("by_type", "by_event_type")
"""Of events: counts by words of ours, of which there are five. All others are by users' words."""


def by_word(group: str) -> list[str]:
    """Give the members of a group of events that are counts by users' words."""
    return [name for name in GROUPS[group] if name.startswith("by_") and name not in CLOSED]
