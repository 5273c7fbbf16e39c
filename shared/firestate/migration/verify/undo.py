"""Undoing a migration by its receipt: what it made, and nobody has changed since, goes again.

A state gets a tombstone, above it in the order, so that a later apply goes above that. An event is
removed together with what it has added to counters and memories: it has no order, and created anew
it is counted anew. Parts of a document go with it. The number of agents ever spawned stays. Stopped
at any point and called again, it goes on: what is done already is found to be so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from firestate.counters.ledger import shard_of
from firestate.errors import ConfigurationError, DamagedDocumentError, RefusedError
from firestate.ingest.states import decide_state
from firestate.migration.apply.merge_controls import take_out
from firestate.migration.apply.record_decision import HEAD, MIGRATED_BY
from firestate.migration.apply.throttle import with_retries
from firestate.migration.plan.message_builder import WRITER
from firestate.migration.verify.receipts import read_receipt
from firestate.operations.uncount_events import refold_events, uncount_events
from firestate.pipeline.retry import retry_on_conflict
from firestate.schema.ids import (
    CONTROLS,
    EVENTS,
    LEGACY,
    Identity,
    identities_joined_as,
    read_state_id,
)
from firestate.schema.messages import Tombstone, TombstoneMessage
from firestate.stores.protocol import Remove, Stored, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from firestate.migration.apply.target import Target

    Entry = dict[str, Any]

_ENTRIES = 1_000
_STATES = 200
_EVENTS = 100
_MOST_REASONS = 100

UNDONE, BEFORE, LEFT = "undone", "undone before", "left"


@dataclass(slots=True)
class Undone:
    """What became of the documents of a receipt; `reasons` tell of those that were left.

    `finished` is false where it was stopped before the end: called again, it goes on.
    """

    counts: Counter[str] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)
    finished: bool = False

    def left(self, path: str, reason: str) -> None:
        """Count one that stays as it is."""
        self.counts[LEFT] += 1
        if len(self.reasons) < _MOST_REASONS:
            self.reasons.append(f"{path}: {reason}")


def undo(
    receipt: Path,
    target: Target,
    *,
    told: Callable[[Undone], None] = lambda _undone: None,
    until: Callable[[], bool] = lambda: False,
) -> Undone:
    """Undo what the receipt names; stop before the end where `until` says so.

    Raises ConfigurationError where it is none, or one of another target.
    """
    head, entries = read_receipt(receipt)
    if (made := head.get("target", "")) != target.label:
        message = f"{receipt} is of {made or 'another target'}, not of {target.label or 'this one'}"
        raise ConfigurationError(message)
    work = _Undoing(target, f"{WRITER}{head['plan']}")
    while batch := list(islice(entries, _ENTRIES)):
        work.undo(batch)
        told(work.undone)
        if until():
            return work.undone
    work.refold()
    work.undone.finished = True
    told(work.undone)
    return work.undone


class _Undoing:
    """What one migration has made, being taken back."""

    def __init__(self, target: Target, writer: str) -> None:
        self.undone = Undone()
        self._target = target
        self._store = target.store
        self._writer = writer
        self._agents: set[tuple[str, str]] = set()

    def undo(self, entries: Sequence[Entry]) -> None:
        """Take back some of it."""
        states = [each for each in entries if each["path"].partition("/")[0] not in _OTHERS]
        for start in range(0, len(states), _STATES):
            self._undo_states(states[start : start + _STATES])
        for (agent_type, agent_id, _), paths in self._groups(entries):
            self._agents.add((agent_type, agent_id))
            for start in range(0, len(paths), _EVENTS):
                self._undo_events(agent_type, agent_id, paths[start : start + _EVENTS])
        for each in entries:
            if each["path"] == CONTROLS and each.get("set"):
                out = partial(take_out, self._store, each["set"], now=self._target.clock)
                self.undone.counts[UNDONE if with_retries(out) else BEFORE] += 1

    def refold(self) -> None:
        """Fold the memories that events were taken out of, when all of them are out."""
        for agent in sorted(self._agents):
            with_retries(partial(refold_events, self._store, *agent))

    def _undo_states(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        attempt = partial(self._attempt, entries)
        try:
            found = with_retries(lambda: retry_on_conflict(entries[0]["path"], attempt))
        except RefusedError as error:
            if len(entries) == 1:
                self.undone.left(entries[0]["path"], str(error))
                return
            for each in entries:
                self._undo_states([each])
            return
        for path, outcome in found.items():
            if outcome == LEFT:
                self.undone.left(path, "has been changed since")
            else:
                self.undone.counts[outcome] += 1

    def _attempt(self, entries: Sequence[Entry]) -> dict[str, str]:
        heads = self._store.read_many([each["path"] for each in entries], HEAD)
        found = {each["path"]: self._found(heads.get(each["path"])) for each in entries}
        ours = [head for path, head in heads.items() if found[path] == UNDONE]
        moved = self._moved([path for path, outcome in found.items() if outcome != UNDONE])
        for path, head in moved:
            outcome = self._found(head)
            if outcome == UNDONE:
                ours.append(head)
            # What is ours at either path decides; else what somebody has written since.
            if outcome == UNDONE or (found[path] == LEFT and head.data["writer"] == self._writer):
                found[path] = outcome
            elif outcome == LEFT and path not in heads:
                found[path] = LEFT
        now = self._target.clock()
        writes: list[Write] = [_tombstone(head, self._writer, now) for head in ours]
        # A part lies below the document, which may have moved since the receipt was written.
        names = {
            each["path"]: [part.rpartition("/")[2] for part in each["parts"]]
            for each in entries
            if each.get("parts") and found[each["path"]] != LEFT
        }
        places = [(path, path) for path in names] + [(path, head.path) for path, head in moved]
        below = [
            f"{place}/{LEGACY}/{name}"
            for path, place in dict.fromkeys(places + _former(places))
            for name in names.get(path, ())
        ]
        there = self._store.read_many(below, ["none"])
        writes += [Remove(each.path, each.token) for each in there.values()]
        if writes:
            self._target.pace.take(len(writes))
            self._store.commit(writes)
        return found

    def _moved(self, paths: Sequence[str]) -> list[tuple[str, Stored]]:
        """Find what this migration made at these paths and an upgrade has moved since.

        A receipt names the path of its time: the join that today may be another identity's.
        """
        places = {
            identity.state_path: path
            for path in paths
            for identity in identities_joined_as(path)
            if identity.state_path != path
        }
        there = self._store.read_many(list(places), HEAD)
        return [(places[new], head) for new, head in there.items()]

    def _found(self, head: Stored | None) -> str:
        """Say what is to be done; an agent's own state has an epoch of its own."""
        if head is None:
            return BEFORE  # removed, by expiry or by hand
        if head.data.get("writer") != self._writer or head.data.get("epoch") != 0:
            return LEFT
        return BEFORE if head.data.get("deleted") else UNDONE

    def _groups(self, entries: Sequence[Entry]) -> Iterator[tuple[tuple[str, str, int], list[str]]]:
        """Give the events of one agent and one shard together: they are one commit."""
        groups: dict[tuple[str, str, int], list[str]] = defaultdict(list)
        for each in entries:
            if each["path"].startswith(f"{EVENTS}/") and each.get("of"):
                agent_type, agent_id = each["of"]
                groups[agent_type, agent_id, shard_of(each["path"])].append(each["path"])
                self._parts_of(each)
        yield from groups.items()

    def _parts_of(self, entry: Entry) -> None:
        """Remove what lies below an event: without it nobody finds that."""
        if parts := entry.get("parts"):
            there = with_retries(partial(self._store.read_many, parts, ["none"]))
            for each in there.values():
                self._store.commit([Remove(each.path, each.token)])

    def _undo_events(self, agent_type: str, agent_id: str, paths: Sequence[str]) -> None:
        def ours(event: Stored) -> bool:
            return bool(event.data.get(MIGRATED_BY) == self._writer)

        work = partial(uncount_events, self._store, agent_type, agent_id, paths, ours)
        try:
            done, others = with_retries(work)
        except (RefusedError, DamagedDocumentError) as error:
            for path in paths:
                self.undone.left(path, str(error))
            return
        if done:  # what was undone before costs nothing: else a later call would get no further
            self._target.pace.take(done + 2)
        self.undone.counts[UNDONE] += done
        self.undone.counts[BEFORE] += len(paths) - done - others
        for _ in range(others):
            self.undone.left(f"an event of {agent_type} {agent_id}", "is of another migration")


_OTHERS = (EVENTS, CONTROLS.partition("/")[0])


def _former(places: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the other paths at which the parts of these documents may lie."""
    found = []
    for path, place in places:
        known = read_state_id(place.partition("/")[2])
        others = identities_joined_as(place) + ([known] if known is not None else [])
        found += [(path, each) for identity in others for each in identity.state_paths]
    return found


def _tombstone(head: Stored, writer: str, now: datetime) -> Write:
    identity = Identity(*(head.data[name] for name in Identity._fields))
    message = TombstoneMessage(
        epoch=0,
        revision=head.data["revision"] + 1,
        writer=writer,
        migration=True,
        deleted=Tombstone(**identity._asdict(), deleted_at=now),
    )
    decision = decide_state(head, message, now, None)
    assert decision.write is not None  # noqa: S101 - it is one above what is stored
    return decision.write
