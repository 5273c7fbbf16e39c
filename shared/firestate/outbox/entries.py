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


class NewEntry(NamedTuple):
    """A message to be kept; `order` is (epoch, revision) for a snapshot, None for an event.

    With `is_change`, the data are a change of the snapshot that is there (outbox/changes). With
    `is_expected` nothing is kept of it: it says of a session what is expected to be its newest.
    With `is_held_back` neither: it says that the session's snapshots are not to go out yet; with
    `is_let_go`, that they are.
    """

    document: str
    agent: str
    topic: str
    data: bytes
    order: tuple[int, int] | None = None
    is_change: bool = False
    is_expected: bool = False
    is_held_back: bool = False
    is_let_go: bool = False

    @property
    def kind(self) -> str:
        """What is put, in a word of outbox/sql."""
        if self.is_held_back:
            return "held back"
        if self.is_let_go:
            return "let go"
        if self.is_expected:
            return "expected"
        if self.order is None:
            return "event"
        return "change" if self.is_change else "snapshot"


class KeptState(NamedTuple):
    """The newest of a session in an outbox; `message` is None where its bytes are forgotten."""

    epoch: int
    revision: int
    message: bytes | None
