"""What tests of the outbox put into it, and where it goes: somewhere that fails as it is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from firestate.outbox.entries import NewEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EVENTS, STATES = "agent-coordination", "agent-state"
PLENTY = 10_000_000


class SentMessage(NamedTuple):
    """What a message says of itself, for whom it arrives at."""

    agent: str
    number: int
    is_snapshot: bool


def event(agent: str, number: int, size: int = 0) -> NewEntry:
    """Give the event of an agent with a number."""
    data = json.dumps([agent, number, False, "x" * size]).encode()
    return NewEntry(document=f"coordination/{agent}-{number}", agent=agent, topic=EVENTS, data=data)


def snapshot(agent: str, number: int, *, epoch: int = 1, size: int = 0) -> NewEntry:
    """Give a snapshot of an agent's only session; its number is its revision as well."""
    data = json.dumps([agent, number, True, "x" * size]).encode()
    return NewEntry(
        document=f"agent_states/{agent}",
        agent=agent,
        topic=STATES,
        data=data,
        order=(epoch, number),
    )


def said(data: bytes) -> SentMessage:
    """Read one back."""
    agent, number, is_snapshot, _ = json.loads(data)
    return SentMessage(agent, number, is_snapshot)


class Destination:
    """Keeps what arrives; `before` and `after` are called around each request, and may raise."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, list[SentMessage]]] = []
        self.before: Callable[[], object] = lambda: None
        self.after: Callable[[], object] = lambda: None

    def send(self, topic: str, messages: Sequence[bytes], _writer: str) -> None:
        self.before()
        self.requests.append((topic, [said(each) for each in messages]))
        self.after()

    @property
    def arrived(self) -> list[SentMessage]:
        return [each for _, messages in self.requests for each in messages]
