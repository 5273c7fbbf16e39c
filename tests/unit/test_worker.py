"""Threads of our own: who calls them waits for no lock, and they go on whatever a job does."""

from __future__ import annotations

import _thread
import ast
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest

import firestate
from firestate.worker import Result, Thread, Turn, Wakeup, Worker
from tests.agents.environments import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG = 20.0
"""Seconds that nothing here takes unless it hangs."""


class OddError(BaseException):
    """No Exception: what only the caller may see."""


class Gate:
    """A job that waits until it is let go, and says when it has begun."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.go.wait(LONG)


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker("tested")
    yield made
    assert made.close(LONG)


# ---------------------------------------------------------------- Wakeup


@pytest.mark.parametrize("calls", [1, 2, 100])
def test_calls_before_a_wait_are_kept_and_are_one(calls: int) -> None:
    wakeup = Wakeup()
    for _ in range(calls):
        wakeup.call()
    assert wakeup.wait(0.0)
    assert not wakeup.wait(0.0)


def test_a_wait_without_a_call_ends_when_its_time_is_up() -> None:
    wakeup = Wakeup()
    assert not wakeup.wait(0.01)
    assert not wakeup.wait(-1.0)
    wakeup.call()
    assert wakeup.wait(0.0)


def test_a_call_ends_the_present_wait() -> None:
    wakeup, ended = Wakeup(), SimpleQueue[bool]()
    thread = threading.Thread(target=lambda: ended.put(wakeup.wait()), daemon=True)
    thread.start()
    wakeup.call()
    assert ended.get(timeout=LONG)
    thread.join(LONG)


# ---------------------------------------------------------------- Thread


def test_a_thread_started_by_many_many_times_runs_once() -> None:
    gate, runs = Gate(), list[int]()

    def target() -> None:
        runs.append(threading.get_ident())
        gate()

    thread = Thread("tested-once", target)
    assert thread.has_ended, "it was never begun"
    starters = [threading.Thread(target=thread.start) for _ in range(8)]
    for each in starters:
        each.start()
    for each in starters:
        each.join(LONG)
    assert gate.begun.wait(LONG)
    for _ in range(20):
        thread.start()
    assert [t.name for t in threading.enumerate()].count("tested-once") == 1
    assert not thread.has_ended
    gate.go.set()
    assert thread.join(LONG)
    thread.start()  # once it has ended as well
    assert thread.has_ended
    assert len(runs) == 1


def test_a_thread_whose_start_was_interrupted_before_it_was_noted_runs_once() -> None:
    gate, runs = Gate(), list[int]()

    def target() -> None:
        runs.append(1)
        gate()

    thread = Thread("tested-twice", target)
    thread.start()
    assert gate.begun.wait(LONG)
    thread._started = False  # as a signal leaves it that raises just before
    thread.start()
    gate.go.set()
    assert thread.join(LONG)
    eventually(lambda: "tested-twice" not in {t.name for t in threading.enumerate()})
    assert runs == [1]


def test_a_join_is_bounded() -> None:
    gate = Gate()
    thread = Thread("tested", gate)
    thread.start()
    began = time.monotonic()
    assert not thread.join(0.02)
    assert not thread.join(-1.0)
    assert time.monotonic() - began < LONG / 2
    gate.go.set()
    assert thread.join(LONG)


def test_a_thread_that_joins_itself_does_not_wait() -> None:
    told = SimpleQueue[tuple[bool, bool]]()
    thread = Thread("tested", lambda: told.put((thread.is_current, thread.join(LONG))))
    began = time.monotonic()
    thread.start()
    assert told.get(timeout=LONG) == (True, False)
    assert time.monotonic() - began < LONG / 2
    assert not thread.is_current
    assert thread.join(LONG)


def test_a_thread_that_fails_says_so_and_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    def target() -> None:
        raise ValueError("its own fault")

    thread = Thread("tested-faulty", target)
    thread.start()
    assert thread.join(LONG)
    assert "tested-faulty" in caplog.text
    assert "its own fault" in caplog.text


# ---------------------------------------------------------------- Worker


def test_jobs_run_in_the_order_in_which_they_were_handed_over(worker: Worker) -> None:
    done = list[int]()
    for number in range(200):
        if number % 3:
            worker.submit(lambda number=number: done.append(number))  # type: ignore[misc]
        else:
            worker.run(lambda number=number: done.append(number))  # type: ignore[misc]
            assert done == list(range(number + 1)), "those before it have run"
    assert worker.run(lambda: list(done)) == list(range(200))


def test_run_returns_what_the_job_returns_from_another_thread(worker: Worker) -> None:
    made = object()
    assert worker.run(lambda: made) is made
    assert worker.run(lambda: None) is None
    assert worker.run(threading.get_ident) != threading.get_ident()


@pytest.mark.parametrize(
    "error", [ValueError("a"), OddError("b"), KeyboardInterrupt(), SystemExit(3)], ids=repr
)
def test_run_raises_the_very_exception_of_the_job(worker: Worker, error: BaseException) -> None:
    def job() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        worker.run(job)
    assert raised.value is error
    assert worker.run(lambda: 7) == 7, "and goes on"


def test_run_on_its_own_thread_runs_at_once(worker: Worker) -> None:
    def outer() -> tuple[int, int]:
        return threading.get_ident(), worker.run(threading.get_ident)

    own, inner = worker.run(outer)
    assert own == inner


def test_a_job_that_raises_stops_nothing(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    def faulty() -> None:
        raise ValueError("a job of somebody")

    for _ in range(3):
        worker.submit(faulty)
    threads = {worker.run(threading.get_ident) for _ in range(3)}
    assert len(threads) == 1, "the same thread goes on"
    assert [each.levelname for each in caplog.records] == ["ERROR"] * 3
    assert "a job of somebody" in caplog.text


def test_close_waits_for_the_jobs_before_it_and_after_it_run_still_answers() -> None:
    worker, done = Worker("tested"), list[int]()
    for number in range(50):
        worker.submit(lambda number=number: done.append(number))  # type: ignore[misc]
    assert worker.close(LONG)
    assert worker.is_closed
    assert done == list(range(50))
    assert worker.run(lambda: 5) == 5
    assert worker.begin(lambda: 6).is_done
    with pytest.raises(OddError):
        worker.run(_raise_odd)
    assert worker.close(LONG), "once more does no harm"


def _raise_odd() -> None:
    raise OddError


def test_close_is_bounded_and_says_that_the_time_was_up() -> None:
    worker, gate = Worker("tested"), Gate()
    worker.submit(gate)
    assert gate.begun.wait(LONG)
    assert not worker.close(0.02)
    gate.go.set()
    assert worker.close(LONG)


def test_a_worker_that_was_never_used_closes_without_a_thread() -> None:
    worker = Worker("tested-never")
    assert worker.close(0.0)
    assert "tested-never" not in {t.name for t in threading.enumerate()}
    assert worker.run(lambda: 1) == 1


def test_a_job_left_behind_by_threads_that_have_ended_is_run_by_its_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("firestate.worker._LOOK_AGAIN_SECONDS", 0.01)
    worker, own = Worker("tested"), threading.get_ident()
    put = worker.submit

    def closed_in_between(job: Callable[[], object]) -> None:
        assert worker.close(LONG)
        put(job)

    worker.run(lambda: None)
    monkeypatch.setattr(worker, "submit", closed_in_between)
    assert worker.run(threading.get_ident) == own


def test_run_last_ends_the_threads_with_its_job() -> None:
    worker = Worker("tested-last")
    assert worker.run_last(lambda: 3) == 3
    eventually(lambda: all(each.has_ended for each in worker._threads))
    with pytest.raises(OddError):
        Worker("tested-last").run_last(_raise_odd)
    eventually(lambda: "tested-last" not in {t.name for t in threading.enumerate()})


def test_several_threads_run_several_jobs_at_once() -> None:
    worker, gates = Worker("tested", threads=3), [Gate() for _ in range(3)]
    for gate in gates:
        worker.submit(gate)
    assert all(gate.begun.wait(LONG) for gate in gates)
    for gate in gates:
        gate.go.set()
    assert worker.close(LONG)


def test_what_was_begun_can_be_waited_for_in_pieces(worker: Worker) -> None:
    gate = Gate()

    def job() -> str:
        gate()
        return "done"

    result = worker.begin(job)
    assert gate.begun.wait(LONG)
    assert not result.wait(0.01)
    assert not result.wait(-1.0)
    assert not result.is_done
    gate.go.set()
    assert result.wait(LONG)
    assert result.is_done
    assert result.wait(0.0), "however often it is asked"
    assert result.result() == "done"
    assert result.result() == "done"


def test_all_that_wait_for_a_result_have_it(worker: Worker) -> None:
    gate, told = Gate(), SimpleQueue[float]()
    result = worker.begin(gate)

    def wait() -> None:
        assert result.wait(LONG)
        told.put(time.monotonic())

    for _ in range(4):
        threading.Thread(target=wait, name="tested-waits", daemon=True).start()
    assert not result.wait(0.02)
    gate.go.set()
    ended = time.monotonic()
    assert all(told.get(timeout=LONG) - ended < LONG / 2 for _ in range(4))
    eventually(lambda: "tested-waits" not in {t.name for t in threading.enumerate()})


def test_a_result_runs_its_job_once() -> None:
    runs = list[int]()
    result: Result[None] = Result(lambda: runs.append(1))
    result.run()
    result.run()
    result.result()
    assert runs == [1]


# ---------------------------------------------------------------- Turn


class Inside:
    """Counts how many are inside at once."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.now = self.most = self.all = 0

    def visit(self) -> None:
        taken = self.turn.take()
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(0.0002)  # lets others in, if they can come in
        self.now -= 1
        self.all += 1
        self.turn.give(taken)

    def visit_by_many(self, threads: int = 6, visits: int = 15) -> None:
        def visitor() -> None:
            for _ in range(visits):
                self.visit()

        started = [threading.Thread(target=visitor, daemon=True) for _ in range(threads)]
        for each in started:
            each.start()
        for each in started:
            each.join(LONG)
        assert self.all == threads * visits


@pytest.fixture
def turn(monkeypatch: pytest.MonkeyPatch) -> Turn:
    # Long enough for a busy machine, so that nobody is let through who only waits for long.
    monkeypatch.setattr("firestate.worker._TURN_SECONDS", LONG)
    return Turn()


def test_one_at_a_time_has_the_turn(turn: Turn) -> None:
    inside = Inside(turn)
    inside.visit_by_many()
    assert inside.most == 1


def test_the_thread_that_has_the_turn_is_let_through(turn: Turn) -> None:
    taken = turn.take()
    began = time.monotonic()
    for _ in range(3):
        turn.give(turn.take())  # in a signal handler, say
    assert turn.take() is None
    assert time.monotonic() - began < LONG / 2
    got_in = SimpleQueue[str]()

    def other() -> None:
        turn.give(turn.take())
        got_in.put("in")

    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    time.sleep(0.02)  # it must not get in meanwhile: there is nothing to be waited for
    assert got_in.empty(), "what was let through has given nothing back"
    turn.give(taken)
    assert got_in.get(timeout=LONG) == "in"


def _take_and_end(turn: Turn) -> None:
    thread = threading.Thread(target=turn.take, daemon=True)
    thread.start()
    thread.join(LONG)


def test_a_turn_never_given_back_holds_up_for_a_moment_and_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turn = Turn()
    _take_and_end(turn)
    began = time.monotonic()
    turn.give(turn.take())
    assert 0.02 < time.monotonic() - began < LONG / 2, "it was waited for, and not for long"
    monkeypatch.setattr("firestate.worker._TURN_SECONDS", LONG)
    began = time.monotonic()
    for _ in range(5):
        turn.give(turn.take())
    assert time.monotonic() - began < LONG / 2, "once it was left behind, nobody waits"


def test_no_queue_is_waited_for_with_a_timeout() -> None:
    """In CPython 3.11 that may wait for ever: a process that SIGTERM ended hung once in 500 times.

    `SimpleQueue.get` goes on waiting where another thread has taken what it was woken for. Is the
    time up by then, the rest of it is below 0, which stands for no limit.
    """
    sources = Path(firestate.__file__).parent.rglob("*.py")
    found = [
        f"{source}:{node.lineno}"
        for source in sources
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", "") == "get"
        and any(keyword.arg in ("timeout", "block") for keyword in node.keywords)
    ]
    assert found == []


def test_after_a_turn_that_was_never_given_back_one_at_a_time_has_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turn = Turn()
    _take_and_end(turn)
    turn.give(turn.take())
    monkeypatch.setattr("firestate.worker._TURN_SECONDS", LONG)
    inside = Inside(turn)
    inside.visit_by_many()
    assert inside.most == 1


def test_a_turn_that_is_given_back_too_late_lets_nobody_else_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turn = Turn()
    old = SimpleQueue[_thread.LockType | None]()
    thread = threading.Thread(target=lambda: old.put(turn.take()), daemon=True)
    thread.start()
    late = old.get(timeout=LONG)
    thread.join(LONG)
    turn.give(turn.take())
    monkeypatch.setattr("firestate.worker._TURN_SECONDS", LONG)
    turn.give(late)
    inside = Inside(turn)
    inside.visit_by_many()
    assert inside.most == 1
