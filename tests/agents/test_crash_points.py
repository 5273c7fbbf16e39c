"""A sender dies at any call that it makes: another goes on, and nothing is lost or overtaken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from firestate.errors import OutboxError, UnavailableError
from firestate.outbox.connection import Link
from firestate.outbox.file import Outbox
from firestate.outbox.sender import Sender
from tests.agents.outbox_fixtures import PLENTY, Destination, SentMessage, event, said, snapshot
from tests.harness import Crash

if TYPE_CHECKING:
    from pathlib import Path

    from firestate.outbox.entries import NewEntry

FIRST = [
    event("a", 1),
    snapshot("a", 2),
    event("b", 1),
    event("a", 3),
    event("a", 4),
    snapshot("b", 2),
    event("b", 3),
    snapshot("c", 1),
    event("a", 5),
]
LATER = [snapshot("a", 6), event("a", 7), snapshot("c", 2), event("c", 3)]
"""Put while the first are on their way."""


class Fault:
    """Raises at the call with the given number, before or after it was done; once."""

    def __init__(self, at: int, kind: type[BaseException], *, after: bool) -> None:
        self._at, self._kind, self._after = at, kind, after
        self.calls = 0

    def around(self, target: Any) -> Any:
        """Give an object whose methods are counted."""
        return _Counted(target, self)

    def call(self, method: Any, args: Any, kwargs: Any) -> Any:
        number, self.calls = self.calls, self.calls + 1
        if number == self._at and not self._after:
            raise self._kind
        result = method(*args, **kwargs)
        if number == self._at:
            raise self._kind
        return result


class _Counted:
    def __init__(self, target: Any, fault: Fault) -> None:
        self._target, self._fault = target, fault

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not callable(found):
            return found
        return lambda *args, **kwargs: self._fault.call(found, args, kwargs)


class Story:
    """An outbox file, one sender after the other, and where it all goes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.put: list[NewEntry] = []
        self.later = list(LATER)
        self.outbox = Outbox(path, most_bytes=PLENTY)
        self.destination = Destination()
        self.destination.before = self._say_more
        for each in FIRST:
            self._say(each)

    def _say(self, message: NewEntry) -> None:
        assert self.outbox.put(message)
        self.put.append(message)

    def _say_more(self) -> None:
        for _ in range(2):
            if self.later:
                self._say(self.later.pop(0))

    def send(self, fault: Fault, *, is_fatal: bool) -> None:
        """Send until nothing waits; after a fatal fault another process goes on."""
        sender = self._sender(fault)
        for _ in range(100):
            try:
                sender._turn()
            except (Crash, OutboxError, UnavailableError, OSError) as error:
                if not is_fatal:
                    sender._failed(str(error))
                    continue
                sender._lock.release()  # as the end of its process does
                self.outbox.close()
                self.outbox = Outbox(self.path, most_bytes=PLENTY)
                sender = self._sender(fault)
            if not self.outbox.waiting(1) and not self.later:
                break
        sender.close()

    def _sender(self, fault: Fault) -> Sender:
        outbox, destination = fault.around(self.outbox), fault.around(self.destination)
        return Sender(outbox, destination, Link("the test"), interval_seconds=0.0)

    def check(self) -> None:
        arrived = self.destination.arrived
        assert self.outbox.waiting(1) == []
        events = {said(each.data) for each in self.put if each.order is None}
        assert events == {each for each in arrived if not each.is_snapshot}
        for agent in "abc":
            own = [each for each in arrived if each.agent == agent]
            first = list(dict.fromkeys(own))
            assert first == sorted(first, key=lambda each: each.number), "overtaken"
            newest = max(said(e.data).number for e in self.put if e.agent == agent and e.order)
            snapshots = [each for each in own if each.is_snapshot]
            assert snapshots[-1] == SentMessage(agent, newest, is_snapshot=True)


@pytest.fixture(autouse=True)
def in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few messages make many requests and confirmations."""
    monkeypatch.setattr("firestate.outbox.sender._CONFIRMED_AT_ONCE", 2)
    monkeypatch.setattr("firestate.outbox.sender._MOST_WAITING", 7)
    monkeypatch.setattr("firestate.outbox.sender._FIRST_AGAIN", 3)


def run(path: Path, at: int, kind: type[BaseException], *, after: bool) -> Fault:
    story = Story(path)
    fault = Fault(at, kind, after=after)
    story.send(fault, is_fatal=kind is Crash)
    story.check()
    story.outbox.close()
    return fault


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", [Crash, UnavailableError, OutboxError, OSError])
def test_whatever_fails_all_arrives_in_order(
    tmp_path: Path, kind: type[BaseException], *, after: bool
) -> None:
    calls = run(tmp_path / "none", -1, Crash, after=False).calls
    assert calls > 20
    for at in range(calls):
        assert run(tmp_path / f"{at}", at, kind, after=after).calls > at


def test_two_deaths_one_after_the_other(tmp_path: Path) -> None:
    for first in range(0, 20, 3):
        for second in range(1, 9):
            story = Story(tmp_path / f"{first}-{second}")
            story.send(Fault(first, Crash, after=bool(second % 2)), is_fatal=True)
            for message in (snapshot("a", 8), event("a", 9), event("b", 4)):
                story._say(message)
            story.send(Fault(second, Crash, after=bool(first % 2)), is_fatal=True)
            story.check()
            story.outbox.close()


def test_without_faults_each_arrives_once(tmp_path: Path) -> None:
    story = Story(tmp_path / "outbox.db")
    story.send(Fault(-1, Crash, after=False), is_fatal=True)
    arrived = story.destination.arrived
    assert len(arrived) == len(set(arrived))
    story.check()
    story.outbox.close()
