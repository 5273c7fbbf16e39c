"""Carrying a plan out: in batches, at Firestore's pace, from where it stopped.

    read the plan's next lines ─ build ─▶ read what is stored ─ decide ─▶ one commit ─▶ progress

The next batch is prepared while the last one is committed: no two lines of a plan are for one
document. Progress is noted after each commit. A crash in between does the last batch again: what
is read then shows that it is there, and nothing is written twice.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from firestate.errors import (
    DamagedDocumentError,
    InvalidMessageError,
    RefusedError,
    SchemaTooNewError,
)
from firestate.limits import MIGRATION_BATCH, MIGRATION_BATCH_BYTES
from firestate.migration.apply.commit_batch import PreparedBatch, commit_batch, prepare_batch
from firestate.migration.apply.merge_controls import merge_controls
from firestate.migration.apply.progress import PROGRESS, Progress, progress_of, scope_of
from firestate.migration.apply.record_decision import RecordOutcome
from firestate.migration.apply.throttle import with_retries
from firestate.migration.plan.make_plan import PLAN
from firestate.migration.plan.message_builder import WRITER, BuiltMessage, build_message
from firestate.migration.plan.plan_file import MERGE, read_head
from firestate.migration.plan.plan_reader import is_controls, read_plan
from firestate.migration.workdir import save_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from firestate.migration.apply.target import Target
    from firestate.migration.formats.records import Record
    from firestate.migration.plan.plan_reader import PlannedRecord
    from firestate.migration.sources.source import Source
    from firestate.migration.workdir import Workdir

_BESIDE = 4_000  # bytes of the contribution, the digests and the order, of a usual state


def apply_plan(
    source: Source,
    work: Workdir,
    target: Target,
    *,
    told: Callable[[Progress], None] = lambda _tally: None,
    until: Callable[[], bool] = lambda: False,
) -> Progress:
    """Carry the kept plan out, or go on with it; `told` hears of each batch.

    Stops before the end, to be called again, where `until` says so. Raises UnavailableError where
    the store stays away: what was done is noted.
    """
    plan = work.folder / PLAN
    head = read_head(plan)
    tally = progress_of(work, scope_of(head.id, target))

    def kept() -> None:
        save_json(work, PROGRESS, tally.as_json(), soon=True)
        told(tally)

    controls: list[PlannedRecord] = []
    with _Batches(target, tally, f"{WRITER}{head.id}", kept) as batches:
        for planned in read_plan(source, plan, tally.done):
            if is_controls(planned):
                controls.append(planned)
            elif batches.take(planned) and until():
                break
        else:
            batches.finish()
            _merge(controls, tally, work, target)
            tally.finished = True
    save_json(work, PROGRESS, tally.as_json())
    told(tally)
    return tally


class _Batches:
    """Puts lines into batches, and has one committed while the next is prepared."""

    def __init__(
        self, target: Target, tally: Progress, writer: str, kept: Callable[[], None]
    ) -> None:
        self._target = target
        self._tally = tally
        self._writer = writer
        self._kept = kept
        self._batch = _RecordBatch()
        self._committer = ThreadPoolExecutor(1)
        self._under_way: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._wait()
        finally:
            self._committer.shutdown()

    def take(self, planned: PlannedRecord) -> bool:
        """Add a line to the batch; tell whether that was full, and is now on its way."""
        if planned.record is None:
            self._batch.note(planned)
        else:
            self._build(planned, planned.record)
        if not self._batch.full:
            return False
        self._hand_over()
        return True

    def finish(self) -> None:
        """Have the last batch committed, and wait for it."""
        self._hand_over()
        self._wait()

    def _build(self, planned: PlannedRecord, record: Record) -> None:
        try:
            line = planned.line
            built = build_message(record, line.format, self._writer, line.event_id or None)
        except InvalidMessageError as error:  # it passed when it was planned: another release, then
            self._batch.note(planned, str(error))
        else:
            self._batch.add(planned, built)

    def _hand_over(self) -> None:
        batch, self._batch = self._batch, _RecordBatch()
        built = [each for _, each in batch.built]
        prepared = with_retries(lambda: prepare_batch(built, self._target))
        self._wait()
        # The worker has the tally to itself: this thread only prepares meanwhile.
        self._under_way = self._committer.submit(self._carry_out, batch, prepared)

    def _carry_out(self, batch: _RecordBatch, prepared: PreparedBatch) -> None:
        decisions = commit_batch(prepared, self._target)
        for (planned, _), decision in zip(batch.built, decisions, strict=True):
            self._tally.count(decision.outcome, planned, decision.reason)
        for planned, outcome, reason in batch.noted:
            self._tally.count(outcome, planned, reason)
        if batch.end is not None:
            self._tally.done = batch.end
        self._kept()

    def _wait(self) -> None:
        if self._under_way is not None:
            self._under_way.result()


@dataclass(slots=True)
class _RecordBatch:
    """The next lines: those to be written, and those of which only the outcome is noted."""

    built: list[tuple[PlannedRecord, BuiltMessage]] = field(default_factory=list)
    noted: list[tuple[PlannedRecord, str, str]] = field(default_factory=list)
    bytes: int = 0
    end: int | None = None

    @property
    def full(self) -> bool:
        large = self.bytes >= MIGRATION_BATCH_BYTES or len(self.built) >= MIGRATION_BATCH
        return large or len(self.noted) >= 10 * MIGRATION_BATCH

    def note(self, planned: PlannedRecord, reason: str = "") -> None:
        outcome = planned.line.outcome
        if reason or planned.problem:
            outcome = RecordOutcome.REFUSED
        self.noted.append((planned, outcome, reason or planned.problem))
        self.end = planned.number + 1

    def add(self, planned: PlannedRecord, built: BuiltMessage) -> None:
        self.built.append((planned, built))
        self.bytes += planned.line.bytes + _BESIDE
        self.end = planned.number + 1


def _merge(controls: list[PlannedRecord], tally: Progress, work: Workdir, target: Target) -> None:
    """Merge the controls: they stand last in a plan, and are done when all of it is."""
    if not controls:
        return
    records = [planned.record for planned in controls if planned.record]
    refused = ""
    try:
        with_retries(
            lambda: merge_controls(target.store, records, work, tally.plan, now=target.clock)
        )
    except (RefusedError, DamagedDocumentError, SchemaTooNewError) as error:
        refused = str(error)
    for planned in controls:
        reason = planned.problem or refused
        tally.count(RecordOutcome.REFUSED if reason else MERGE, planned, reason)
