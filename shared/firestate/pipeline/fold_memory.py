"""An agent's memory folded anew, from its rows and its counted events: after damage.

Deriving changes a memory by a difference, and needs it whole for that. Where somebody has damaged
it, it is folded anew first: no message must wait for a repair by hand.
"""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firestate.derive.memory import memory_document, parts_of
from firestate.derive.memory_events import EventsPart, add_event
from firestate.derive.memory_rows import fold_rows
from firestate.errors import DamagedDocumentError
from firestate.pipeline.retry import retry_on_conflict
from firestate.queries import BY_SOURCE, ROWS_OF_AGENT
from firestate.schema.ids import memory_path
from firestate.stores.protocol import Stored, replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from firestate.counters.sums import Counts
    from firestate.pipeline.deliveries import StepReport
    from firestate.stores.protocol import Store


def until_counted(
    store: Store, agent_type: str, agent_id: str, attempt: Callable[[], StepReport]
) -> StepReport:
    """Call `attempt` until it is settled; where it finds the agent's memory damaged, mend that.

    The report then says so. Raises DamagedDocumentError where folding anew does not help.
    """
    path = memory_path(agent_type, agent_id)

    def guarded() -> StepReport:
        with damage_named(path):
            return attempt()

    try:
        return retry_on_conflict(path, guarded)
    except DamagedDocumentError as error:
        fold_memory(store, agent_type, agent_id)
        report = retry_on_conflict(path, guarded)
        return replace(report, detail=f"after a fold of all: {error}")


@contextmanager
def damage_named(path: str) -> Iterator[None]:
    """Say which document it is that cannot be computed with.

    What functions write has its form, and everything else is refused before: so an error of
    these kinds means that somebody else has written.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        # Not the error's own text: it may name a key that is a word of users, and logs have this.
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        message = f"{path} or one of its sessions is damaged: {type(error).__name__} at {place}"
        raise DamagedDocumentError(message) from error


def fold_memory(store: Store, agent_type: str, agent_id: str) -> None:
    """Fold an agent's memory anew from its rows and its counted events."""
    path = memory_path(agent_type, agent_id)

    def attempt() -> None:
        # Read before what it is folded from: a change to any of that writes the memory too, and
        # makes the condition fail.
        memory = store.read(path)
        with damage_named(path):
            rows = fold_rows(row.data for row in store.query(ROWS_OF_AGENT.query(under=path)))
        events = events_part(store, agent_type, agent_id)
        known = _known_events(memory.data if memory else None)
        if known is not None and _expired(known, events):
            events = replace(known, counts=_largest(known.counts, events.counts))
        document = memory_document(agent_type, agent_id, rows, events)
        if replacing(memory, path, document):
            document["changes"] = next_change(memory)
            store.commit(replacing(memory, path, document))

    retry_on_conflict(path, attempt)


def next_change(memory: Stored | None) -> int:
    """Give the number of the next change of a memory; no change leaves its update time as it is."""
    changes = memory.data.get("changes") if memory else None
    return changes + 1 if isinstance(changes, int) else 1


def events_part(store: Store, agent_type: str, agent_id: str) -> EventsPart:
    """Fold the counted events of an agent that are stored."""
    part = EventsPart()
    for event in store.query(BY_SOURCE.query({"source_agent_id": agent_id})):
        if event.data["source_agent_type"] == agent_type and event.data.get("counted"):
            part = add_event(part, event.data)
    return part


def _known_events(memory: dict[str, Any] | None) -> EventsPart | None:
    try:
        return parts_of(memory)[1]
    except (KeyError, TypeError, AttributeError):
        return None  # damaged: then the events that are still there are all that is known


def _expired(known: EventsPart, found: EventsPart) -> bool:
    """Whether `known` reaches further back than the events that are still stored."""
    if known.first_at is None:
        return False
    return found.first_at is None or known.first_at < found.first_at


def _largest(one: Counts, other: Counts) -> Counts:
    """Give the larger of each count: what is known by either."""
    result: Counts = {}
    for name in one.keys() | other.keys():
        left, right = one.get(name, 0), other.get(name, 0)
        if isinstance(left, dict) or isinstance(right, dict):
            result[name] = _largest(left or {}, right or {})
        else:
            result[name] = max(left, right)
    return result
