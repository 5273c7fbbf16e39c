"""What `firestate outbox` tells of messages that wait, without touching them."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from firestate.errors import OutboxError, OutboxFullError, UnavailableError
from firestate.outbox.connection import Link
from firestate.outbox.entries import NewEntry
from firestate.outbox.file import Outbox
from firestate.outbox.sender import Sender
from firestate.outbox.sender_lock import SenderLock, is_sending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.conftest import Run

FOLDER = Path(".firestate")
PATH = FOLDER / "outbox-p.db"
MOST_BYTES = 10_000_000


def event(number: int) -> NewEntry:
    return NewEntry(
        document=f"coordination/e{number}", agent="a", topic="agent-coordination", data=b"x"
    )


def snapshot(revision: int) -> NewEntry:
    document = "agent_states/Developer_a_s1"
    return NewEntry(
        document=document, agent="a", topic="agent-state", data=b"y" * 10, order=(1, revision)
    )


@pytest.fixture
def outbox(run: Run) -> Iterator[Outbox]:
    """An outbox that is open all the while, in the empty folder of the command."""
    del run
    outbox = Outbox(PATH, most_bytes=MOST_BYTES)
    yield outbox
    outbox.close()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def contents() -> dict[str, bytes]:
    """All files but the journal's index, which writers and readers share."""
    return {
        path.name: path.read_bytes() for path in FOLDER.iterdir() if not path.name.endswith("-shm")
    }


def age(outbox: Outbox, seconds: float) -> None:
    outbox._rows("UPDATE events SET seq = seq - ?", (int(seconds * 1e9),))


class Way:
    """Where messages go, as long as it is open."""

    def __init__(self) -> None:
        self.closed: str | None = "no network"
        self.tries = 0

    def send(self, topic: str, messages: Sequence[bytes], writer: str) -> None:
        del topic, messages, writer
        self.tries += 1
        if self.closed is not None:
            raise UnavailableError(self.closed)


def test_what_waits(run: Run, outbox: Outbox) -> None:
    """How much, of which topics, since when, and that nobody sends it; over a minute is exit 1."""
    for number in range(7):
        outbox.put(event(number))
    outbox.put(snapshot(1))
    code, out, err = run("outbox")
    assert (code, err) == (0, "")
    assert "agent-coordination 7, agent-state 1" in out
    assert "outbox-p.db: no process sends it" in out
    assert "coordination/e4" in out
    assert "coordination/e5" not in out
    age(outbox, 61)
    code, out, _ = run("outbox", "--json")
    assert code == 1
    (found,) = json.loads(out)
    assert found["project"] == "p"
    assert found["messages"] == 8
    assert [each["topic"] for each in found["topics"]] == ["agent-coordination", "agent-state"]
    assert found["since"] == found["topics"][0]["since"] < found["topics"][1]["since"]
    assert [each["document"] for each in found["oldest"]] == [
        f"coordination/e{number}" for number in range(5)
    ]
    assert found["bytes_on_disk"] > 4_096
    assert (found["has_sender"], found["failure"], found["stuck"]) == (False, None, True)


def test_nothing_waits(run: Run, outbox: Outbox) -> None:
    """What was sent does not wait."""
    outbox.put(event(1))
    outbox.confirm(outbox.waiting(1))
    code, out, _ = run("outbox")
    assert code == 0
    assert "outbox-p.db: nothing waits." in out


def test_each_outbox_of_the_folder(run: Run, outbox: Outbox) -> None:
    """That of this machine and that of each project; or only the one that is named."""
    outbox.put(event(1))
    Outbox(FOLDER / "outbox.db", most_bytes=MOST_BYTES).close()
    chosen: list[tuple[tuple[str, ...], list[str | None]]] = [
        ((), ["p", None]),
        (("--project", "p"), ["p"]),
        (("--file", str(FOLDER / "state.db")), [None]),
        (("--folder", str(FOLDER.absolute())), ["p", None]),
    ]
    for arguments, projects in chosen:
        code, out, _ = run("outbox", *arguments, "--json")
        assert code == 0
        assert [each["project"] for each in json.loads(out)] == projects
    for wrong in (
        ("--project", "other"),
        ("--folder", "missing"),
        ("--file", "missing.db"),
        ("--file", "x.db", "--project", "p"),
    ):
        assert run("outbox", *wrong)[0] == 2
    assert not Path("missing").exists()


def test_no_outbox(run: Run) -> None:
    """A folder without one is well."""
    FOLDER.mkdir()
    assert run("outbox")[:2] == (0, "No outbox in .firestate: no agent has run with it.\n")
    assert run("outbox", "--json")[:2] == (0, "[]\n")


def test_why_it_waits(run: Run, outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sender's failure is told while it lasts, by the latest reason, from the first one on."""
    notes: list[str | None] = []

    def noting(reason: str | None) -> None:
        notes.append(reason)
        Outbox.note(outbox, reason)

    monkeypatch.setattr(outbox, "note", noting)
    way = Way()
    sender = Sender(outbox, way, Link("the test"), interval_seconds=0.0)
    outbox.put(event(1))
    sender.start()
    until(lambda: way.tries > 2)
    code, out, _ = run("outbox")
    assert code == 0
    assert "a process tries to send it and fails, first 0 s ago: no network" in out
    first = json.loads(run("outbox", "--json")[1])[0]
    assert first["has_sender"] is True
    way.closed = "no right \x1b[2J"
    until(lambda: len(notes) > 1)
    second = json.loads(run("outbox", "--json")[1])[0]
    assert second["failure"] == "no right \x1b[2J"
    assert second["failing_since"] == first["failing_since"]
    assert "no right \\u001b[2J" in run("outbox")[1]
    way.closed = None
    assert sender.flush(10)
    until(lambda: notes[-1] is None)
    found = json.loads(run("outbox", "--json")[1])[0]
    assert (found["messages"], found["failure"]) == (0, None)
    sender.close()
    assert notes == ["no network", "no right \x1b[2J", None], "noted on change alone"


def test_a_snapshot_that_is_renewed_is_stuck_all_the_same(run: Run, outbox: Outbox) -> None:
    """It is never old, but nothing has gone out for long."""
    outbox.note("no network")
    outbox._rows("UPDATE sender SET at = at - 61")
    outbox.put(snapshot(1))
    code, out, _ = run("outbox", "--json")
    assert code == 1
    assert json.loads(out)[0]["stuck"] is True


def test_a_success_clears_what_an_earlier_process_has_noted(run: Run, outbox: Outbox) -> None:
    """Whoever sends now knows how it is."""
    outbox.note("the failure of another day")
    outbox.put(event(1))
    assert "The last one failed (first 0 s ago): the failure of another" in run("outbox")[1]
    way = Way()
    way.closed = None
    sender = Sender(outbox, way, Link("the test"), interval_seconds=0.0)
    sender.start()
    assert sender.flush(10)
    until(lambda: not outbox._rows("SELECT * FROM sender"))
    sender.close()


def test_an_outbox_that_fails_does_not_end_the_sender(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on as soon as the file can be used again."""
    outbox.put(event(1))

    def refuse(*_: object) -> None:
        raise OutboxError("no disk")

    way = Way()
    way.closed = None
    sender = Sender(outbox, way, Link("the test"), interval_seconds=0.0)
    with monkeypatch.context() as patch:
        for name in ("waiting", "tidy", "note"):
            patch.setattr(outbox, name, refuse)
        sender.start()
        time.sleep(0.3)
    assert sender.flush(10)
    sender.close()


def test_a_note_fits_in_a_full_outbox(run: Run) -> None:
    """Just then somebody wants to know why."""
    del run
    outbox = Outbox(PATH, most_bytes=0)
    data = b"x" * 1_000
    puts = (NewEntry(document=f"d{n}", agent="a", topic="t", data=data) for n in range(1_000))
    with pytest.raises(OutboxFullError):
        any(not outbox.put(each) for each in puts)
    outbox.note("\U0001f525" * 2_000 + "\ud800")
    outbox.note("\ud800" * 2_000)
    assert outbox._rows("SELECT length(reason) > 900 FROM sender") == [(1,)]
    outbox.close()


KILLED = """
import os, sys
from pathlib import Path
from firestate.outbox.file import Outbox
from firestate.outbox.entries import NewEntry
outbox = Outbox(Path(sys.argv[1]), most_bytes=10_000_000)
outbox.put(NewEntry(document="coordination/e1", agent="a", topic="agent-coordination", data=b"x"))
os._exit(9)
"""


def test_nothing_is_changed(run: Run) -> None:
    """No file is made, none is written: closed, killed, or in use by another process."""
    Outbox(PATH, most_bytes=MOST_BYTES).close()
    before = contents()
    assert before.keys() == {"outbox-p.db"}
    assert run("outbox")[0] == 0
    assert contents() == before
    subprocess.run([sys.executable, "-c", KILLED, str(PATH)], check=False)
    before, files = contents(), sorted(FOLDER.iterdir())
    assert json.loads(run("outbox", "--json")[1])[0]["messages"] == 1
    assert contents() == before
    assert sorted(FOLDER.iterdir()) == files
    outbox = Outbox(PATH, most_bytes=MOST_BYTES)
    outbox.put(event(2))
    before = contents()
    assert json.loads(run("outbox", "--json")[1])[0]["messages"] == 2
    assert contents() == before
    outbox.close()


def test_an_outbox_of_an_earlier_release(run: Run, outbox: Outbox) -> None:
    """It has no note of the sender; whoever opens it to write makes room for one."""
    outbox.put(event(1))
    outbox._rows("DROP TABLE sender")
    outbox._rows("DROP TABLE changes")
    assert json.loads(run("outbox", "--json")[1])[0]["failure"] is None
    Outbox(PATH, most_bytes=MOST_BYTES).close()
    outbox.note("no network")
    assert json.loads(run("outbox", "--json")[1])[0]["failure"] == "no network"


def test_files_that_are_no_outbox(run: Run) -> None:
    """One line says which file it is, with exit code 3."""
    FOLDER.mkdir()
    PATH.write_bytes(b"nonsense" * 1_000)
    code, _, err = run("outbox")
    assert code == 3
    assert f"the outbox {PATH} cannot be used" in err
    assert len(err.splitlines()) == 1
    PATH.unlink()
    with sqlite3.connect(PATH) as connection:
        connection.execute("CREATE TABLE users (name TEXT)")
    connection.close()
    code, _, err = run("outbox")
    assert code == 3
    assert "the tables of another program" in err
    PATH.write_bytes(b"")  # about to be made
    assert run("outbox")[0] == 0


def test_the_lock_is_looked_at_and_left_alone(tmp_path: Path) -> None:
    """Neither made nor kept."""
    path = tmp_path / "outbox.db"
    assert not is_sending(path)
    assert not list(tmp_path.iterdir())
    lock = SenderLock(path)
    assert lock.acquire()
    assert is_sending(path)
    lock.release()
    assert not is_sending(path)
    assert SenderLock(path).acquire()
