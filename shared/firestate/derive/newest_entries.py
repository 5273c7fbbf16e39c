"""The newest entries of a set that is larger than what is kept of it.

A window holds the newest `most` entries. Adding to it is exact. Taking away is exact only while
enough entries remain that are at least as new as the oldest one kept: below that floor the
window knows nothing, and only a fold of everything can tell what should come up.

    kept:     9 8 7 6      floor 6, older ones unknown
    take 8, add 10:   10 9 7 6   exact
    take 8, add 3:    9 7 6 ?    unknown whether 5 or 4 was dropped before: None
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

Entry = dict[str, Any]


def entry_key(entry: Entry) -> tuple[Any, ...]:
    """Order entries by time, then by all that tells them apart: equal sets give equal lists."""
    kind = entry.get("decision") or entry.get("activity") or ""
    session_id, own_id = entry.get("session_id") or "", entry.get("id") or ""
    return (entry["at"], session_id, own_id, entry.get("attempt") or 0, kind)


def newest(entries: Iterable[Entry], most: int) -> list[Entry]:
    """Give the `most` newest of `entries`, newest first."""
    return sorted(entries, key=entry_key, reverse=True)[:most]


def replaced(
    window: list[Entry], most: int, taken: Iterable[Entry], added: Iterable[Entry]
) -> list[Entry] | None:
    """Give the window without `taken` and with `added`; None where it cannot be known."""
    gone = {entry_key(entry) for entry in taken}
    entries = [entry for entry in window if entry_key(entry) not in gone]
    entries += added
    if len(window) < most:
        return newest(entries, most)
    floor = entry_key(window[-1])
    known = newest((entry for entry in entries if entry_key(entry) >= floor), most)
    return known if len(known) == most else None
