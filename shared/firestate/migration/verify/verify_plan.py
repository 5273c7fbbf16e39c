"""Reading back what a plan has made, comparing it with its sources, and writing a receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate.errors import FirestateError, InvalidMessageError
from firestate.migration.apply.find_stored import find_stored
from firestate.migration.apply.merge_controls import missing, put_in_by, with_old_controls
from firestate.migration.apply.progress import scope_of
from firestate.migration.apply.record_decision import MIGRATED_BY
from firestate.migration.apply.throttle import with_retries
from firestate.migration.plan.make_plan import PLAN
from firestate.migration.plan.message_builder import WRITER, BuiltMessage, build_message
from firestate.migration.plan.plan_file import read_head
from firestate.migration.plan.plan_reader import PlannedRecord, is_controls, read_plan
from firestate.migration.verify.comparison import Comparison, Result, compare_record
from firestate.migration.verify.receipts import ReceiptWriter, Verified, receipt_name
from firestate.schema.ids import CONTROLS, STATES, identities_joined_as
from firestate.schema.messages import EventMessage

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate.migration.apply.target import Target
    from firestate.migration.sources.source import Source
    from firestate.migration.workdir import Workdir
    from firestate.stores.protocol import Store

_RECORDS, _BYTES = 100, 5_000_000
_OWNER = ("writer", "epoch", "deleted", MIGRATED_BY, "source_agent_type", "source_agent_id")


def verify_plan(
    source: Source,
    work: Workdir,
    target: Target,
    *,
    told: Callable[[Verified], None] = lambda _verified: None,
) -> Verified:
    """Compare every record of the kept plan with its document; write a receipt."""
    head = read_head(work.folder / PLAN)
    at = target.clock()
    verified = Verified(receipt_name(head, at))
    unfinished = work.folder / f"{verified.receipt}.part"
    controls: list[PlannedRecord] = []
    with unfinished.open("w", encoding="utf-8") as out:
        writer = ReceiptWriter(out, head, target.label, verified)
        writer.begin(at)
        batch = _Batch(target.store, f"{WRITER}{head.id}", writer)
        for planned in read_plan(source, work.folder / PLAN):
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

    def __init__(self, store: Store, owner: str, writer: ReceiptWriter) -> None:
        self._store = store
        self._owner = owner
        self._writer = writer
        self._built: list[tuple[PlannedRecord, BuiltMessage]] = []
        self._unread: list[PlannedRecord] = []
        self._bytes = 0

    def take(self, planned: PlannedRecord) -> bool:
        """Take a line; tell whether a batch was full, and has been compared."""
        if planned.problem:
            self._unread.append(planned)
        elif planned.record is None:
            self._writer.note(planned)
        else:
            line = planned.line
            try:
                built = build_message(
                    planned.record, line.format, self._owner, line.event_id or None
                )
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
        there = with_retries(lambda: find_stored(self._store, built, parts))
        gone = [each for each in built if each.path not in there]
        rows = [each.row_path for each in gone if each.row_path]
        there |= with_retries(lambda: self._store.read_many(rows))
        for planned, each in self._built:
            stored = there.get(each.path)
            found = compare_record(each, stored, there)
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
        places = {each.line.target: _places(each.line.target) for each in self._unread}
        paths = [path for each in places.values() for path in each]
        there = with_retries(lambda: self._store.read_many(paths, _OWNER))
        for planned in self._unread:
            found = [there[path].data for path in places[planned.line.target] if path in there]
            data = next((each for each in found if each.get("writer") == self._owner), {})
            data = data or next(iter(found), {})
            wrote = data.get("writer") == self._owner and not data.get("epoch")
            ours = data.get(MIGRATED_BY) == self._owner or (wrote and not data.get("deleted"))
            agent = [data[n] for n in ("source_agent_type", "source_agent_id") if n in data]
            self._writer.unread(planned, ours=ours, of=agent)


def _places(target: str) -> list[str]:
    """Return where the document of a line may lie: an earlier plan names the path of its time."""
    if not target.startswith(f"{STATES}/"):
        return [target]
    return [target, *(identity.state_path for identity in identities_joined_as(target))]


def _compare_controls(
    controls: list[PlannedRecord],
    store: Store,
    writer: ReceiptWriter,
    put_in: dict[str, object] | None,
) -> None:
    if not controls:
        return
    records = [each.record for each in controls if each.record is not None]
    stored = with_retries(lambda: store.read(CONTROLS))
    try:
        lacking = missing(stored.data if stored else {}, with_old_controls(records))
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
