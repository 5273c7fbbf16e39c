"""What goes into an outbox, and what it tells of what is in there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class PendingEntry(NamedTuple):
    """A message that waits, without its bytes; `seq` is when it was put, in ns since 1970."""

    seq: int
    document: str
    is_snapshot: bool
    agent: str
    topic: str
    size: int


@dataclass(frozen=True, slots=True)
class OutboxDepth:
    """How much waits, and since when; `size` is of the whole file, in bytes."""

    messages: int
    since: float | None
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """A message to be kept; `order` is (epoch, revision) for a snapshot, None for an event."""

    document: str
    agent: str
    topic: str
    data: bytes
    order: tuple[int, int] | None = None
