"""Reading back what a plan has made, comparing it with its sources, and writing a receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate.errors import FirestateError, InvalidMessageError
from firestate.migration.building import Built, build
from firestate.migration.comparing import Comparison, Result, compare
from firestate.migration.controls import merged, missing, put_in_by
from firestate.migration.deciding import MIGRATED_BY, WRITER
from firestate.migration.finding import find
from firestate.migration.plan import read_head
from firestate.migration.planning import PLAN
from firestate.migration.receipts import Verified, Writer, receipt_name
from firestate.migration.tally import scope_of
from firestate.migration.throttle import patiently
from firestate.migration.walking import Planned, is_controls, walk
from firestate.schema.ids import CONTROLS
from firestate.schema.messages import EventMessage

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate.migration.sources import Source
    from firestate.migration.target import Target
    from firestate.migration.work import Work
    from firestate.stores.protocol import Store

_RECORDS, _BYTES = 100, 5_000_000
_OWNER = ("writer", "epoch", "deleted", MIGRATED_BY, "source_agent_type", "source_agent_id")


def verify_plan(
    source: Source,
    work: Work,
    target: Target,
    *,
    told: Callable[[Verified], None] = lambda _verified: None,
) -> Verified:
    """Compare every record of the kept plan with its document; write a receipt."""
    head = read_head(work.folder / PLAN)
    at = target.clock()
    verified = Verified(receipt_name(head, at))
    unfinished = work.folder / f"{verified.receipt}.part"
    controls: list[Planned] = []
    with unfinished.open("w", encoding="utf-8") as out:
        writer = Writer(out, head, target.label, verified)
        writer.begin(at)
        batch = _Batch(target.store, f"{WRITER}{head.id}", writer)
        for planned in walk(source, work.folder / PLAN):
            if is_controls(planned):
                controls.append(planned)
            elif batch.take(planned):
                told(verified)
        batch.compare()
        put_in = put_in_by(work, scope_of(head.id, target))
        _compare_controls(controls, target.store, writer, put_in)
        writer.end()
    unfinished.replace(work.folder / verified.receipt)
    work.keep(verified.receipt)
    told(verified)
    return verified


class _Batch:
    """Lines to be compared, in one round trip for many."""

    def __init__(self, store: Store, owner: str, writer: Writer) -> None:
        self._store = store
        self._owner = owner
        self._writer = writer
        self._built: list[tuple[Planned, Built]] = []
        self._unread: list[Planned] = []
        self._bytes = 0

    def take(self, planned: Planned) -> bool:
        """Take a line; tell whether a batch was full, and has been compared."""
        if planned.problem:
            self._unread.append(planned)
        elif planned.record is None:
            self._writer.note(planned)
        else:
            line = planned.line
            try:
                built = build(planned.record, line.format, self._owner, line.event_id or None)
            except InvalidMessageError as error:
                self._writer.add(planned, Comparison(Result.REFUSED, str(error)))
            else:
                self._built.append((planned, built))
                self._bytes += line.bytes
        full = len(self._built) + len(self._unread) >= _RECORDS or self._bytes > _BYTES
        if full:
            self.compare()
        return full

    def compare(self) -> None:
        """Compare what has gathered."""
        built = [each for _, each in self._built]
        parts = [path for each in built for path in each.parts]
        there = patiently(lambda: find(self._store, built, parts))
        gone = [each for each in built if each.path not in there]
        rows = [each.row_path for each in gone if each.row_path]
        there |= patiently(lambda: self._store.read_many(rows))
        for planned, each in self._built:
            stored = there.get(each.path)
            found = compare(each, stored, there)
            if stored is not None and stored.path != planned.line.target:
                planned.line.target = stored.path  # its file had another date when it was made
            message = each.message
            agent = []
            if isinstance(message, EventMessage):
                agent = [message.event.source_agent_type, message.event.source_agent_id]
            self._writer.add(planned, found, parts=list(each.parts), of=agent)
        self._note_unread()
        self._built, self._unread, self._bytes = [], [], 0

    def _note_unread(self) -> None:
        """Say of lines whose files are gone at least whose the documents are."""
        paths = [each.line.target for each in self._unread]
        there = patiently(lambda: self._store.read_many(paths, _OWNER))
        for planned in self._unread:
            stored = there.get(planned.line.target)
            data = stored.data if stored else {}
            wrote = data.get("writer") == self._owner and not data.get("epoch")
            ours = data.get(MIGRATED_BY) == self._owner or (wrote and not data.get("deleted"))
            agent = [data[n] for n in ("source_agent_type", "source_agent_id") if n in data]
            self._writer.unread(planned, ours=ours, of=agent)


def _compare_controls(
    controls: list[Planned], store: Store, writer: Writer, put_in: dict[str, object] | None
) -> None:
    if not controls:
        return
    records = [each.record for each in controls if each.record is not None]
    stored = patiently(lambda: store.read(CONTROLS))
    try:
        lacking = missing(stored.data if stored else {}, merged(records))
        found = Comparison(Result.EQUAL)
        if lacking:
            found = Comparison(Result.DIFFERS, f"{', '.join(lacking[:5])} not there")
    except FirestateError as error:
        found = Comparison(Result.DIFFERS, str(error))
    for planned in controls:
        if planned.record is None:
            writer.unread(planned, ours=False, set=put_in)
        else:
            writer.add(planned, found, set=put_in)
        put_in = None
