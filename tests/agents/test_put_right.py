"""What is put right before it goes out is kept so: sent twice, it is the same both times."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from firestate.errors import UnavailableError
from firestate.outbox.connection import Link
from firestate.outbox.entries import NewEntry
from firestate.outbox.file import Outbox
from firestate.outbox.sender import Sender
from tests.agents.outbox_fixtures import EVENTS, PLENTY, STATES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class Destination:
    """Keeps what arrives, and says of the first request of each topic that it may not have."""

    def __init__(self) -> None:
        self.arrived: dict[str, list[bytes]] = {EVENTS: [], STATES: []}

    def send(self, topic: str, messages: Sequence[bytes], writer: str) -> None:
        assert writer
        self.arrived[topic] += messages
        if len(self.arrived[topic]) == 1:
            raise UnavailableError("no answer")


class Hand:
    """Puts a message right, each time in another way, unless it is right."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, message: dict[str, Any]) -> str | None:
        if "right" in message:
            return None
        self.times += 1
        message["right"] = self.times
        return (
            f"{message['path']}-right" if message["path"] == "coordination/e" else message["path"]
        )


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    made = Outbox(tmp_path / "outbox.db", most_bytes=PLENTY)
    yield made
    made.close()


def put(outbox: Outbox, path: str, order: tuple[int, int] | None = None) -> None:
    data = json.dumps({"path": path, "order": order}).encode()
    assert outbox.put(NewEntry(path, "a", STATES if order else EVENTS, data, order))


def test_what_is_put_right_goes_out_the_same_however_often(outbox: Outbox) -> None:
    """The own reads of it find it where it is stored from then on."""
    put(outbox, "coordination/e")
    put(outbox, "agent_states/s", (1, 1))
    destination, hand = Destination(), Hand()
    sender = Sender(outbox, destination, Link("x"), interval_seconds=0.0, put_right=hand)
    sender.start()
    try:
        assert sender.flush(30)
    finally:
        sender.close()
    assert hand.times == 2
    for topic, path in ((EVENTS, "coordination/e"), (STATES, "agent_states/s")):
        first, second = destination.arrived[topic]
        assert first == second
        assert json.loads(first)["path"] == path
        assert json.loads(first)["right"]
    assert list(outbox.newest(snapshots=False)) == ["coordination/e-right"]
    assert outbox.newest(snapshots=True)["agent_states/s"] == destination.arrived[STATES][0]


def test_what_has_replaced_it_meanwhile_stays(outbox: Outbox) -> None:
    """It is put right by itself."""
    put(outbox, "agent_states/s", (1, 1))
    (entry,) = outbox.waiting(9)
    put(outbox, "agent_states/s", (1, 2))
    outbox.correct(entry, entry.document, b"{}")
    kept = outbox.state("agent_states/s")
    assert kept is not None
    assert kept.message == b'{"path": "agent_states/s", "order": [1, 2]}'
