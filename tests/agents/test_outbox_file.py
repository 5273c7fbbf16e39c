"""What an outbox keeps, replaces, refuses and forgets; what becomes of a file that is none."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from itertools import count, pairwise
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestate.errors import OutboxError, OutboxFullError
from firestate.outbox.file import Outbox
from firestate.outbox.open import open_outbox
from tests.agents.outbox_fixtures import PLENTY, event, said, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEAST = 98_304
"""Bytes of the smallest bound."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "outbox.db"


@pytest.fixture(params=["file", "memory"])
def outbox(request: pytest.FixtureRequest, path: Path) -> Iterator[Outbox]:
    made = Outbox(path if request.param == "file" else None, most_bytes=PLENTY)
    yield made
    made.close()


def waiting(outbox: Outbox) -> list[tuple[str, int]]:
    """Give what waits, each by its agent and number."""
    listed = outbox.waiting(10_000)
    data = outbox.data(listed)
    return [said(data[each])[:2] for each in listed]


def filled(outbox: Outbox, size: int, *, snapshots: bool) -> int:
    """Put until it is full; give how many it has taken."""
    for number in count():
        agent = f"a{number}"
        try:
            outbox.put(snapshot(agent, 1, size=size) if snapshots else event(agent, 1, size=size))
        except OutboxFullError:
            return number
    raise AssertionError


def test_a_snapshot_takes_the_place_of_the_former_one_and_events_stay(outbox: Outbox) -> None:
    for put in (snapshot("a", 1), event("a", 2), snapshot("b", 1), snapshot("a", 3), event("b", 2)):
        assert outbox.put(put)
    assert waiting(outbox) == [("a", 2), ("b", 1), ("a", 3), ("b", 2)]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4), st.booleans()), max_size=12))
def test_only_what_is_later_replaces_whether_sent_or_not(
    puts: list[tuple[int, int, bool]],
) -> None:
    outbox = Outbox(None, most_bytes=PLENTY)
    newest = (0, 0)
    for epoch, revision, sent in puts:
        taken = outbox.put(snapshot("a", 10 * epoch + revision, epoch=epoch))
        assert taken is ((epoch, 10 * epoch + revision) > newest)
        newest = max(newest, (epoch, 10 * epoch + revision))
        assert waiting(outbox) in ([], [("a", newest[1])])
        if sent:
            outbox.confirm(outbox.waiting(9))
            assert waiting(outbox) == []
    found = outbox.snapshot("agent_states/a")
    assert (found is not None and said(found).number) == (newest[1] if puts else False)
    outbox.close()


def test_what_was_replaced_while_it_was_sent_waits_on(outbox: Outbox) -> None:
    outbox.put(snapshot("a", 1))
    outbox.put(event("a", 2))
    sent = outbox.waiting(9)
    outbox.put(snapshot("a", 3))
    assert [said(each).number for each in outbox.data(sent).values()] == [2]
    outbox.confirm(sent)
    assert waiting(outbox) == [("a", 3)]


def test_the_order_is_that_of_the_calls_also_where_the_clock_is_set_back(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([50, 40, 40, 60, 10])
    monkeypatch.setattr("firestate.outbox.file.time.time_ns", lambda: next(times))
    for number in range(5):
        outbox.put(event("a", number))
    assert waiting(outbox) == [("a", number) for number in range(5)]


def test_two_that_put_in_the_same_nanosecond_lose_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firestate.outbox.file.time.time_ns", lambda: 7)
    one, other = (Outbox(path, most_bytes=PLENTY) for _ in range(2))
    for number in range(5):
        one.put(event("a", number))
        other.put(event("b", number))
    for agent in "ab":
        assert [n for a, n in waiting(one) if a == agent] == list(range(5))
    one.close()
    other.close()


@pytest.mark.parametrize("snapshots", [False, True])
def test_a_full_outbox_refuses_and_drops_nothing(path: Path, *, snapshots: bool) -> None:
    outbox = Outbox(path, most_bytes=0)
    taken = filled(outbox, 300, snapshots=snapshots)
    assert [agent for agent, _ in waiting(outbox)] == [f"a{number}" for number in range(taken)]
    assert outbox.size() <= LEAST
    with pytest.raises(OutboxFullError, match="outbox_bytes"):
        outbox.put(event("b", 1, size=5_000))
    outbox.close()
    again = Outbox(path, most_bytes=PLENTY)
    assert len(waiting(again)) == taken
    assert again.put(event("b", 1, size=5_000)), "the bound is the opener's"
    again.close()


@pytest.mark.parametrize("snapshots", [False, True])
@pytest.mark.parametrize("size", [0, 30, 200, 3_000])
def test_what_a_full_outbox_has_sent_is_noted_and_makes_room(
    path: Path, size: int, *, snapshots: bool
) -> None:
    outbox = Outbox(path, most_bytes=0)
    taken = filled(outbox, size, snapshots=snapshots)
    outbox.confirm(outbox.waiting(taken // 2))
    assert len(waiting(outbox)) == taken - taken // 2
    more = filled(outbox, size, snapshots=snapshots)
    assert more > 0
    outbox.confirm(outbox.waiting(10_000))
    assert waiting(outbox) == []
    assert outbox.put(event("b", 1, size=size))
    assert waiting(outbox) == [("b", 1)]
    outbox.close()


def test_what_was_sent_is_kept_for_a_while_and_then_forgotten(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firestate.outbox.file._KEPT_SENT", 3)
    for number in range(6):
        outbox.put(event("a", number))
    outbox.put(snapshot("a", 6))
    outbox.put(snapshot("b", 1))
    sent = [each for each in outbox.waiting(9) if each.agent == "a"]
    outbox.confirm(sent)
    outbox.tidy()
    kept = [said(each).number for each in outbox.newest(snapshots=False).values()]
    assert sorted(kept) == [3, 4, 5]
    assert len(outbox.newest(snapshots=True)) == 2
    monkeypatch.setattr("firestate.outbox.file._KEPT_SENT_SECONDS", -1)
    outbox.tidy()
    assert outbox.newest(snapshots=False) == {}
    assert outbox.newest(snapshots=True).keys() == {"agent_states/b"}
    assert waiting(outbox) == [("b", 1)]


def test_the_journal_begins_anew_where_it_is_large_though_others_write_all_the_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firestate.outbox.file._MOST_JOURNAL_BYTES", 500_000)
    outbox = Outbox(path, most_bytes=PLENTY)
    journal = path.with_name("outbox.db-wal")
    stopped = threading.Event()
    number = 0

    def save() -> None:
        nonlocal number
        while not stopped.is_set():
            number += 1
            outbox.put(snapshot("a", number, size=20_000))

    saving = threading.Thread(target=save)
    saving.start()
    sizes = [0]
    try:
        while number < 200 or not any(later < size for size, later in pairwise(sizes)):
            assert len(sizes) < 500, "it grows all the time"
            time.sleep(0.02)
            sizes.append(size_of(journal))
            outbox.tidy()
    finally:
        stopped.set()
        saving.join()
    found = outbox.snapshot("agent_states/a")
    assert found is not None
    assert said(found).number == number
    outbox.close()


@pytest.mark.parametrize(("free", "begins_anew"), [(10**12, False), (10**7, True), (0, True)])
def test_the_journal_leaves_room_on_a_small_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch, free: int, *, begins_anew: bool
) -> None:
    """It may be as large as a quarter of what is free: else it could not be written back."""
    monkeypatch.setattr("firestate.outbox.file.shutil.disk_usage", lambda _: _Usage(free))
    journal = path.with_name("outbox.db-wal")
    with closing(Outbox(path, most_bytes=PLENTY)) as outbox:
        for number in range(800):
            outbox.put(snapshot("a", number + 1, size=20_000))
        before = size_of(journal)
        assert before > 3_000_000
        outbox.tidy()
        assert (size_of(journal) < before) == begins_anew


def test_a_journal_that_fills_the_disk_is_written_back_though_nothing_can_be_forgotten(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing new can be written to a full disk; what the journal takes of it is given back."""
    monkeypatch.setattr("firestate.outbox.file.shutil.disk_usage", lambda _: _Usage(0))
    journal = path.with_name("outbox.db-wal")
    with closing(Outbox(path, most_bytes=PLENTY)) as outbox:
        for number in range(800):
            outbox.put(snapshot("a", number + 1, size=20_000))

        def full(*_: object, **__: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(outbox._connections, "change", full)
            with pytest.raises(OutboxError, match="disk is full"):
                outbox.tidy()
        assert size_of(journal) < 100_000
        outbox.put(snapshot("a", 801))


class _Usage(NamedTuple):
    free: int


def size_of(journal: Path) -> int:
    """Return its bytes; the last connection that is closed removes it."""
    return journal.stat().st_size if journal.exists() else 0


def test_a_journal_that_cannot_be_begun_anew_is_an_error_of_the_outbox(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firestate.outbox.file._MOST_JOURNAL_BYTES", 0)
    with closing(Outbox(path, most_bytes=PLENTY)) as outbox:
        outbox.put(event("a", 1))

        def refuse(_: str) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(outbox._connections, "rows_if_free", refuse)
        with pytest.raises(OutboxError, match="disk is full"):
            outbox.tidy()


ERASED = """
import resource, sys, tempfile
from pathlib import Path
from firestate.outbox.entries import NewEntry
from firestate.outbox.file import Outbox
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
def peak():
    if not CLEAR.exists():  # no Linux, where that would be the peak of whoever began this process
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (line,) = [each for each in STATUS.read_text().splitlines() if each.startswith("VmHWM")]
    return int(line.split()[1])
with tempfile.TemporaryDirectory() as folder:
    outbox = Outbox(Path(folder) / "outbox.db", most_bytes=10 ** 9)
    for number in range(60):
        outbox.put(NewEntry(f"coordination/{number}", "a", "t", bytes(1_000_000)))
    outbox.tidy()
    outbox.note_deletion()
    if CLEAR.exists():
        CLEAR.write_text("5")
    before = peak()
    while not outbox.erase():
        pass
    print(peak() - before)
"""


def test_what_is_deleted_is_erased_without_the_whole_file_in_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ERASED], capture_output=True, text=True, check=True
    )
    unit = 1024 if sys.platform == "linux" else 1  # of Linux it is in KiB
    assert int(done.stdout) * unit < 20_000_000, "of 60 MB"


def test_who_reads_the_outbox_keeps_the_journal_and_nobody_waits_for_that(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firestate.outbox.file._MOST_JOURNAL_BYTES", 50_000)
    outbox = Outbox(path, most_bytes=PLENTY)
    journal = path.with_name("outbox.db-wal")
    for number in range(1, 9):
        outbox.put(snapshot("a", number, size=20_000))
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM snapshots").fetchall()
        outbox.put(snapshot("a", 9, size=20_000))
        outbox.tidy()
        assert journal.stat().st_size > 50_000
        assert outbox.put(snapshot("a", 10, size=20_000))
    outbox.tidy()
    assert not journal.exists() or journal.stat().st_size == 0
    assert waiting(outbox) == [("a", 10)]
    outbox.close()


def test_depth_is_what_waits(outbox: Outbox) -> None:
    assert outbox.depth().messages == 0
    outbox.put(event("a", 1))
    outbox.put(snapshot("a", 2))
    first = outbox.waiting(1)
    depth = outbox.depth()
    assert (depth.messages, depth.since) == (2, first[0].seq / 1e9)
    outbox.confirm(outbox.waiting(9))
    assert (outbox.depth().messages, outbox.depth().since) == (0, None)


def test_a_damaged_file_is_put_aside_with_its_journal(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(b"nonsense" * 1_000)
    journal = path.with_name("outbox.db-wal")
    journal.write_bytes(b"also of value")
    outbox = open_outbox(path, most_bytes=PLENTY)
    outbox.put(event("a", 1))
    outbox.close()
    names = {each.name: each for each in path.parent.iterdir()}
    (aside,) = [name for name in names if "damaged" in name and name[-1].isdigit()]
    assert names[aside].read_bytes() == b"nonsense" * 1_000
    assert names[f"{aside}-wal"].read_bytes() == b"also of value"
    assert aside in caplog.text
    assert len(caplog.records) == 1
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchall() == [(1,)]
    connection.close()


def test_a_file_damaged_further_in_is_put_aside_and_the_new_one_stays_whole(path: Path) -> None:
    outbox = Outbox(path, most_bytes=PLENTY)
    outbox.put(event("a", 1))
    outbox.tidy()
    outbox.close()
    data = bytearray(path.read_bytes())
    data[100:4_096] = b"\xff" * 3_996
    path.write_bytes(data)
    outbox = open_outbox(path, most_bytes=PLENTY)
    assert outbox.path == path
    outbox.put(event("a", 2))
    outbox.tidy()
    other = Outbox(path, most_bytes=PLENTY)
    assert waiting(other) == [("a", 2)]
    other.close()
    outbox.close()
    assert len(list(path.parent.glob("*.damaged-*"))) >= 1


def test_where_no_file_can_be_it_is_kept_in_memory_and_that_is_said_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.write_text("a file where the folder would be")
    with pytest.raises(OutboxError, match="cannot be used"):
        Outbox(path, most_bytes=PLENTY)
    outbox = open_outbox(path, most_bytes=PLENTY)
    outbox.put(event("a", 1))
    assert waiting(outbox) == [("a", 1)]
    assert outbox.path is None
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    assert "kept in memory" in caplog.text
    outbox.close()


def test_an_outbox_that_is_closed_says_so(outbox: Outbox) -> None:
    outbox.close()
    with pytest.raises(OutboxError, match="closed"):
        outbox.put(event("a", 1))
    with pytest.raises(OutboxError):
        outbox.waiting(1)
