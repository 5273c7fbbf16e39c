"""Counts by label, bounded: the 64 labels that sort first, and all others together as `other`.

Each session brings at most 64 labels, but an agent has any number of sessions, and its memory is
one document. Which labels stay must not depend on the order of arrival, and must be known
without looking at all sessions. The first by name are such a choice, the heaviest are not:

    kept: a c d (of 3)   other: f g       b comes: a b c, and d joins f and g
                                          h comes: joins f and g
                                          c goes:  f should come up, but is not known any more
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from firestate.counters.labels import OTHER
from firestate.counters.sums import Counts, added
from firestate.limits import MAX_LABELS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Group(NamedTuple):
    """The counts after a change, and the labels that have joined `other` by it."""

    counts: Counts
    displaced: list[str]


def changed(counts: Counts, change: Mapping[str, Any]) -> Group | None:
    """Give the group after `change` was added; None where only a count of all can tell."""
    labels = counts.keys() - {OTHER}
    full = len(labels) >= MAX_LABELS
    last = max(labels, default="")
    result = counts
    for label, amount in change.items():
        beyond = full and label not in labels and label > last
        result = added(result, {OTHER if beyond else label: amount})
    if full and not labels <= result.keys():
        return None
    return first_labels(result)


def first_labels(counts: Counts) -> Group:
    """Give the group that `counts`, of however many labels, make."""
    displaced = sorted(counts.keys() - {OTHER})[MAX_LABELS:]
    for label in displaced:
        amount = counts[label]
        counts = added({k: v for k, v in counts.items() if k != label}, {OTHER: amount})
    return Group(counts, displaced)
