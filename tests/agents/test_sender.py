"""The thread that empties an outbox: through outages, at its pace, one of many processes."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from contextlib import closing, contextmanager, suppress
from itertools import count, pairwise
from statistics import fmean
from typing import TYPE_CHECKING

import pytest

from firestate.errors import ConfigurationError, OutboxError, OutboxFullError, UnavailableError
from firestate.outbox.connection import Link, LinkState
from firestate.outbox.entries import NewEntry
from firestate.outbox.file import Outbox
from firestate.outbox.sender import Sender
from firestate.outbox.status import read_status
from tests.agents.environments import eventually
from tests.agents.outbox_fixtures import EVENTS, PLENTY, STATES, Destination, event, said, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from firestate.outbox.entries import PendingEntry


@contextmanager
def sending(
    outbox: Outbox, destination: Destination, interval_seconds: float = 0.0
) -> Iterator[tuple[Sender, Link]]:
    line = Link("the test")
    sender = Sender(outbox, destination, line, interval_seconds=interval_seconds)
    sender.start()
    try:
        yield sender, line
    finally:
        sender.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    made = Outbox(path, most_bytes=PLENTY)
    yield made
    made.close()


@pytest.fixture
def destination() -> Destination:
    return Destination()


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("no network"),
        ConfigurationError("no right"),
        OSError("odd"),
        ValueError("nobody thought of it"),
        MemoryError(),
    ],
)
def test_an_outage_is_told_once_and_nothing_is_lost_in_it(
    outbox: Outbox, destination: Destination, error: Exception
) -> None:
    told: list[LinkState] = []

    def fail() -> None:
        raise error

    destination.before = fail
    with sending(outbox, destination) as (sender, line):
        line.on_change(told.append)
        outbox.put(event("a", 1))
        assert not sender.flush(0.3)
        outbox.put(snapshot("a", 2))
        eventually(lambda: line.is_lost)
        destination.before = lambda: None
        assert sender.flush(10)
        eventually(lambda: len(told) == 2)
    assert [each.number for each in destination.arrived] == [1, 2]
    assert [way.open for way in told] == [False, True]
    assert (str(error) or "MemoryError") in told[0].reason


def test_what_arrived_and_was_not_confirmed_comes_again(
    outbox: Outbox, destination: Destination
) -> None:
    answers = iter([UnavailableError("no answer")])

    def answer() -> None:
        for error in answers:
            raise error

    destination.after = answer
    with sending(outbox, destination) as (sender, _):
        outbox.put(event("a", 1))
        assert sender.flush(10)
    assert [each.number for each in destination.arrived] == [1, 1]


def test_snapshots_of_a_session_keep_their_pace_and_the_newest_arrives(
    outbox: Outbox, destination: Destination
) -> None:
    times: list[float] = []
    destination.before = lambda: times.append(time.monotonic())
    began = time.monotonic()
    with sending(outbox, destination, interval_seconds=0.3) as (sender, _):
        for number in range(1, 40):
            outbox.put(snapshot("a", number))
            sender.wake()
            time.sleep(0.02)
        outbox.put(event("a", 40))
        assert sender.flush(10)
    took = time.monotonic() - began
    snapshots = [
        (at, messages[0].number)
        for at, (topic, messages) in zip(times, destination.requests, strict=True)
        if topic == STATES
    ]
    assert 3 <= len(snapshots) <= took / 0.3 + 2
    assert snapshots[-1][1] == 39
    gaps = [later[0] - at for (at, _), later in pairwise(snapshots)]
    assert fmean(gaps) >= 0.29
    assert min(gaps) >= 0.15, "on a busy machine one request may begin late, and the next not"
    assert destination.requests[-1][0] == EVENTS, "what came after the snapshot waited with it"


def test_of_two_that_share_a_file_one_sends_and_the_other_takes_over(
    path: Path, outbox: Outbox
) -> None:
    first, second = Destination(), Destination()
    other = Outbox(path, most_bytes=PLENTY)
    with sending(outbox, first) as (sender, line):
        outbox.put(event("a", 1))
        assert sender.flush(10)
        with sending(other, second) as (taking_over, other_line):
            other.put(event("b", 1))
            assert taking_over.flush(10)
            assert other_line.state.open is None, "another process looks after it"
            assert [each.agent for each in first.arrived] == ["a", "b"]
            sender.close()
            outbox.put(event("a", 2))
            assert taking_over.flush(10)
            eventually(lambda: other_line.state.open)
        assert line.state.open is True
    assert [(each.agent, each.number) for each in second.arrived] == [("a", 2)]
    other.close()


@pytest.fixture(params=["file", "memory"])
def shared(request: pytest.FixtureRequest, path: Path) -> Iterator[Outbox]:
    made = Outbox(path if request.param == "file" else None, most_bytes=PLENTY)
    yield made
    made.close()


@contextmanager
def saving_all_the_time(outbox: Outbox) -> Iterator[None]:
    """Have others save their sessions all the time, and say something now and then."""
    stopped = threading.Event()

    def save() -> None:
        for number in count(1):
            if stopped.is_set():
                return
            outbox.put(snapshot(f"other-{number % 20}", number))
            outbox.put(event("talker", number))
            time.sleep(0.002)

    thread = threading.Thread(target=save)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def test_a_flush_ends_once_what_was_saved_before_has_gone_whatever_others_save(
    shared: Outbox, destination: Destination
) -> None:
    with (
        sending(shared, destination, interval_seconds=0.2) as (sender, _),
        saving_all_the_time(shared),
    ):
        for number in range(1, 8):
            shared.put(snapshot("a", 2 * number - 1), event("a", 2 * number))
            assert sender.flush(20)
            arrived = [each.number for each in destination.arrived if each.agent == "a"]
            assert arrived[-2:] == [2 * number - 1, 2 * number], "and nothing is given up early"
        assert shared.waiting(1), "the others went on"
    assert shared.flushes() == set()


def test_a_flush_is_answered_by_the_process_that_sends(path: Path, outbox: Outbox) -> None:
    first = Destination()
    other = Outbox(path, most_bytes=PLENTY)
    with sending(outbox, first) as (sender, _):
        outbox.put(event("a", 1))
        assert sender.flush(10)
        with (
            sending(other, Destination(), interval_seconds=0.2) as (asking, _),
            saving_all_the_time(outbox),
        ):
            for number in range(1, 4):
                other.put(event("b", number))
                assert asking.flush(20)
                sent = [each.number for each in first.arrived if each.agent == "b"]
                assert sent[-1] == number
            sender.close()  # and by the one that sends next
            other.put(event("b", 4))
            assert asking.flush(20)
    other.close()


def test_a_flush_whose_question_was_lost_with_the_file_asks_again(
    outbox: Outbox, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []
    ask = outbox.ask_flush

    def lose_the_first(flush_id: str) -> None:
        ask(flush_id)
        if not lost:
            outbox.forget_flush(flush_id)
        lost.append(flush_id)

    monkeypatch.setattr(outbox, "ask_flush", lose_the_first)
    with (
        sending(outbox, destination, interval_seconds=0.2) as (sender, _),
        saving_all_the_time(outbox),
    ):
        eventually(lambda: destination.arrived)
        assert sender.flush(20)
    assert len(lost) == 2


def test_what_a_flush_waits_for_is_known_of_more_messages_than_go_at_once(
    outbox: Outbox, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firestate.outbox.sender._MOST_WAITING", 3)
    for number in range(20):
        outbox.put(event("a", number))
    with sending(outbox, destination) as (sender, _), saving_all_the_time(outbox):
        assert sender.flush(20)
        arrived = [each.number for each in destination.arrived if each.agent == "a"]
        assert arrived == list(range(20))


def test_what_cannot_go_out_keeps_a_flush_waiting(outbox: Outbox, destination: Destination) -> None:
    held_back = NewEntry("agent_states/b", "b", "", b"", is_held_back=True)
    outbox.put(held_back, snapshot("b", 1))
    with sending(outbox, destination) as (sender, _), saving_all_the_time(outbox):
        assert not sender.flush(1)
        outbox.let_go("agent_states/b")
        assert sender.flush(20)


def test_what_is_held_back_just_as_it_is_looked_what_waits_does_not_go_out(
    outbox: Outbox, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = outbox.waiting

    def put_before(limit: int) -> list[PendingEntry]:
        monkeypatch.setattr(outbox, "waiting", waiting)
        outbox.put(NewEntry("agent_states/b", "b", "", b"", is_held_back=True), snapshot("b", 1))
        return waiting(limit)

    monkeypatch.setattr(outbox, "waiting", put_before)
    with sending(outbox, destination) as (sender, _):
        eventually(lambda: outbox.waiting == waiting)
        outbox.put(event("a", 1))
        eventually(lambda: destination.arrived)
        assert not sender.flush(0.3)
    assert [each.agent for each in destination.arrived] == ["a"]


def no_network() -> None:
    raise UnavailableError("no network")


def test_a_flush_keeps_to_its_time_where_another_program_has_locked_the_file(
    path: Path, outbox: Outbox, destination: Destination
) -> None:
    destination.before = no_network
    outbox.put(event("a", 1))
    with sending(outbox, destination) as (sender, _), closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        assert not sender.flush(0.5)
        assert time.monotonic() - began < 5, "the patience for a locked file is 10 s"
        other.execute("ROLLBACK")


def test_a_flush_that_cannot_be_answered_keeps_nothing_from_going_out(
    outbox: Outbox, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: str) -> None:
        raise OutboxError("the disk is full")

    monkeypatch.setattr(outbox, "note_flushed", full)
    outbox.ask_flush("of a process that was killed")
    with sending(outbox, destination):
        for number in (1, 2):
            outbox.put(event("a", number))
            eventually(lambda: len(destination.arrived) == number)  # noqa: B023 - at once


def test_a_sender_goes_on_after_its_folder_was_none_for_a_while(
    tmp_path: Path, destination: Destination
) -> None:
    folder, away = tmp_path / "folder", tmp_path / "away"
    outbox = Outbox(folder / "outbox.db", most_bytes=PLENTY)
    with sending(outbox, destination) as (sender, _):
        outbox.put(event("a", 1))
        assert sender.flush(10)
        folder.rename(away)
        folder.write_text("")
        time.sleep(2.5)  # longer than it waits between two times that it tidies up
        folder.unlink()
        away.rename(folder)
        outbox.put(event("a", 2))
        assert sender.flush(10)
    assert [each.number for each in destination.arrived] == [1, 2]
    outbox.close()


def test_a_flush_waits_for_what_was_carried_into_a_new_file(
    path: Path, outbox: Outbox, destination: Destination
) -> None:
    """Events have other places there."""
    destination.before = no_network
    found: list[bool] = []
    outbox.put(event("a", 1))
    with sending(outbox, destination) as (sender, _):
        thread = threading.Thread(target=lambda: found.append(sender.flush(6)))
        thread.start()
        eventually(lambda: sender._flushing)
        time.sleep(2.5)  # it has failed often, and waits for long
        for name in ("outbox.db", "outbox.db-wal", "outbox.db-shm"):
            path.with_name(name).unlink()
        with closing(Outbox(path, most_bytes=PLENTY)) as other:
            other.put(event("b", 2))
            time.sleep(0.6)
            outbox.put(event("c", 3))
            thread.join()
    assert destination.arrived == []
    assert found == [False]


@pytest.mark.parametrize("when", ["at rest", "before it arrives", "once it has arrived"])
def test_what_the_destination_has_lost_is_sent_again(
    outbox: Outbox, destination: Destination, when: str
) -> None:
    """Also what is just under way as it is lost: it is confirmed only then."""
    told: list[str] = []

    def tell() -> None:
        if not told:
            told.append(when)
            sender.send_again()

    with sending(outbox, destination) as (sender, _):
        outbox.put(event("a", 1))
        assert sender.flush(10)
        if when == "at rest":
            tell()
            eventually(lambda: len(destination.arrived) == 2)
        elif when == "before it arrives":
            destination.before = tell
        else:
            destination.after = tell
        outbox.put(event("a", 2))
        assert sender.flush(10)
    numbers = [each.number for each in destination.arrived]
    assert numbers.count(1) == 2
    assert numbers.count(2) == (1 if when == "at rest" else 2)


def test_a_flush_waits_for_what_is_lost_once_it_has_asked(
    outbox: Outbox, destination: Destination
) -> None:
    with sending(outbox, destination) as (sender, _):
        outbox.put(event("a", 1))
        assert sender.flush(10)

        def lose() -> None:
            eventually(outbox.flushes)
            destination.before = no_network
            sender.send_again()

        destination.after = lose
        outbox.put(event("a", 2))
        assert not sender.flush(1.5)
        eventually(lambda: len(outbox.waiting(-1)) == 2)
        destination.before = destination.after = lambda: None
        assert sender.flush(10)
    assert [each.number for each in destination.arrived] == [1, 2, 1, 2]


def test_a_flush_waits_for_what_is_lost_while_it_looks_whether_anything_waits(
    outbox: Outbox, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sending(outbox, destination) as (sender, _):
        outbox.put(event("a", 1))
        assert sender.flush(10)
        destination.before = no_network
        looked, losses = outbox.waiting, 0

        def lost_meanwhile(most: int) -> list[PendingEntry]:
            nonlocal losses
            found = looked(most)
            if threading.current_thread() is threading.main_thread() and not losses:
                losses += 1
                sender.send_again()
            return found

        monkeypatch.setattr(outbox, "waiting", lost_meanwhile)
        assert not sender.flush(1.5)
        assert losses


def test_a_large_journal_is_looked_for_four_times_a_second_and_not_at_each_turn(
    outbox: Outbox, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it cannot begin anew, since others read all the time, that takes no processor."""
    tidied: list[float] = []
    monkeypatch.setattr(outbox, "has_large_journal", lambda: True)
    monkeypatch.setattr(outbox, "tidy", lambda: tidied.append(time.monotonic()))
    with sending(outbox, destination) as (sender, _):
        for number in range(300):
            outbox.put(event("a", number + 1))
            sender.wake()
            time.sleep(0.005)
    assert len(destination.requests) > len(tidied) > 2
    assert all(later - earlier > 0.2 for earlier, later in pairwise(tidied))


def test_what_is_lost_as_a_sender_is_closed_is_sent_by_the_next(
    outbox: Outbox, destination: Destination
) -> None:
    with sending(outbox, destination) as (sender, _):
        outbox.put(event("a", 1))
        assert sender.flush(10)
        closing = threading.Thread(target=sender.close)

        def lose() -> None:
            destination.after = lambda: None
            closing.start()
            eventually(lambda: sender._closing)
            sender.send_again()

        destination.after = lose
        outbox.put(event("a", 2))
        eventually(lambda: sender._closing)
        closing.join()
    with sending(outbox, destination) as (after, _):
        assert after.flush(10)
    assert sorted(each.number for each in destination.arrived) == [1, 1, 2, 2]


@pytest.mark.parametrize("broken", ["send_again", "tidy"])
def test_what_cannot_be_noted_keeps_nothing_from_going_out(
    outbox: Outbox, destination: Destination, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OutboxError("the disk is full")

    monkeypatch.setattr(outbox, broken, refuse)
    with sending(outbox, destination) as (sender, _):
        sender.send_again()
        outbox.put(event("a", 1))
        eventually(lambda: destination.arrived)
        time.sleep(1.2)  # more than it waits between two times that it tidies up
        outbox.put(event("a", 2))
        eventually(lambda: destination.arrived[-1].number == 2)
        monkeypatch.undo()
        assert sender.flush(10)


def test_what_was_sent_and_cannot_be_noted_goes_out_once(
    path: Path, outbox: Outbox, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where another program locks the file, or its disk is full; what comes next goes out."""

    def refuse(_: object) -> None:
        raise OutboxError("the disk is full")

    monkeypatch.setattr(outbox, "confirm", refuse)
    with sending(outbox, destination) as (sender, link):
        for number in range(1, 5):
            outbox.put(event("a", number), snapshot("b", number))
            eventually(lambda: len(destination.arrived) == 2 * number)  # noqa: B023 - called here
        time.sleep(2.5)  # longer than it waits after a failure
        assert len(destination.arrived) == 8
        assert not link.state.open
        monkeypatch.undo()
        eventually(lambda: link.state.open)
        assert sender.flush(10)
    assert len(destination.arrived) == 8
    assert outbox.waiting(-1) == []
    assert read_status(path, oldest=1).failure is None


def test_what_was_sent_and_not_noted_goes_out_once_more_where_it_is_lost(
    outbox: Outbox, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That cannot be noted either, and what comes next goes out all the same."""

    def refuse(*_: object) -> None:
        raise OutboxError("the disk is full")

    monkeypatch.setattr(outbox, "confirm", refuse)
    monkeypatch.setattr(outbox, "send_again", refuse)
    with sending(outbox, destination) as (sender, _):
        outbox.put(event("a", 1))
        eventually(lambda: destination.arrived)
        sender.send_again()
        outbox.put(event("a", 2))
        eventually(lambda: len(destination.arrived) == 3)
        time.sleep(2.5)  # longer than it waits after a failure
        assert [each.number for each in destination.arrived].count(1) == 2
        assert [each.number for each in destination.arrived].count(2) == 1
        monkeypatch.undo()
        assert sender.flush(10)


def test_what_is_lost_is_noted_whole_or_not_at_all(path: Path, outbox: Outbox) -> None:
    """Else the half of it would go out again, and again."""
    outbox.put(event("a", 1), snapshot("b", 1))
    outbox.confirm(outbox.waiting(-1))
    with closing(sqlite3.connect(path)) as other:
        refused = "BEFORE UPDATE ON snapshots BEGIN SELECT RAISE(ABORT, 'no room'); END"
        other.execute(f"CREATE TRIGGER refused {refused}")
        with pytest.raises(OutboxError, match="no room"):
            outbox.send_again()
        assert outbox.waiting(-1) == []
        other.execute("DROP TRIGGER refused")
    outbox.send_again()
    assert len(outbox.waiting(-1)) == 2


def test_a_put_does_not_wait_where_what_is_lost_cannot_be_noted_for_a_lock(
    path: Path, outbox: Outbox, destination: Destination
) -> None:
    outbox.put(event("a", 1))
    with sending(outbox, destination) as (sender, _):
        assert sender.flush(10)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            sender.send_again()
            putting = threading.Thread(
                target=lambda: [outbox.put(event("a", number)) for number in range(2, 8)]
            )
            putting.start()
            putting.join(8)
            assert not putting.is_alive(), "it waits for the lock"
            other.execute("ROLLBACK")
        assert sender.flush(20)
    assert {each.number for each in destination.arrived} == {*range(1, 8)}


def test_what_is_let_go_beside_a_locked_file_is_held_back_there_until_it_has_come_in(
    path: Path, outbox: Outbox, destination: Destination
) -> None:
    """The snapshot in the file was begun unread: what was merged since takes its place."""
    held_back = NewEntry("agent_states/b", "b", "", b"", is_held_back=True)
    with sending(outbox, destination) as (sender, _):
        outbox.put(held_back, snapshot("b", 1))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            outbox.put(snapshot("b", 2, epoch=2))
            outbox.let_go("agent_states/b")
            time.sleep(1.0)
            other.execute("ROLLBACK")
        assert sender.flush(20)
    assert [each.number for each in destination.arrived] == [2]


def test_what_is_lost_as_the_outbox_is_replaced_too_is_sent_again(
    path: Path, outbox: Outbox, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is noted neither in the former file, nor in the new one before that holds anything."""
    retire, threads = outbox._connections.retire, []

    def retired() -> sqlite3.Connection | None:
        found = retire()
        thread = threading.Thread(target=outbox.send_again)
        thread.start()
        thread.join(0.3)  # it waits until all is carried over
        threads.append(thread)
        return found

    with sending(outbox, destination) as (sender, _):
        outbox.put(event("a", 1))
        assert sender.flush(10)
    monkeypatch.setattr(outbox._connections, "retire", retired)
    for name in ("outbox.db", "outbox.db-wal", "outbox.db-shm"):
        path.with_name(name).unlink()
    outbox._look_at = 0.0
    outbox.look()
    for thread in threads:
        thread.join()
    assert len(threads) == 1
    assert [said(each).number for each in outbox.data(outbox.waiting(10)).values()] == [1]


def test_a_full_outbox_takes_more_once_something_was_sent(path: Path) -> None:
    outbox, destination = Outbox(path, most_bytes=0), Destination()
    taken = 0
    with suppress(OutboxFullError):
        while outbox.put(event("a", taken, size=300)):
            taken += 1

    def is_taken() -> bool:
        with suppress(OutboxFullError):
            return outbox.put(event("a", taken, size=300))
        return False

    with sending(outbox, destination) as (sender, _):
        eventually(is_taken)
        assert sender.flush(10)
    assert [each.number for each in destination.arrived] == list(range(taken + 1))
    outbox.close()


def test_what_an_earlier_process_has_left_is_sent(path: Path, destination: Destination) -> None:
    earlier = Outbox(path, most_bytes=PLENTY)
    earlier.put(event("a", 1))
    earlier.put(snapshot("a", 2))
    earlier.close()
    outbox = Outbox(path, most_bytes=PLENTY)
    with sending(outbox, destination) as (sender, _):
        assert sender.flush(10)
    assert [each.number for each in destination.arrived] == [1, 2]
    outbox.close()


def test_a_sender_that_is_closed_sends_nothing_more(
    outbox: Outbox, destination: Destination
) -> None:
    with sending(outbox, destination) as (sender, _):
        sender.close()
        outbox.put(event("a", 1))
        assert not sender.flush(0.2)
    assert destination.arrived == []
    assert [said(each).number for each in outbox.newest(snapshots=False).values()] == [1]


def test_a_request_stays_below_what_is_taken_at_once(
    outbox: Outbox, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firestate.outbox.sender._MOST_BYTES", 1_000)
    for number in range(20):
        outbox.put(event("a", number, size=300))
    with sending(outbox, destination) as (sender, _):
        assert sender.flush(10)
    assert [len(messages) for _, messages in destination.requests] == [3] * 6 + [2]
    assert [each.number for each in destination.arrived] == list(range(20))


def test_an_unexpected_error_is_logged_with_where_it_was_raised(
    outbox: Outbox, destination: Destination, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        destination.before = lambda: None
        raise KeyError("x")

    destination.before = fail
    outbox.put(event("a", 1))
    with caplog.at_level(logging.ERROR), sending(outbox, destination) as (sender, _):
        assert sender.flush(10)
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert record.exc_info is not None
