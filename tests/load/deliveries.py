"""What goes through the router, where to, and who may listen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Fault(Enum):
    """What is done to one delivery."""

    NONE = auto()
    DUPLICATE = auto()
    LOST_BEFORE = auto()
    LOST_AFTER = auto()


@dataclass(frozen=True, slots=True)
class Delivery:
    """A request to a function, as functions.yaml names it."""

    function: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def message_id(self) -> str:
        """The id in the function's log line: the event's, or the Pub/Sub message's."""
        events = [value for name, value in self.headers.items() if name.lower() == "ce-id"]
        return events[0] if events else _pushed_id(self.body)


@dataclass(slots=True)
class Address:
    """Where an instance of a function listens, and whether anything is to be sent there."""

    function: str
    number: int
    url: str
    open: bool = False


class Listener:
    """Is told what goes through the router; from many threads, and should not keep them."""

    def changed(self, delivery: Delivery) -> None:
        """Firestore tells of a change; each change once, in the order of the changes."""

    def handed_over(self, delivery: Delivery, address: Address) -> None:
        """A delivery is about to be sent to an instance."""

    def answered(self, delivery: Delivery, address: Address, status: int) -> None:
        """An instance has answered, or not within the limit, or not at all (503)."""


def _pushed_id(body: bytes) -> str:
    # Cheaper than parsing 10 MB of JSON: the id is at the end of what the emulator sends.
    tail = body[-400:].decode(errors="replace")
    return tail.partition('"messageId":')[2].split('"')[1]
