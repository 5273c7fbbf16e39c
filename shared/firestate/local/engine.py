"""The pipeline in one process: the functions of the cloud, called by a queue in the same file.

    publish ──▶ ingest ──▶ documents + triggers     one transaction
                               │
    work ◀─────────────────────┘  derive, roll-up: at least once each, as in the cloud

A message is stored when `publish` returns. A trigger is taken off the queue after its function has
done its work: a crash in between calls the function once more, which changes nothing.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

from firestate.clock import elapsed_seconds
from firestate.errors import ConfigurationError, UnavailableError
from firestate.limits import FOLD_INTERVAL_SECONDS
from firestate.local.expiry import ClockWatch, decide_expiry
from firestate.local.indexes import INDEXES
from firestate.local.triggers import DERIVE, DERIVE_EVENT, DERIVE_STATE, ROLL_UP, RULES
from firestate.pipeline.deliveries import Delivery, StepReport, printable
from firestate.pipeline.derive_event import derive_event
from firestate.pipeline.derive_state import derive_state
from firestate.pipeline.derive_states import derive_states, states_by_agent
from firestate.pipeline.ingest_event import ingest_event
from firestate.pipeline.ingest_state import ingest_state
from firestate.pipeline.roll_up import RollUp
from firestate.pipeline.sweep import sweep
from firestate.schema.ids import EXPIRING
from firestate.schema.messages import EVENT_TOPIC, STATE_TOPIC
from firestate.stores.sqlite import SqliteStore
from firestate.stores.sqlite_triggers import LONGEST_WAIT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from firestate.client.outgoing import Outgoing
    from firestate.stores.sqlite_triggers import Trigger

_INGEST = {STATE_TOPIC: ingest_state, EVENT_TOPIC: ingest_event}
_LOG = logging.getLogger("firestate.local")
_BATCH = 512  # of one agent many go in one commit
_MOST_AT_ONCE = 10_000
_LOOK_SECONDS = 0.5  # other processes may write to the same file: they cannot call
_SWEEP_SECONDS = 900.0
_FIRST_EXPIRY_SECONDS = 30.0
_ERASE_SECONDS = 1.0
_QUICKLY_WRITTEN = 64_000_000  # bytes that are written anew within a second or so
_GRACE = timedelta(seconds=5)
"""For so long a read that has begun still finds the past of what is deleted meanwhile."""
_SETTLE_SECONDS = 120.0


class LocalEngine:
    """Firestate on one machine. Publishes like a Publisher; `store` is there to be read."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        elapsed: Callable[[], float] = elapsed_seconds,
        fold_interval_seconds: float = FOLD_INTERVAL_SECONDS,
        read_only: bool = False,
    ) -> None:
        """Open the file `path`, or memory; the clocks and the interval are for tests alone.

        One that is `read_only` is there to be looked at: it publishes nothing, and does not work.
        Raises StateFileError where the file cannot be used.
        """
        self._clock, self._elapsed = clock, elapsed
        self._clocks = ClockWatch(clock(), elapsed())
        self.store = SqliteStore(path, RULES, INDEXES, clock=clock, read_only=read_only)
        self.roll_up = RollUp(self.store, interval_seconds=fold_interval_seconds, now=clock)
        self._told: dict[tuple[str, ...], str] = {}
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()
        self._written = threading.Event()

    def __enter__(self) -> Self:
        """Begin to work."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, and close the file."""
        self.close()

    def publish(self, message: Outgoing) -> StepReport:
        """Ingest a message: stored, superseded, a duplicate, or in quarantine.

        Raises ConfigurationError for a topic that is none of Firestate's, StoreError where the
        file cannot be written: then nothing is stored, and trying again is safe.
        """
        attributes = {printable(k): printable(v) for k, v in message.attributes.items()}
        delivery = Delivery(message.topic, message.data, attributes)
        if message.topic not in _INGEST:
            reason = f"there is no topic {message.topic!r}, only {' and '.join(_INGEST)}"
            raise ConfigurationError(reason)
        report = _INGEST[message.topic](self.store, delivery, self._clock())
        self._written.set()
        return report

    def flush(self) -> None:
        """Wait for nothing: what was published is stored. `settle` waits until it is counted."""

    def run(self, trigger: Trigger) -> StepReport:
        """Call the function of a trigger. It stays in the queue until that is told it is done."""
        if trigger.function == DERIVE_STATE:
            return derive_state(self.store, trigger.document)
        if trigger.function == DERIVE_EVENT:
            return derive_event(self.store, trigger.document)
        return self.roll_up.wake(trigger.document.updated_at)

    def settle(self, timeout_seconds: float = _SETTLE_SECONDS) -> None:
        """Wait until no trigger is left, or do the work here where no thread does it.

        Raises UnavailableError, with the last reason, where some keep failing for so long.
        """
        deadline = time.monotonic() + timeout_seconds
        while left := self.store.triggers.count():
            if time.monotonic() > deadline:
                reason = self.store.triggers.last_error()
                message = f"{left} triggers are left after {timeout_seconds:g} s: {reason}"
                raise UnavailableError(message)
            # All is derived first: one fold is for all of it.
            if self._threads or not (self._work(DERIVE) or self._work((ROLL_UP,))):
                time.sleep(0.01)

    @property
    def working(self) -> bool:
        """Whether threads of this engine work in the background."""
        return bool(self._threads)

    def start(self) -> None:
        """Work in the background until `close`: derive, roll up once a second at most, sweep."""
        if self._threads:
            return
        self._clocks = ClockWatch(self._clock(), self._elapsed())
        # The roll-up waits for its turn: in a thread of its own, as it is a function of its own.
        jobs = (self._derive, self._fold, self._sweep_by_schedule, self._erase)
        self._threads = [threading.Thread(target=job, daemon=True) for job in jobs]
        for thread in self._threads:
            thread.start()

    def sweep(self) -> StepReport:
        """Do what the schedule does every 15 minutes, and what Firestore's TTL does."""
        report = sweep(self.store, self.roll_up, self._clock())
        return replace(report, detail=f"{report.detail}, expired {self.expire()}")

    def expire(self) -> int:
        """Remove what had expired at the sweep a day ago or more, and count it."""
        now = self._clock()
        decision = decide_expiry(
            self.store.expired.former_sweep(), now, self._clocks.drift(now, self._elapsed())
        )
        if decision.reason:
            _LOG.warning("nothing expires in this sweep: %s", decision.reason)
        removed = 0
        if decision.until is not None:
            removed = self.store.expired.remove(EXPIRING, decision.until)
        # Afterwards: a crash in between leaves the rest to a sweep that decides the same.
        if decision.at is not None:
            self.store.expired.remember_sweep(decision.at)
        return removed

    def erase(self, grace: timedelta = timedelta(0)) -> bool:
        """Erase what was deleted longer than `grace` ago; return whether nothing is left of it.

        What is not counted yet, and what another process still reads, is left for later.
        """
        return self.store.erasures.erase(self._clock(), grace)

    def close(self) -> None:
        """Let the threads end what they are at, and close the file; the queue waits in it."""
        worked = self.working
        self._closing.set()
        self._written.set()
        for thread in self._threads:
            thread.join()
        self._threads = []
        # A large file takes its time: a process that lives for longer has a thread for it.
        if worked and self.store.size() <= _QUICKLY_WRITTEN:
            self._logged(self.erase, "what was deleted is erased when the file is opened again")
        self.store.close()

    def _derive(self) -> None:
        while not self._closing.is_set():
            self._written.clear()
            if not self._tried(DERIVE):
                self._written.wait(_LOOK_SECONDS)

    def _fold(self) -> None:
        while not self._closing.is_set():
            if not self._tried((ROLL_UP,)):
                self._closing.wait(_LOOK_SECONDS)

    def _sweep_by_schedule(self) -> None:
        # Most processes live for less than 15 minutes, and what has expired must go all the same.
        if not self._closing.wait(_FIRST_EXPIRY_SECONDS):
            self._logged(self.expire, "the sweep failed; it comes again in 15 minutes")
        while not self._closing.wait(_SWEEP_SECONDS):
            self._logged(self.sweep, "the sweep failed; it comes again in 15 minutes")

    def _erase(self) -> None:
        while not self._closing.wait(_ERASE_SECONDS):
            self._logged(lambda: self.erase(_GRACE), "what was deleted cannot be erased for now")

    def _logged(self, work: Callable[[], object], failure: str) -> None:
        try:
            work()
        except Exception:  # noqa: BLE001 - this thread must go on, nobody else would do its work
            _LOG.exception(failure)

    def _tried(self, functions: Sequence[str]) -> bool:
        """Do what is due, and go on whatever comes of it: the queue keeps what was not done."""
        try:
            done = self._work(functions)
        except Exception as error:  # noqa: BLE001 - this thread must go on, nobody else would do its work
            self._tell(functions, error)
            return False
        self._told.pop(tuple(functions), None)
        return done

    def _tell(self, functions: Sequence[str], error: Exception) -> None:
        """Log a fault once: a file that is damaged stays so, and is looked at twice a second."""
        if self._told.get(tuple(functions)) != str(error):
            self._told[tuple(functions)] = str(error)
            _LOG.error("the queue cannot be used for now: %s", error, exc_info=error)

    def _work(self, functions: Sequence[str]) -> bool:
        """Do what is due; tell whether there was anything."""
        # One fold is for all that has come, and the next one has to wait for a second.
        most = _MOST_AT_ONCE if functions == (ROLL_UP,) else _BATCH
        due = self.store.triggers.due(self._clock(), most, functions)
        if due:
            self._handle(due)
        return bool(due)

    def _handle(self, triggers: Sequence[Trigger]) -> None:
        done: list[Trigger] = []
        try:
            done += self._handled_together(triggers)
            together = {trigger.number for trigger in done}
            for trigger in triggers:
                if trigger.number in together:
                    continue
                try:
                    self.run(trigger)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again, as in the cloud
                    self._keep(trigger, error)
                    if trigger.function == ROLL_UP:
                        break  # the others are for the same fold: not all try in a row
                else:
                    done.append(trigger)
        finally:
            self.store.triggers.done(done)

    def _handled_together(self, triggers: Sequence[Trigger]) -> list[Trigger]:
        """Derive the states of an agent in one commit, where there are several.

        Returns their triggers. Those for which that fails are among those that are run one by one.
        """
        states = [each for each in triggers if each.function == DERIVE_STATE and not each.tries]
        done: list[Trigger] = []
        for path, some in states_by_agent(each.document for each in states).items():
            if len(some) > 1:
                with contextlib.suppress(Exception):
                    derive_states(self.store, path, some)
                    told = {id(each) for each in some}
                    done += [each for each in states if id(each.document) in told]
        return done

    def _keep(self, trigger: Trigger, error: Exception) -> None:
        wait = min(timedelta(seconds=0.1 * 2 ** min(trigger.tries, 10)), LONGEST_WAIT)
        what = f"{trigger.function} of {trigger.document.path}"
        _LOG.warning("%s failed, again in %s: %s", what, wait, error, exc_info=error)
        self.store.triggers.failed(trigger, error, self._clock() + wait)
