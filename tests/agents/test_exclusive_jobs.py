"""`Outbox.exclusively`: nobody else puts while a job runs; whatever befalls it locks nobody out."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from firestate import StateManager
from firestate.errors import OutboxError, OutboxFullError
from firestate.outbox.file import Outbox
from tests.agents.environments import eventually
from tests.agents.outbox_fixtures import PLENTY, event, said, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FORK = multiprocessing.get_context("fork")
_SHORT = 0.02


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have others wait for as long as it takes, however busy the machine."""
    monkeypatch.setattr("firestate.outbox.file._STUCK_SECONDS", 60.0)
    monkeypatch.setattr("firestate.worker._TURN_SECONDS", 60.0)
    monkeypatch.setattr("firestate.outbox.connections._LOCK_SECONDS", 60.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Callable[[], Outbox]]:
    """Open outboxes on one file, each as a process of its own would."""
    made: list[Outbox] = []

    def make(**options: Any) -> Outbox:
        made.append(Outbox(path, **{"most_bytes": PLENTY, **options}))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(params=["a process", "a thread", "a thread, in memory"])
def two(request: pytest.FixtureRequest, path: Path) -> Iterator[tuple[Outbox, Outbox]]:
    """Return an outbox, and what another process or another thread has of it."""
    outbox = Outbox(None if "memory" in request.param else path, most_bytes=PLENTY)
    other = Outbox(path, most_bytes=PLENTY) if request.param == "a process" else outbox
    yield outbox, other
    other.close()
    outbox.close()


def waiting(outbox: Outbox) -> list[tuple[str, int]]:
    listed = outbox.waiting(100)
    data = outbox.data(listed)
    return [said(data[each])[:2] for each in listed]


class Other(threading.Thread):
    """Somebody else who puts once."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__()
        self._outbox = outbox
        self.is_done = False

    def run(self) -> None:
        self._outbox.put(event("other", 1))
        self.is_done = True


def test_others_put_only_once_the_job_has(two: tuple[Outbox, Outbox]) -> None:
    outbox, other = two[0], Other(two[1])
    outbox.put(snapshot("a", 5))

    def job() -> str:
        other.start()
        time.sleep(_SHORT)
        assert not outbox.put(snapshot("a", 4)), "it does not follow: nothing is kept"
        time.sleep(_SHORT)
        assert not other.is_done
        assert outbox.head("agent_states/a") == (1, 5)
        assert outbox.put(snapshot("a", 6))
        if two[1] is not outbox:
            eventually(lambda: other.is_done)
        return "done"

    assert outbox.exclusively(job) == "done"
    other.join()
    assert sorted(waiting(outbox)) == [("a", 6), ("other", 1)]


@pytest.mark.parametrize("raises", [True, False])
def test_a_job_that_puts_nothing_locks_nobody_out_afterwards(
    two: tuple[Outbox, Outbox], *, raises: bool
) -> None:
    outbox, other = two

    def job() -> None:
        if raises:
            raise LookupError("a fault")

    if raises:
        with pytest.raises(LookupError, match="a fault"):
            outbox.exclusively(job)
    else:
        outbox.exclusively(job)
    assert other.put(event("a", 1))
    assert not other.has_spilled


def test_a_job_within_a_job_is_part_of_it(two: tuple[Outbox, Outbox]) -> None:
    outbox, other = two[0], Other(two[1])

    def job() -> None:
        outbox.exclusively(lambda: None)
        other.start()
        time.sleep(_SHORT)
        assert not other.is_done
        outbox.exclusively(lambda: outbox.put(snapshot("a", 1)))

    outbox.exclusively(job)
    other.join()
    assert sorted(waiting(outbox)) == [("a", 1), ("other", 1)]


def test_what_the_job_puts_is_refused_where_the_outbox_is_full(
    opened: Callable[..., Outbox],
) -> None:
    outbox, other = opened(most_bytes=1), opened()

    def job() -> None:
        number = 0
        while True:
            number += 1
            outbox.put(event("a", number, size=1_000))

    with pytest.raises(OutboxFullError):
        outbox.exclusively(job)
    with pytest.raises(OutboxFullError):
        outbox.exclusively(lambda: outbox.put(event("b", 1, size=100_000)))
    assert other.put(event("other", 1))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_in_the_middle_leaves_both_able_to_put(opened: Callable[[], Outbox]) -> None:
    outbox = opened()
    child = FORK.Process(target=lambda: outbox.put(event("child", 1)))

    def fork() -> None:
        child.start()
        child.join(20)

    def job() -> bool:
        forking = threading.Thread(target=fork)
        forking.start()
        forking.join()
        return outbox.put(event("parent", 1))

    assert outbox.exclusively(job)
    assert child.exitcode == 0
    assert sorted(waiting(outbox)) == [("child", 1), ("parent", 1)]


KILLED = """
import os, signal, sys
from pathlib import Path
from firestate.outbox.file import Outbox
outbox = Outbox(Path(sys.argv[1]), most_bytes=10**7)
outbox.exclusively(lambda: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_process_that_is_killed_in_the_middle_locks_nobody_out(
    path: Path, opened: Callable[[], Outbox]
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    outbox = opened()
    assert outbox.put(event("a", 1))
    assert not outbox.has_spilled


def test_other_processes_wait_for_a_long_job_and_take_it_for_no_other_program(
    opened: Callable[[], Outbox], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("firestate.outbox.connections._MOST_LOCKED_SECONDS", 60.0)
    outbox, other = opened(), Other(opened())

    def job() -> None:
        other.start()
        time.sleep(0.3)
        assert not other.is_done
        outbox.put(event("job", 1))

    outbox.exclusively(job)
    other.join()
    assert len(waiting(outbox)) == 2
    assert list(path.parent.glob("*-locked")) == []


def test_what_a_killed_job_has_left_keeps_nobody_waiting_for_long(
    opened: Callable[[], Outbox], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    outbox, mark = opened(), path.with_name(f"{path.name}-locked")
    mark.touch()
    os.utime(mark, (time.time() - 2, time.time() - 2))
    with closing(sqlite3.connect(path, isolation_level=None)) as program:
        program.execute("BEGIN IMMEDIATE")
        assert outbox.put(event("a", 1))
        assert outbox.has_spilled
    eventually(lambda: not outbox.has_spilled)


@pytest.mark.parametrize("raises", [True, False])
def test_a_signal_handler_may_put_while_its_thread_waits_for_the_job(
    opened: Callable[[], Outbox], monkeypatch: pytest.MonkeyPatch, *, raises: bool
) -> None:
    """Where it raises, the job has ended as the call does: nothing is put later."""
    monkeypatch.setattr("firestate.worker._TURN_SECONDS", _SHORT)
    outbox, begun, ended = opened(), threading.Event(), threading.Event()

    def handle(*_: object) -> None:
        if raises:
            raise KeyboardInterrupt
        outbox.put(event("handler", 1))

    def job() -> None:
        begun.set()
        time.sleep(5 * _SHORT)
        outbox.put(event("job", 1))
        ended.set()

    def interrupt() -> None:
        begun.wait()
        os.kill(os.getpid(), signal.SIGUSR1)

    former = signal.signal(signal.SIGUSR1, handle)
    thread = threading.Thread(target=interrupt)
    try:
        thread.start()
        with suppress(KeyboardInterrupt):
            outbox.exclusively(job)
        assert ended.is_set()
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert opened().put(event("other", 1))
    kept = {agent for agent, _ in waiting(outbox)}
    assert kept == {"other", "job"} | (set() if raises else {"handler"})


def test_a_job_that_has_not_begun_as_its_call_is_broken_off_never_does(
    opened: Callable[[], Outbox],
) -> None:
    """As behind a job of another thread."""
    outbox, begun, over = opened(), threading.Event(), threading.Event()

    def handle(*_: object) -> None:
        threading.Timer(_SHORT, over.set).start()
        raise KeyboardInterrupt

    def first() -> None:
        begun.set()
        over.wait()

    thread = threading.Thread(target=lambda: outbox.exclusively(first))
    thread.start()
    begun.wait()
    former = signal.signal(signal.SIGUSR1, handle)
    try:
        threading.Timer(_SHORT, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(KeyboardInterrupt):
            outbox.exclusively(lambda: outbox.put(event("job", 1)))
    finally:
        signal.signal(signal.SIGUSR1, former)
    thread.join()
    assert outbox.put(event("other", 1))
    assert waiting(outbox) == [("other", 1)]


FORKED = """
import os, signal, sys, threading, time
from pathlib import Path
from firestate.outbox.entries import NewEntry
from firestate.outbox.file import Outbox
outbox = Outbox(Path(sys.argv[1]), most_bytes=10**7)
children, begun = [], threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: children.append(os.fork()))

def job():
    begun.set()
    time.sleep(0.2)
    return outbox.put(NewEntry(f"coordination/{os.getpid()}", "a", "agent-coordination", b"{}"))

def interrupt():
    begun.wait()
    os.kill(os.getpid(), signal.SIGUSR1)

threading.Thread(target=interrupt).start()
assert outbox.exclusively(job)
if children == [0]:
    os._exit(0)
_, status = os.waitpid(children[0], 0)
sys.exit(status)
"""


def test_a_fork_by_a_signal_handler_leaves_both_to_end_what_they_do(
    path: Path, opened: Callable[[], Outbox]
) -> None:
    subprocess.run([sys.executable, "-c", FORKED, str(path)], check=True, timeout=60)
    assert len(opened().waiting(10)) == 2


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forks_at_any_time_disturb_no_job(opened: Callable[[], Outbox]) -> None:
    outbox, over, faults = opened(), threading.Event(), list[BaseException]()

    def work() -> None:
        number = 0
        try:
            while not over.is_set():
                number += 1
                outbox.exclusively(lambda: None)
                assert outbox.exclusively(lambda: outbox.put(event("a", number)))  # noqa: B023 - at once
        except BaseException as error:
            faults.append(error)
            raise

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(60):
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
    over.set()
    thread.join()
    assert faults == []


def test_the_job_runs_all_the_same_where_another_program_has_locked_the_file(
    opened: Callable[[], Outbox], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    outbox = opened()
    program = sqlite3.connect(path, isolation_level=None)
    program.execute("BEGIN IMMEDIATE")
    for number in (1, 2):
        assert outbox.exclusively(lambda: outbox.put(snapshot("a", number)))  # noqa: B023 - at once
        assert outbox.has_spilled
        assert outbox.head("agent_states/a") == (1, number)
    program.execute("ROLLBACK")
    eventually(lambda: not outbox.has_spilled)
    assert waiting(outbox) == [("a", 2)]


def test_what_the_job_puts_goes_to_the_file_that_is_there_by_then(
    opened: Callable[[], Outbox], path: Path
) -> None:
    outbox = opened()

    def job() -> bool:
        for each in path.parent.glob("outbox.db*"):
            each.unlink()
        outbox._look_at = 0.0  # as half a second later
        return outbox.put(event("a", 1))

    assert outbox.exclusively(job)
    assert waiting(opened()) == [("a", 1)]


def test_a_file_that_is_moved_in_the_middle_is_another_writer_from_there_on(
    opened: Callable[[], Outbox], path: Path
) -> None:
    outbox, elsewhere = opened(), path.with_name("elsewhere")
    elsewhere.mkdir()

    def job() -> bool:
        for each in path.parent.glob("outbox.db*"):
            each.rename(elsewhere / each.name)
        outbox._look_at = 0.0
        return outbox.put(event("a", 1))

    assert outbox.exclusively(job)
    with closing(Outbox(elsewhere / path.name, most_bytes=PLENTY)) as moved:
        assert moved.writer != outbox.writer


def test_a_job_that_finds_no_room_waits_for_that_where_it_is_in_nobody_s_way(
    tmp_path: Path,
) -> None:
    """The sender, which makes room, may need the thread on which such jobs run."""
    with StateManager("", folder=tmp_path, when_full="wait") as manager:
        submitter, tries = manager._runtime.submitter, list[bool]()

        def attempt() -> bool:
            tries.append(submitter.outbox.is_exclusive)
            if tries == [False, True]:
                raise OutboxFullError("x")
            return len(tries) > 3

        assert submitter.retry_exclusively(attempt)
        assert tries == [False, True, False, True]


def test_an_outbox_that_is_closed_says_so(opened: Callable[[], Outbox]) -> None:
    outbox = opened()
    outbox.close()
    with pytest.raises(OutboxError):
        outbox.exclusively(lambda: outbox.put(event("a", 1)))
