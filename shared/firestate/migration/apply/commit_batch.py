"""One batch of records: read what is stored, decide, commit.

What was decided holds only while what was read does: every write says so, and a commit that is
refused for that is begun again with a read. A batch that the store refuses for what is in it is
done record by record: then one is refused, and not all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firestate.errors import ConflictError, RefusedError, UnavailableError
from firestate.migration.apply.find_stored import find_stored
from firestate.migration.apply.record_decision import (
    HEAD,
    ROW,
    Decision,
    RecordOutcome,
    decide_record,
)
from firestate.migration.apply.throttle import with_retries
from firestate.pipeline.retry import retry_on_conflict
from firestate.stores.protocol import Create

if TYPE_CHECKING:
    from collections.abc import Sequence

    from firestate.migration.apply.target import Target
    from firestate.migration.plan.message_builder import BuiltMessage
    from firestate.stores.protocol import Write

_FIELDS = tuple(dict.fromkeys((*HEAD, *ROW)))
_PARTS_AT_ONCE = 3  # of 900 KB: below the 4 MiB that the emulator takes


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """What was decided of a batch, and the commits that do it."""

    built: Sequence[BuiltMessage]
    decisions: list[Decision]
    commits: list[list[Write]]


def prepare_batch(built: Sequence[BuiltMessage], target: Target) -> PreparedBatch:
    """Read what is stored for a batch, in one round trip, and decide."""
    beside = [path for each in built for path in _beside(each)]
    there = find_stored(target.store, built, beside, _FIELDS) if built else {}
    decisions = [
        decide_record(each, there.get(each.path), there.get(each.row_path), target.clock())
        for each in built
    ]
    writes = [write for decision in decisions for write in decision.writes]
    # A part that is there holds the right bytes: its name is made of them.
    new = [write for write in writes if not (_is_part(write) and write.path in there)]
    return PreparedBatch(built, decisions, _commits(new))


def commit_batch(prepared: PreparedBatch, target: Target) -> list[Decision]:
    """Commit what was prepared, or prepare it anew where that does not hold any more.

    Gives what became of each record. Raises ContentionError and UnavailableError, after patience.
    """
    try:
        return _committed(prepared, target)
    except (ConflictError, UnavailableError, RefusedError):
        return _settled(prepared.built, target)


def _settled(built: Sequence[BuiltMessage], target: Target) -> list[Decision]:
    try:
        return with_retries(
            lambda: retry_on_conflict(
                built[0].path, lambda: _committed(prepare_batch(built, target), target)
            )
        )
    except RefusedError as error:
        if len(built) == 1:
            return [Decision(RecordOutcome.REFUSED, reason=str(error))]
        return [decision for one in built for decision in _settled([one], target)]


def _committed(prepared: PreparedBatch, target: Target) -> list[Decision]:
    for commit in prepared.commits:
        target.pace.take(len(commit))
        target.store.commit(commit)
    return prepared.decisions


def _beside(built: BuiltMessage) -> list[str]:
    row = [built.row_path] if built.row_path else []
    return [*row, *built.parts]


def _is_part(write: Write) -> bool:
    return isinstance(write, Create) and write.path.count("/") > 1


def _commits(writes: list[Write]) -> list[list[Write]]:
    """Part the writes so that each commit fits into a request: parts first, documents last."""
    parts = [write for write in writes if _is_part(write)]
    documents = [write for write in writes if not _is_part(write)]
    starts = range(0, len(parts), _PARTS_AT_ONCE)
    commits = [parts[start : start + _PARTS_AT_ONCE] for start in starts]
    return [*commits, documents] if documents else commits
