"""What comes in and what is reported of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firestate.ingest.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class Delivery:
    """A Pub/Sub message as it was delivered."""

    topic: str
    data: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)
    message_id: str = ""

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context of the publisher, if it sent one."""
        return self.attributes.get("traceparent")


def printable(value: object) -> str:
    """Give text that every store takes: half of a surrogate pair is written out."""
    return str(value).encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one call of a function did, for its log line. Never a payload."""

    outcome: Outcome
    document: str = ""
    version: str = ""
    detail: str = ""
