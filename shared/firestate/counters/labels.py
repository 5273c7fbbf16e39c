"""Words of users that become keys of counters: bounded in length and number, and escaped."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from firestate.limits import MAX_LABEL_BYTES, MAX_LABELS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

V = TypeVar("V")

OTHER = "other"
UNSPECIFIED = "unspecified"
_RESERVED = re.compile(r"__.*__", re.DOTALL)


def label(value: Any, default: str) -> str:  # noqa: ANN401 - users put anything where a word belongs
    """Give `value` as a key: at most 128 bytes, never one that Firestore refuses.

    What is no text, or empty, is counted under `default`. Keys of the form `__x__` are reserved,
    so they get a `~` before them.
    """
    if not isinstance(value, str) or not value:
        return default
    text = _cut(value)
    # Looked at after the cut, which can make a reserved key of one that was none.
    return _cut(f"~{text}") if _RESERVED.fullmatch(text) else text


def _cut(text: str) -> str:
    return text.encode()[:MAX_LABEL_BYTES].decode(errors="ignore")


def bounded(
    counts: Mapping[str, V], weight: Callable[[V], int], add: Callable[[V, V], V]
) -> dict[str, V]:
    """Keep the 64 heaviest keys of `counts`; `add` the rest up under `other`.

    Ties go to the key that sorts first, so that equal content gives equal counters.
    """
    if len(counts) <= MAX_LABELS:
        return dict(counts)
    ranked = sorted(counts, key=lambda key: (-weight(counts[key]), key))
    kept = {key: counts[key] for key in ranked[: MAX_LABELS - 1] if key != OTHER}
    rest = [counts[key] for key in counts if key not in kept]
    total = rest[0]
    for value in rest[1:]:
        total = add(total, value)
    return {**kept, OTHER: total}
