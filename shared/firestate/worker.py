"""Threads of our own, to which any thread hands work without ever holding a lock.

A signal handler, a `__del__` or a hook of another library may interrupt a call of ours at any
bytecode, raise, or call us again on the same thread. Whatever that thread holds then stays held:
Condition, Event, Thread.start and the executors of the standard library are Python code over locks,
and hang or leak there. So the threads of our users hold no lock while Python code of ours runs:
they change memory by single operations, put to the outbox by single statements of SQLite, and
leave all that needs a lock to the threads made here, which no signal interrupts.

What is used instead is written in C, and either done or not: `queue.SimpleQueue`, whose `put` may
interrupt itself, a bare lock, and `_thread.start_new_thread`. No queue is waited for with a
timeout: in CPython 3.11 that may wait for ever, where another thread was first and the time was up
just then (it goes on with what is left of the time, which is below 0 and stands for no limit).
"""

from __future__ import annotations

import _thread
import logging
import sys
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from firestate.forking import ForkSafe

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_LOG = logging.getLogger("firestate.worker")
_LOOK_SECONDS = 0.001
_LOOK_AGAIN_SECONDS = 0.2
_TURN_SECONDS = 0.1


def _said_by_a_free_lock() -> tuple[object, ...]:
    """Return the arguments of the RuntimeError of a lock that is released twice."""
    try:
        _thread.allocate_lock().release()
    except RuntimeError as error:
        return error.args
    raise AssertionError  # not reached: a lock begins free


_FREE = _said_by_a_free_lock()


class Wakeup:
    """A call to a thread that waits: calls that come before it waits are one call."""

    def __init__(self) -> None:
        """Nobody has called yet."""
        self._called = _thread.allocate_lock()
        self._called.acquire()

    def call(self) -> None:
        """Let the next `wait` return at once, or the present one."""
        try:
            self._called.release()
        except RuntimeError as error:
            # It was called before; unless a signal handler has raised, just here.
            if error.args != _FREE:
                raise

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait for a call and take it; return False if the time was up before."""
        timeout = -1 if timeout_seconds is None else max(0.0, timeout_seconds)
        return self._called.acquire(timeout=timeout)


class Turn:
    """Has one thread after the other do what all could do at once; for speed, and for nothing else.

    Who waits for too long goes on, and leaves the old turn behind: whoever had it was interrupted
    before it could be given back, or is what the waiting one has interrupted.
    """

    def __init__(self) -> None:
        """Nobody has the turn."""
        self._turn = _thread.allocate_lock()
        self._holder: int | None = None

    def take(self) -> _thread.LockType | None:
        """Wait for the turn, for a moment; return what is to be given back.

        None where this very thread has it, in a call that was interrupted by this one.
        """
        own = _thread.get_ident()
        if self._holder == own:
            return None
        turn = self._turn
        if not turn.acquire(timeout=_TURN_SECONDS):
            turn = _thread.allocate_lock()
            turn.acquire()
            self._turn = turn
        self._holder = own
        return turn

    def give(self, taken: _thread.LockType | None) -> None:
        """Return the turn to whoever waits for it."""
        if taken is not None:
            self._holder = None
            taken.release()


class Thread:
    """A daemon thread that may be started from anywhere, any number of times: one of it runs."""

    def __init__(self, name: str, target: Callable[[], None]) -> None:
        """Take its name, and what it does."""
        self._name = name
        self._target = target
        self._running = _thread.allocate_lock()
        self._started = False
        self._ended = False
        self._ident: int | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, or was never begun."""
        return self._ended or not self._started

    @property
    def is_current(self) -> bool:
        """Whether it is the thread that asks."""
        return self._ident == _thread.get_ident()

    def start(self) -> bool:
        """Start it, unless it was; return whether it could be.

        It cannot where the system has no more threads, and in Python 3.12 once a program ends.
        """
        if not self._started:
            # Noted afterwards: where a signal arrives in between, it is started once more, and the
            # second thread finds that the first one runs.
            try:
                _thread.start_new_thread(self._start, ())
            except RuntimeError:
                return False
            self._started = True
        return True

    def join(self, timeout_seconds: float) -> bool:
        """Wait until it has ended; return False if the time was up before, or it is the caller's.

        The wait is bounded, since the thread may wait for what the caller's own thread was doing
        when it was interrupted.
        """
        deadline = time.monotonic() + timeout_seconds
        while not self.has_ended:
            if self.is_current or sys.is_finalizing() or time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_SECONDS)
        return True

    def _start(self) -> None:
        # On a thread that no signal interrupts, `Thread.start` is safe; and the thread has a name.
        if self._running.acquire(blocking=False):
            try:
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
            except RuntimeError:
                self._run()  # then on this one, which has no name

    def _run(self) -> None:
        self._ident = _thread.get_ident()
        try:
            self._target()
        except Exception:  # noqa: BLE001 - nobody else would say so
            _LOG.exception("the thread %s has ended", self._name)
        finally:
            self._ended = True


class Result(Generic[T]):
    """What will come of a job that another thread runs."""

    def __init__(self, job: Callable[[], T]) -> None:
        """Take the job."""
        self._job: Callable[[], T] | None = job
        self._done = _thread.allocate_lock()
        self._done.acquire()
        self._value: T | None = None
        self._error: BaseException | None = None

    @property
    def is_done(self) -> bool:
        """Whether it has been run."""
        return self._job is None

    def run(self) -> None:
        """Run the job; once."""
        job = self._job
        if job is None:
            return
        try:
            self._value = job()
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            self._error = error
        self._job = None
        self._done.release()

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until it has been run; return False if the time was up before."""
        timeout = -1 if timeout_seconds is None else max(0.0, timeout_seconds)
        if not self.is_done and self._done.acquire(timeout=timeout):
            self._done.release()
        return self.is_done

    def result(self) -> T:
        """Wait, and return what the job returned, or raise what it raised."""
        self.wait()
        if self._error is not None:
            raise self._error
        return cast("T", self._value)


class Worker(ForkSafe):
    """Threads that run jobs, begun with the first of them; any thread may hand one over."""

    def __init__(self, name: str, *, threads: int = 1) -> None:
        """Have nothing to do yet."""
        super().__init__()
        self._name = name
        self._count = threads
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew: the threads, and what they were to do, are the parent's."""
        self._jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._threads = tuple(Thread(self._name, self._run) for _ in range(self._count))
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def is_current(self) -> bool:
        """Whether one of its threads is the one that asks."""
        return any(each.is_current for each in self._threads)

    def submit(self, job: Callable[[], object]) -> None:
        """Run a job soon, or now where there can be no thread; what it raises is logged."""
        self._jobs.put(job)
        started = [thread.start() for thread in self._threads]
        if not any(started):
            self._run_what_waits()

    def run(self, job: Callable[[], T]) -> T:
        """Run a job and return its result, or raise what it raises.

        On a thread of its own it is run at once: there it may be asked for by a `__del__`.
        """
        jobs = self._jobs
        result = self.begin(job)
        # It is run here where the threads have ended meanwhile, or are those of the parent: a
        # signal handler may have forked in the middle of this.
        while not result.wait(_LOOK_AGAIN_SECONDS):
            if (
                jobs is not self._jobs
                or sys.is_finalizing()
                or (self._closed and all(each.has_ended for each in self._threads))
            ):
                result.run()
        return result.result()

    def run_last(self, job: Callable[[], T]) -> T:
        """Run a job and return its result; the threads end with it."""
        result = self.begin(job)
        for _ in self._threads:
            self._jobs.put(None)
        return result.result()

    def begin(self, job: Callable[[], T]) -> Result[T]:
        """Run a job soon, and return where its result will be."""
        result: Result[T] = Result(job)
        if self._closed or sys.is_finalizing() or self.is_current:
            result.run()  # no other thread would
        else:
            self.submit(result.run)
        return result

    def close(self, timeout_seconds: float) -> bool:
        """End after the jobs that wait; return False if the time was up before."""
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        deadline = time.monotonic() + timeout_seconds
        ended = [each.join(deadline - time.monotonic()) for each in self._threads]
        return all(ended)

    def _run(self) -> None:
        jobs = self._jobs
        while (job := jobs.get()) is not None:
            self._run_one(job)
            del job  # what it holds is not kept until the next one comes

    def _run_what_waits(self) -> None:
        with suppress(Empty):
            while (job := self._jobs.get_nowait()) is not None:
                self._run_one(job)

    def _run_one(self, job: Callable[[], object]) -> None:
        try:
            job()
        except Exception:  # noqa: BLE001 - others wait
            _LOG.exception("a job of %s failed", self._name)
