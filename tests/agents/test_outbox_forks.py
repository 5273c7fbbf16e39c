"""One outbox file and many processes: opened by each, or carried into a child by a fork."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from firestate.outbox.connection import Link
from firestate.outbox.file import Outbox
from firestate.outbox.sender import Sender
from tests.agents.outbox_fixtures import PLENTY, event, said, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

FORK = multiprocessing.get_context("fork")
MANY = 40

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
"""That a fork with threads is a risk is known: this is what is tested."""


class Log:
    """Where all processes send to: a file, a line a request, each written at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def send(self, topic: str, messages: Sequence[bytes], _writer: str) -> None:
        line = json.dumps([os.getpid(), topic, [said(each) for each in messages]]) + "\n"
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(handle, line.encode())
        os.close(handle)

    def arrived(self) -> list[tuple[str, int]]:
        """Give agent and number of each, in the order in which they came."""
        lines = map(json.loads, self.path.read_text().splitlines())
        return [(each[0], each[1]) for _, _, messages in lines for each in messages]

    def senders(self) -> set[int]:
        return {json.loads(line)[0] for line in self.path.read_text().splitlines()}


def opened(path: Path, log: Log) -> tuple[Outbox, Sender]:
    outbox = Outbox(path, most_bytes=PLENTY)
    return outbox, Sender(outbox, log, Link("the test"), interval_seconds=0.05)


def say(outbox: Outbox, sender: Sender, agent: str) -> None:
    """Put events, with snapshots between them."""
    for number in range(MANY):
        outbox.put(event(agent, number))
        outbox.put(snapshot(agent, 1_000 + number))
        sender.wake()


def in_children(count: int, work: Callable[[int], None]) -> None:
    children = [FORK.Process(target=work, args=(number,)) for number in range(count)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0


def check(log: Log, agents: Sequence[str]) -> None:
    arrived = log.arrived()
    events = [each for each in arrived if each[1] < 1_000]
    assert max(Counter(events).values()) == 1
    for agent in agents:
        assert [number for who, number in events if who == agent] == list(range(MANY))
        assert [n for who, n in arrived if who == agent and n >= 1_000][-1] == 999 + MANY
    assert {who for who, _ in arrived} == set(agents)


def test_processes_that_share_a_file_send_all_of_it_once(tmp_path: Path) -> None:
    path, log = tmp_path / "outbox.db", Log(tmp_path / "log")

    def work(number: int) -> None:
        outbox, sender = opened(path, log)
        say(outbox, sender, f"child{number}")
        assert sender.flush(30)
        sender.close()
        outbox.close()

    in_children(4, work)
    check(log, [f"child{number}" for number in range(4)])


def test_after_a_fork_parent_and_child_both_go_on(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    outbox, sender = opened(tmp_path / "outbox.db", log)
    say(outbox, sender, "early")
    assert sender.flush(30), "from here on it has the lock"
    threads = [
        threading.Thread(target=say, args=(outbox, sender, f"thread{number}"))
        for number in range(2)
    ]
    for thread in threads:
        thread.start()

    def work(number: int) -> None:
        say(outbox, sender, f"child{number}")
        assert sender.flush(30)

    in_children(3, work)
    for thread in threads:
        thread.join()
    say(outbox, sender, "parent")
    assert sender.flush(30)
    sender.close()
    assert outbox.waiting(1) == []
    outbox.close()
    check(
        log,
        ["early", "parent", *(f"child{n}" for n in range(3)), *(f"thread{n}" for n in range(2))],
    )
    assert log.senders() == {os.getpid()}, "the lock is the parent's as long as it lives"


def test_a_child_sends_by_itself_once_its_parent_does_not(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    outbox, sender = opened(tmp_path / "outbox.db", log)
    outbox.put(event("early", 0))
    assert sender.flush(30)

    def work(number: int) -> None:
        say(outbox, sender, f"child{number}")
        assert sender.flush(30)

    child = FORK.Process(target=work, args=(0,))
    child.start()
    sender.close()
    child.join(60)
    assert child.exitcode == 0
    assert outbox.waiting(1) == []
    arrived = Counter(each for each in log.arrived() if each[1] < 1_000)
    assert arrived == Counter([("early", 0), *(("child0", number) for number in range(MANY))])
    outbox.close()


def test_an_outbox_in_memory_is_empty_in_a_child(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    outbox = Outbox(None, most_bytes=PLENTY)
    sender = Sender(outbox, log, Link("the test"), interval_seconds=0.0)
    outbox.put(event("parent", 1))

    def work(number: int) -> None:
        assert outbox.waiting(1) == []
        outbox.put(event("child", number))
        sender.wake()
        assert sender.flush(30)

    in_children(1, work)
    assert sender.flush(30)
    assert sorted(log.arrived()) == [("child", 0), ("parent", 1)]
    sender.close()
    outbox.close()


def test_a_fork_waits_until_nobody_is_inside_of_sqlite(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db", most_bytes=PLENTY)
    over = threading.Event()

    def be_busy() -> None:
        number = 0
        while not over.is_set():
            number += 1
            outbox.put(event("parent", number))
            outbox.confirm(outbox.waiting(5))
            outbox.tidy()

    busy = threading.Thread(target=be_busy)
    busy.start()
    for number in range(15):
        child = FORK.Process(target=outbox.put, args=(event("child", number),))
        child.start()
        child.join(20)
        code = child.exitcode
        child.kill()
        assert code == 0
    over.set()
    busy.join()
    outbox.close()


def test_a_parent_that_closes_leaves_the_file_to_its_child(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    outbox = Outbox(path, most_bytes=PLENTY)
    outbox.put(event("parent", 0))
    has_put, has_closed = FORK.Event(), FORK.Event()

    def work(number: int) -> None:
        outbox.put(event("child", number))
        has_put.set()
        assert has_closed.wait(20)
        outbox.put(event("child", number + 1))
        outbox.tidy()
        outbox.put(event("child", number + 2))

    child = FORK.Process(target=work, args=(0,))
    child.start()
    assert has_put.wait(20)
    outbox.close()
    Outbox(path, most_bytes=PLENTY).close()
    has_closed.set()
    child.join(20)
    assert child.exitcode == 0
    left = Outbox(path, most_bytes=PLENTY)
    waiting = left.waiting(10)
    found = [said(each)[:2] for each in left.data(waiting).values()]
    assert found == [("parent", 0), *(("child", number) for number in range(3))]
    left.close()
