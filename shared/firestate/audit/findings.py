"""What an audit found, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime


class FindingKind(StrEnum):
    """What is wrong; each kind is repaired in its own way."""

    SHARDS = "shards"
    ROW = "row"
    STATE = "state"
    EVENT = "event"
    MEMORY = "memory"
    GLOBAL = "global"


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between what is stored and what a recount gives."""

    kind: FindingKind
    path: str
    field: str
    expected: Any
    found: Any

    def as_json(self) -> dict[str, Any]:
        """Give it for machines; values as text, since any of them can be a time."""
        return {
            "kind": self.kind.value,
            "document": self.path,
            "field": self.field,
            "expected": str(self.expected),
            "found": str(self.found),
        }


@dataclass(slots=True)
class AuditReport:
    """Everything an audit looked at and found, as of one read time."""

    read_at: datetime
    states: int = 0
    rows: int = 0
    events: int = 0
    memories: int = 0
    in_flight: int = 0
    expired_events: int = 0
    at_former_paths: int = 0
    """States that `firestate rederive` is still to move, outdated copies included."""
    findings: list[Finding] = field(default_factory=list)
    repaired: int = 0

    @property
    def drift(self) -> int:
        """How many differences were found, those repaired since included."""
        return len(self.findings)

    def as_json(self) -> dict[str, Any]:
        """Give it for machines."""
        return {
            "read_at": self.read_at.isoformat(),
            "states": self.states,
            "rows": self.rows,
            "events": self.events,
            "memories": self.memories,
            "in_flight": self.in_flight,
            "expired_events": self.expired_events,
            "at_former_paths": self.at_former_paths,
            "drift": self.drift,
            "repaired": self.repaired,
            "findings": [finding.as_json() for finding in self.findings],
        }
