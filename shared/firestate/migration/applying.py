"""Carrying a plan out: in batches, at Firestore's pace, from where it stopped.

    read the plan's next lines ─ build ─▶ read what is stored ─ decide ─▶ one commit ─▶ progress

The next batch is built while the last one is committed. Progress is noted after each commit. A
crash in between does the last batch again: what is read then shows that it is there, and nothing
is written twice. A commit is refused where somebody else has written meanwhile; all is read anew.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from firestate.errors import DamagedDocumentError, InvalidMessageError, RefusedError
from firestate.limits import MIGRATION_BATCH, MIGRATION_BATCH_BYTES
from firestate.migration.building import Built, build
from firestate.migration.controls import merge_controls
from firestate.migration.deciding import HEAD, ROW, WRITER, Decision, Outcome, decide
from firestate.migration.finding import find
from firestate.migration.plan import MERGE, read_head
from firestate.migration.planning import PLAN
from firestate.migration.tally import PROGRESS, Tally, progress_of
from firestate.migration.throttle import patiently
from firestate.migration.walking import is_controls, walk
from firestate.migration.work import save_json
from firestate.pipeline.contention import until_settled
from firestate.schema.messages import StateMessage
from firestate.stores.protocol import Create

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from firestate.migration.records import Record
    from firestate.migration.sources import Source
    from firestate.migration.target import Target
    from firestate.migration.walking import Planned
    from firestate.migration.work import Work
    from firestate.stores.protocol import Write

_FIELDS = tuple(dict.fromkeys((*HEAD, *ROW)))
_BESIDE = 4_000  # bytes of the contribution, the digests and the order, of a usual state


def apply_plan(
    source: Source,
    work: Work,
    target: Target,
    *,
    told: Callable[[Tally], None] = lambda _tally: None,
    until: Callable[[], bool] = lambda: False,
) -> Tally:
    """Carry the kept plan out, or go on with it; `told` hears of each batch.

    Stops before the end, to be called again, where `until` says so. Raises UnavailableError where
    the store stays away: what was done is noted.
    """
    plan = work.folder / PLAN
    head = read_head(plan)
    tally = progress_of(work, head.id)
    writer = f"{WRITER}{head.id}"
    batch = _Batch()
    controls: list[Planned] = []
    with ThreadPoolExecutor(1) as committer:
        under_way: Future[None] | None = None

        def hand_over() -> None:
            nonlocal under_way, batch
            if under_way is not None:
                under_way.result()
            # The worker has a batch and the tally to itself: this thread only builds meanwhile.
            full, batch = batch, _Batch()
            under_way = committer.submit(_carry_out, full, tally, work, target, told)

        for planned in walk(source, plan, tally.done):
            if is_controls(planned):
                controls.append(planned)
            elif planned.record is None:
                batch.note(planned)
            else:
                _build_into(batch, planned, planned.record, writer)
            if batch.full:
                hand_over()
                if until():
                    break
        else:
            hand_over()
            if under_way is not None:
                under_way.result()
            _merge(controls, tally, work, target)
            tally.finished = True
        if under_way is not None:
            under_way.result()
    save_json(work, PROGRESS, tally.as_json())
    told(tally)
    return tally


@dataclass(slots=True)
class _Batch:
    """The next lines: those to be written, and those of which only the outcome is noted."""

    built: list[tuple[Planned, Built]] = field(default_factory=list)
    noted: list[tuple[Planned, str, str]] = field(default_factory=list)
    bytes: int = 0
    end: int | None = None

    @property
    def full(self) -> bool:
        large = self.bytes >= MIGRATION_BATCH_BYTES or len(self.built) >= MIGRATION_BATCH
        return large or len(self.noted) >= 10 * MIGRATION_BATCH

    def note(self, planned: Planned, reason: str = "") -> None:
        outcome = planned.line.outcome
        if reason or planned.problem:
            outcome = Outcome.REFUSED
        self.noted.append((planned, outcome, reason or planned.problem))
        self.end = planned.number + 1

    def add(self, planned: Planned, built: Built) -> None:
        self.built.append((planned, built))
        self.bytes += planned.line.bytes + _BESIDE
        self.end = planned.number + 1


def _build_into(batch: _Batch, planned: Planned, record: Record, writer: str) -> None:
    try:
        line = planned.line
        batch.add(planned, build(record, line.format, writer, line.event_id or None))
    except InvalidMessageError as error:  # it passed when it was planned: another release, then
        batch.note(planned, str(error))


def _carry_out(
    batch: _Batch,
    tally: Tally,
    work: Work,
    target: Target,
    told: Callable[[Tally], None],
) -> None:
    decisions = _committed([built for _, built in batch.built], target)
    for (planned, _), decision in zip(batch.built, decisions, strict=True):
        tally.count(decision.outcome, planned, decision.reason)
    for planned, outcome, reason in batch.noted:
        tally.count(outcome, planned, reason)
    if batch.end is not None:
        tally.done = batch.end
    save_json(work, PROGRESS, tally.as_json(), soon=True)
    told(tally)


def _merge(controls: list[Planned], tally: Tally, work: Work, target: Target) -> None:
    """Merge the controls: they stand last in a plan, and are done when all of it is."""
    if not controls:
        return
    for planned in controls:
        outcome = MERGE if planned.record else Outcome.REFUSED
        tally.count(outcome, planned, planned.problem)
    records = [planned.record for planned in controls if planned.record]
    try:
        merge_controls(target.store, records, work, tally.plan, now=target.clock)
    except (RefusedError, DamagedDocumentError) as error:
        tally.count(Outcome.REFUSED, controls[0], str(error))


def _committed(built: Sequence[Built], target: Target) -> list[Decision]:
    if not built:
        return []
    try:
        return until_settled(built[0].path, lambda: patiently(lambda: _attempt(built, target)))
    except RefusedError as error:
        if len(built) == 1:
            return [Decision(Outcome.REFUSED, reason=str(error))]
        # One of them is refused, and with it all: each by itself.
        return [decision for one in built for decision in _committed([one], target)]


def _attempt(built: Sequence[Built], target: Target) -> list[Decision]:
    store = target.store
    beside = [path for each in built for path in _beside(each)]
    there = find(store, built, beside, _FIELDS)
    decisions = []
    for each in built:
        head = there.get(each.path)
        row = there.get(_row_path(each))
        decisions.append(decide(each, head, row, target.clock()))
    writes = [write for decision in decisions for write in decision.writes]
    # A part that is there holds the right bytes: its name is made of them.
    writes = [w for w in writes if not (isinstance(w, Create) and w.path in there and _is_part(w))]
    for commit in _commits(writes):
        target.pace.take(len(commit))
        store.commit(commit)
    return decisions


def _beside(built: Built) -> list[str]:
    row = [_row_path(built)] if isinstance(built.message, StateMessage) else []
    return [*row, *built.parts]


def _row_path(built: Built) -> str:
    message = built.message
    return message.identity.row_path if isinstance(message, StateMessage) else ""


def _is_part(write: Write) -> bool:
    return write.path.count("/") > 1


def _commits(writes: list[Write]) -> list[list[Write]]:
    """Part the writes so that each commit fits into a request: parts first, documents last."""
    large = [write for write in writes if _is_part(write)]
    commits: list[list[Write]] = [large[n : n + 3] for n in range(0, len(large), 3)]
    documents = [write for write in writes if not _is_part(write)]
    if documents:
        commits.append(documents)
    return commits
