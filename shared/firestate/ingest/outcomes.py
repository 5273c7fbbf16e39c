"""How a delivery can end. A passing fault is none of these: it is raised, and tried again."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """What became of a message or of a trigger."""

    STORED = "stored"
    SUPERSEDED = "superseded"
    DUPLICATE = "duplicate"
    QUARANTINED = "quarantined"
    COUNTED = "counted"
    UNCHANGED = "unchanged"
    IGNORED = "ignored"
    FOLDED = "folded"
    MERGED = "merged"
    SWEPT = "swept"
    MOVED = "moved"
    RELEASED = "released"
