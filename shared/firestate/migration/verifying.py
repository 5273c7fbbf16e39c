"""Reading back what a plan has made, comparing it with its sources, and writing a receipt of that.

A receipt is JSON Lines: a head, a line for each record of the plan, and the counts. It says of each
document whether this migration made it, which is what `undo` goes by.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from firestate.errors import FirestateError, InvalidMessageError
from firestate.migration.building import Built, build
from firestate.migration.comparing import Comparison, Result, compare
from firestate.migration.controls import NOTE, merged, missing
from firestate.migration.deciding import WRITER
from firestate.migration.finding import find
from firestate.migration.plan import COPY, REFUSED, SUPERSEDED, read_head
from firestate.migration.planning import PLAN
from firestate.migration.throttle import patiently
from firestate.migration.walking import Planned, is_controls, walk
from firestate.migration.work import load_json
from firestate.schema.ids import CONTROLS
from firestate.schema.messages import EventMessage
from firestate.schema.values import time_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from firestate.migration.sources import Source
    from firestate.migration.target import Target
    from firestate.migration.work import Work
    from firestate.stores.protocol import Store

VERSION = 1
_RECORDS, _BYTES = 100, 5_000_000
_MOST_REASONS = 100


@dataclass(slots=True)
class Verified:
    """What was found; `receipt` is the name of the file, `reasons` tell of the first mistakes."""

    receipt: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Whether every record is equal, or superseded, or was refused when it was planned."""
        return not (self.counts[Result.MISSING] or self.counts[Result.DIFFERS])


def verify_plan(
    source: Source,
    work: Work,
    target: Target,
    *,
    told: Callable[[Verified], None] = lambda _verified: None,
) -> Verified:
    """Compare every record of the kept plan with its document; write the receipt."""
    store = target.store
    head = read_head(work.folder / PLAN)
    verified = Verified(f"receipt-{head.id}.jsonl")
    unfinished = work.folder / f"{verified.receipt}.part"
    with unfinished.open("w", encoding="utf-8") as out:
        _write(out, receipt=VERSION, plan=head.id, source=head.source, at=time_text(target.clock()))
        recorder = _Recorder(out, verified)
        batch: list[tuple[Planned, Built]] = []
        controls: list[Planned] = []
        for planned in walk(source, work.folder / PLAN):
            if is_controls(planned):
                controls.append(planned)
            elif planned.record is None:
                recorder.note(planned)
            else:
                built = _built(planned, f"{WRITER}{head.id}")
                if isinstance(built, Built):
                    batch.append((planned, built))
                else:
                    recorder.add(planned, built)
            if len(batch) == _RECORDS or sum(each.line.bytes for each, _ in batch) > _BYTES:
                _compare(batch, store, recorder)
                batch = []
                told(verified)
        _compare(batch, store, recorder)
        _compare_controls(controls, store, work, head.id, recorder)
        _write(out, counts=dict(verified.counts))
    unfinished.replace(work.folder / verified.receipt)
    work.keep(verified.receipt)
    told(verified)
    return verified


class _Recorder:
    """Writes a line of the receipt for each record, and counts."""

    def __init__(self, out: TextIO, verified: Verified) -> None:
        self._out = out
        self._verified = verified

    def note(self, planned: Planned) -> None:
        """Note a line of which nothing was to be written."""
        line = planned.line
        if planned.problem:
            self.add(planned, Comparison(Result.REFUSED, planned.problem))
        elif line.outcome == REFUSED:
            self.add(planned, Comparison(Result.REFUSED, f"{line.place}: {line.reason}"))
        elif line.outcome in (SUPERSEDED, COPY):
            what = "a copy of" if line.outcome == COPY else "older than what is in"
            self.add(planned, Comparison(Result.SUPERSEDED, f"{what} {line.by}"))

    def add(self, planned: Planned, comparison: Comparison, **more: object) -> None:
        """Note what was found of a line."""
        line, verified = planned.line, self._verified
        verified.counts[comparison.result] += 1
        if (
            comparison.result in (Result.MISSING, Result.DIFFERS)
            and len(verified.reasons) < _MOST_REASONS
        ):
            verified.reasons.append(f"{line.target} ({line.source}): {comparison.reason}")
        _write(
            self._out,
            path=line.target,
            result=comparison.result.value,
            source=line.source,
            at=line.at,
            sha256=line.sha256,
            reason=comparison.reason,
            ours=comparison.ours,
            **more,
        )


def _write(out: TextIO, **values: object) -> None:
    kept = {name: value for name, value in values.items() if value not in ("", False, None, [])}
    out.write(json.dumps(kept, ensure_ascii=True) + "\n")


def _built(planned: Planned, writer: str) -> Built | Comparison:
    line = planned.line
    try:
        assert planned.record is not None  # noqa: S101 - the caller has seen to it
        return build(planned.record, line.format, writer, line.event_id or None)
    except InvalidMessageError as error:
        return Comparison(Result.REFUSED, str(error))


def _compare(batch: Sequence[tuple[Planned, Built]], store: Store, recorder: _Recorder) -> None:
    parts = [path for _, built in batch for path in built.parts]
    there = patiently(lambda: find(store, [built for _, built in batch], parts))
    for planned, built in batch:
        stored = there.get(built.path)
        found = compare(built, stored, there)
        if stored is not None and stored.path != planned.line.target:
            planned.line.target = stored.path  # its file had another date when it was made
        source = []
        if isinstance(built.message, EventMessage):
            event = built.message.event
            source = [event.source_agent_type, event.source_agent_id]
        recorder.add(planned, found, parts=list(built.parts), of=source)


def _compare_controls(
    controls: Sequence[Planned], store: Store, work: Work, plan_id: str, recorder: _Recorder
) -> None:
    if not controls:
        return
    records = [each.record for each in controls if each.record is not None]
    note = load_json(work, NOTE)
    put_in = note["set"] if note.get("plan") == plan_id else None
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
            recorder.note(planned)
        else:
            recorder.add(planned, found, set=put_in)
            put_in = None
