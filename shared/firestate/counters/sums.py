"""Adding and subtracting counters: nested maps that end in whole numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Counts = dict[str, Any]


def added(one: Mapping[str, Any], other: Mapping[str, Any]) -> Counts:
    """`one + other`, map by map; what comes to zero is left out."""
    return _combined(one, other, 1)


def subtracted(one: Mapping[str, Any], other: Mapping[str, Any]) -> Counts:
    """`one - other`, map by map; what comes to zero is left out."""
    return _combined(one, other, -1)


def _combined(one: Mapping[str, Any], other: Mapping[str, Any], sign: int) -> Counts:
    result: Counts = {}
    for key in one.keys() | other.keys():
        left, right = one.get(key), other.get(key)
        if isinstance(left, dict) or isinstance(right, dict):
            if inner := _combined(left or {}, right or {}, sign):
                result[key] = inner
        elif total := (left or 0) + sign * (right or 0):
            result[key] = total
    return result


def milliseconds(seconds: float) -> int:
    """Return whole milliseconds, so that sums do not depend on the order of adding."""
    return round(seconds * 1000)
