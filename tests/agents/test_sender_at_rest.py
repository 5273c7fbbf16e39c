"""A sender that has nothing to send asks how the file is, and reads nothing that is in it."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from firestate.outbox.connection import Link
from firestate.outbox.entries import NewEntry
from firestate.outbox.file import Outbox
from firestate.outbox.sender import Sender
from tests.agents.outbox_fixtures import PLENTY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class Resting:
    """A sender whose turns are taken by hand, and how often it has looked for what waits."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.sent: list[bytes] = []
        self.looks = 0
        self.outbox = Outbox(path, most_bytes=PLENTY)
        self.sender = Sender(self.outbox, self, Link("the topics"), interval_seconds=0.0)
        waiting = self.outbox.waiting

        def counted(limit: int) -> Any:
            self.looks += 1
            return waiting(limit)

        monkeypatch.setattr(self.outbox, "waiting", counted)

    def send(self, topic: str, messages: Sequence[bytes], _writer: str) -> None:
        assert topic == "t"
        self.sent += messages

    def turns(self, count: int) -> int:
        """Take turns, and return how many of them have looked for what waits."""
        before = self.looks
        for _ in range(count):
            self.sender._turn()
        return self.looks - before

    def grow_quiet(self) -> None:
        """Let it be long since anybody has written."""
        for path in self.path.parent.glob(f"{self.path.name}*"):
            stat = path.stat()
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - 10**10))


@pytest.fixture
def resting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Resting]:
    found = Resting(tmp_path / "outbox.db", monkeypatch)
    put(found.outbox, "e1")
    found.turns(3)
    assert len(found.sent) == 1
    yield found
    found.sender.close()
    found.outbox.close()


def put(outbox: Outbox, event: str) -> None:
    outbox.put(NewEntry(f"coordination/{event}", "a", "t", event.encode()))


def test_it_looks_once_and_then_at_the_file_alone(resting: Resting) -> None:
    """Once nobody has written for some seconds."""
    assert resting.turns(5) == 5
    resting.grow_quiet()
    assert resting.turns(20) == 1


def test_what_another_process_has_put_is_sent_at_once(resting: Resting, tmp_path: Path) -> None:
    """Its write changes the file."""
    resting.grow_quiet()
    resting.turns(3)
    with closing(Outbox(tmp_path / "outbox.db", most_bytes=PLENTY)) as other:
        put(other, "e2")
        assert resting.turns(2) == 2
    assert resting.sent == [b"e1", b"e2"]


def test_it_looks_again_from_time_to_time(
    resting: Resting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent is forgotten by its age, and nobody writes for that."""
    resting.grow_quiet()
    resting.turns(3)
    monkeypatch.setattr("firestate.outbox.sender._REST_SECONDS", 0.0)
    assert resting.turns(3) == 3


def test_what_could_not_be_sent_is_no_rest(
    resting: Resting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again though nobody writes."""
    put(resting.outbox, "e2")

    def away(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(resting, "send", away)
        resting.grow_quiet()
        for _ in range(3):
            with pytest.raises(ConnectionError):
                resting.sender._turn()
    resting.grow_quiet()
    resting.turns(1)
    assert resting.sent == [b"e1", b"e2"]


def test_in_memory_it_looks_each_time() -> None:
    """There is no file that would tell."""
    with closing(Outbox(None, most_bytes=PLENTY)) as outbox:
        assert outbox.change_mark(0.0) is None
