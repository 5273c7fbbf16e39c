"""Undoing a migration by its receipt: what it made, and nobody has changed since, goes again.

A state gets a tombstone, above it in the order, so that a later apply goes above that. An event is
removed together with what it has added to counters and memories: it has no order, and created anew
it is counted anew. Parts of a state go with it. The number of agents ever spawned stays. Stopped at
any point and called again, it goes on: what is done already is found to be so.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from firestate.counters.ledger import shard_of
from firestate.errors import ConfigurationError
from firestate.ingest.states import decide_state
from firestate.migration.controls import take_out
from firestate.migration.deciding import HEAD, MIGRATED_BY, WRITER
from firestate.migration.throttle import patiently
from firestate.migration.verifying import VERSION
from firestate.pipeline.contention import until_settled
from firestate.pipeline.uncount_events import refold_events, uncount_events
from firestate.schema.ids import CONTROLS, EVENTS, Identity
from firestate.schema.messages import Tombstone, TombstoneMessage
from firestate.stores.protocol import Remove, Stored, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from firestate.migration.target import Target

    Line = dict[str, Any]

_LINES = 1_000
_STATES = 200
_EVENTS = 100


@dataclass(slots=True)
class Undone:
    """What became of the documents of a receipt."""

    counts: Counter[str] = field(default_factory=Counter)


def undo(
    receipt: Path,
    target: Target,
    *,
    told: Callable[[Undone], None] = lambda _undone: None,
) -> Undone:
    """Undo what the receipt names. Raises ConfigurationError where it is none."""
    writer = f"{WRITER}{_head(receipt)['plan']}"
    undone = Undone()
    agents: set[tuple[str, str]] = set()
    for lines in _batches(receipt):
        states = [each for each in lines if each["path"].partition("/")[0] not in _OTHERS]
        for start in range(0, len(states), _STATES):
            _undo_states(states[start : start + _STATES], writer, target, undone)
        agents |= _undo_events(lines, writer, target, undone)
        for line in lines:
            if line["path"] == CONTROLS and line.get("set"):
                taken = patiently(partial(take_out, target.store, line["set"], now=target.clock))
                undone.counts["undone" if taken else "left"] += 1
        told(undone)
    for agent in sorted(agents):
        patiently(partial(refold_events, target.store, *agent))
    told(undone)
    return undone


_OTHERS = (EVENTS, CONTROLS.partition("/")[0])


def _head(receipt: Path) -> Line:
    try:
        with receipt.open(encoding="utf-8") as lines:
            head: Line = json.loads(next(lines))
        if head["receipt"] == VERSION and isinstance(head["plan"], str):
            return head
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        message = f"{receipt} is no receipt of a migration: `--verify` writes one"
        raise ConfigurationError(message) from error
    message = f"{receipt} was written by another release"
    raise ConfigurationError(message)


def _batches(receipt: Path) -> Iterator[list[Line]]:
    """Give the lines of what this migration made, many at a time."""
    batch: list[Line] = []
    with receipt.open(encoding="utf-8") as texts:
        for text in texts:
            line = json.loads(text)
            if line.get("ours") or line.get("set"):
                batch.append(line)
            if len(batch) == _LINES:
                yield batch
                batch = []
    yield batch


def _undo_states(lines: Sequence[Line], writer: str, target: Target, undone: Undone) -> None:
    store = target.store
    if not lines:
        return
    parts = {line["path"]: line.get("parts", []) for line in lines}

    def attempt() -> int:
        heads = store.read_many([line["path"] for line in lines], HEAD)
        ours = [head for head in heads.values() if _is_ours(head, writer)]
        writes: list[Write] = [_tombstone(head, writer, target.clock()) for head in ours]
        below = [path for head in ours for path in parts[head.path]]
        there = store.read_many(below, ["none"])
        writes += [Remove(each.path, each.token) for each in there.values()]
        if writes:
            target.pace.take(len(writes))
            store.commit(writes)
        return len(ours)

    done = until_settled(lines[0]["path"], lambda: patiently(attempt))
    undone.counts["undone"] += done
    undone.counts["left"] += len(lines) - done


def _is_ours(head: Stored, writer: str) -> bool:
    """Whether the state is as this migration wrote it: an agent's has an epoch of its own."""
    same: bool = head.data["writer"] == writer and head.data["epoch"] == 0
    return same and not head.data.get("deleted")


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


def _undo_events(
    lines: Sequence[Line], writer: str, target: Target, undone: Undone
) -> set[tuple[str, str]]:
    """Take the events out, those of one agent and one shard together; give the agents."""

    def ours(event: Stored) -> bool:
        return bool(event.data.get(MIGRATED_BY) == writer)

    groups: dict[tuple[str, str, int], list[Line]] = defaultdict(list)
    for line in lines:
        if line["path"].startswith(f"{EVENTS}/"):
            agent_type, agent_id = line["of"]
            groups[(agent_type, agent_id, shard_of(line["path"]))].append(line)
    for (agent_type, agent_id, _), group in groups.items():
        for start in range(0, len(group), _EVENTS):
            paths = [line["path"] for line in group[start : start + _EVENTS]]
            target.pace.take(len(paths) + 2)
            done = patiently(
                partial(uncount_events, target.store, agent_type, agent_id, paths, ours)
            )
            undone.counts["undone"] += done
            undone.counts["left"] += len(paths) - done
    return {(agent_type, agent_id) for agent_type, agent_id, _ in groups}
