"""Making the plan: every file is read once, every record built and checked; nothing is written.

What it finds goes through an index on disk, since some of it shows only at the end: equal events,
files of one session. A plan is complete or not there: it is renamed into place when it is whole.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from firestate.errors import InvalidMessageError
from firestate.migration.formats.decoding import Unreadable
from firestate.migration.formats.detection import EMPTY as NOTHING
from firestate.migration.formats.records import Record, RecordKind, Refusal
from firestate.migration.formats.secret_fields import exposed
from firestate.migration.plan.message_builder import WRITER, BuiltMessage, build_message
from firestate.migration.plan.plan_file import (
    COPY,
    EMPTY,
    MERGE,
    REFUSED,
    WRITE,
    PlanHead,
    PlanLine,
)
from firestate.migration.plan.plan_index import PlanIndex
from firestate.migration.sources.source import ListedFile, UnlistableFile
from firestate.schema.ids import CONTROLS, event_path
from firestate.schema.messages import EventMessage
from firestate.schema.serialization import to_document
from firestate.schema.times import check_times
from firestate.schema.values import stored_size, time_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from firestate.migration.formats.detection import OpenedFile
    from firestate.migration.sources.source import Source

PLAN = "plan.jsonl"

_MOST_EXPOSED = 10
_MOST_AHEAD = 3


def make_plan(
    source: Source,
    folder: Path,
    *,
    migration: str | None = None,
    told: Callable[[str, int], None] = lambda _name, _size: None,
) -> Path:
    """Read all of `source` and write the plan into `folder`; `told` hears of each file read.

    `migration` is the id that the documents will bear; by default it is made of what is planned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = 0
    listing = hashlib.sha256()
    unseen: Counter[str] = Counter()
    with PlanIndex(folder / "plan.index") as index:
        for each in source.list():
            if isinstance(each, ListedFile):
                files += 1
                listing.update(_listed(each))
                _plan_file(source, each, index)
                told(each.name, each.size)
            elif isinstance(each, UnlistableFile):
                _refuse(index, each.name, each.refusal)
            else:
                name = each.name.rpartition("/")[2]
                unseen[f".{name.rpartition('.')[2]}" if "." in name else "no suffix"] += 1
        index.settle()
        head = PlanHead(
            migration or index.id(),
            source.label,
            files,
            index.count(),
            dict(sorted(unseen.items())),
            listing.hexdigest(),
        )
        unfinished = folder / f"{PLAN}.part"
        with unfinished.open("w", encoding="utf-8") as out:
            out.write(f"{head.text()}\n")
            for line in index.lines():
                out.write(f"{line.text()}\n")
    return unfinished.replace(folder / PLAN)


def listing_of(source: Source) -> str:
    """Give a digest of the files there are now, as the head of a plan has it."""
    found = hashlib.sha256()
    for each in source.list():
        if isinstance(each, ListedFile):
            found.update(_listed(each))
    return found.hexdigest()


def _plan_file(source: Source, listed: ListedFile, index: PlanIndex) -> None:
    try:
        opened = source.open(listed.name)
    except Unreadable as error:
        _refuse(index, listed.name, error.refusal)
        return
    if opened.format == NOTHING:
        index.add(PlanLine(listed.name, EMPTY, sha256=opened.sha256, format=NOTHING))
        return
    first = index.first_with(opened.sha256, listed.name)
    if first != listed.name:
        line = PlanLine(listed.name, COPY, sha256=opened.sha256, format=opened.format, by=first)
        index.add(line)
        return
    for found in opened.records():
        if isinstance(found, Refusal):
            _refuse(index, listed.name, found, opened.sha256)
        else:
            _plan_record(listed.name, opened, found, index)


def _plan_record(name: str, opened: OpenedFile, record: Record, index: PlanIndex) -> None:
    line = PlanLine(
        name,
        MERGE if record.kind is RecordKind.CONTROLS else WRITE,
        sha256=opened.sha256,
        format=opened.format,
        at=record.position,
        kind=record.kind.value,
        digest=record.digest,
        mapped=list(record.mapped),
        guessed=list(record.guessed),
        withheld=list(record.withheld),
        exposed=[] if record.stored else _exposed(record),
        date=time_text(opened.date),
    )
    if record.kind is RecordKind.CONTROLS:
        line.target = CONTROLS
        index.add(line, place=f"{record.fields['order'] + 1} {record.digest}")
        return
    own_id = own_event_id(record)
    try:
        built = build_message(
            record, opened.format, f"{WRITER}plan", own_id or f"m-{record.digest[:28]}"
        )
    except InvalidMessageError as error:
        reason = "; ".join(map(str, error.problems[:3]))
        refusal = Refusal(record.position, reason, "put that right in the file")
        _refuse(index, name, refusal, opened.sha256)
        return
    if (problem := _ahead(built)) is not None:
        _refuse(index, name, Refusal(record.position, problem, "put that right in the file"))
        return
    line.kept = list(built.kept)
    line.parts = len(built.parts)
    message = built.message
    if isinstance(message, EventMessage):
        line.event_id = message.event.event_id if own_id else ""
        line.bytes = stored_size(dict(message.event)) + _bytes(built)
        index.add(line, place=event_path(message.event.timestamp, ""), at=message.event.timestamp)
    else:
        line.target = built.path
        line.bytes = stored_size(dict(message.state)) + _bytes(built)
        index.add(line, at=message.state.last_updated)


def _exposed(record: Record) -> list[str]:
    return sorted(set(exposed(record.fields)) | set(exposed(record.left)))[:_MOST_EXPOSED]


def _ahead(built: BuiltMessage) -> str | None:
    """Say what ingest would of times that are yet to come."""
    message = built.message
    home, body = (
        ("event", message.event) if isinstance(message, EventMessage) else ("state", message.state)
    )
    try:
        check_times(home, to_document(body), datetime.now(UTC))
    except InvalidMessageError as error:
        shown = (f"{each.field.removeprefix(home + '.')}: {each.reason}" for each in error.problems)
        return "; ".join(islice(shown, _MOST_AHEAD))
    return None


def _listed(file: ListedFile) -> bytes:
    """Return what a listing's digest is made of; kept plans have it, so it never changes."""
    text = f"Listed(name={file.name!r}, size={file.size!r}, date={file.date!r})"
    return text.encode("utf-8", "surrogatepass")


def own_event_id(record: Record) -> str:
    """Give the id that an event came with, if it is one."""
    given = record.fields.get("event_id")
    return str(given) if isinstance(given, str | int) and not isinstance(given, bool) else ""


def _bytes(built: BuiltMessage) -> int:
    return sum(map(len, built.parts.values()))


def _refuse(index: PlanIndex, name: str, refusal: Refusal, sha256: str = "") -> None:
    index.add(
        PlanLine(
            name,
            REFUSED,
            sha256=sha256,
            place=refusal.place,
            reason=refusal.reason,
            advice=refusal.advice,
        )
    )
