"""The entries of a `memory_context`, counted by type and by importance."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from firestate.counters.labels import UNSPECIFIED, bounded, label

if TYPE_CHECKING:
    from collections.abc import Mapping

_IMPORTANCE_STEPS = 10
_LARGEST_IMPORTANCE = 1_000


def memory_counts(context: Mapping[str, Any], session_id: str) -> dict[str, Any]:
    """Count the entries that a session made itself: in all, by type, by importance."""
    types: Counter[str] = Counter()
    importance: Counter[str] = Counter()
    count = 0
    for entry in context.values():
        if not isinstance(entry, dict):
            count += 1
            continue
        if entry.get("session_id") not in (None, session_id):
            continue
        count += 1
        kind = entry.get("type", entry.get("memory_type"))
        if isinstance(kind, str):
            types[label(kind, UNSPECIFIED)] += 1
        if weight := _importance(entry.get("importance")):
            importance[weight] += 1
    return {
        "count": count,
        "types": bounded(types, int, int.__add__),
        "importance": bounded(importance, int, int.__add__),
    }


def _importance(value: object) -> str | None:
    """Words as they are; 0 to 1 in steps of a tenth (`0.7`); other numbers whole (`8`)."""
    if isinstance(value, str) and value:
        return label(value, UNSPECIFIED)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if 0 <= value <= 1:
        return f"{math.floor(value * _IMPORTANCE_STEPS) / _IMPORTANCE_STEPS:.1f}"
    return str(math.floor(value)) if abs(value) <= _LARGEST_IMPORTANCE else "other"
