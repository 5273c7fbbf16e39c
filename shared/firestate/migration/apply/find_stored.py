"""What is stored for records: in one round trip, by their paths.

An event without a time of its own has the date of its file in its path, which may have been another
when it was migrated: where it is not found so, it is looked for by its id. A state may still lie at
the former path of its identity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate.queries import BY_EVENT_ID
from firestate.schema.messages import EventMessage, StateMessage
from firestate.stored_states import choose_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from firestate.migration.plan.message_builder import BuiltMessage
    from firestate.schema.ids import Identity
    from firestate.stores.protocol import Store, Stored

_AT_ONCE = 30
"""Firestore: so many values of one `in`."""


def find_stored(
    store: Store,
    batch: Sequence[BuiltMessage],
    also: Sequence[str] = (),
    fields: Sequence[str] | None = None,
) -> dict[str, Stored]:
    """Give what is there: documents of the batch by the paths that they would have, and `also`."""
    former = [path for each in batch for path in _former_paths(each)]
    found = store.read_many([*(each.path for each in batch), *former, *also], fields)
    for each in batch:
        if isinstance(each.message, StateMessage):
            _find_former(found, each, each.message.identity)
    lost: dict[str, list[str]] = {}
    for each in batch:
        message = each.message
        timeless = "timestamp" in each.guessed and each.path not in found
        if timeless and isinstance(message, EventMessage):
            lost.setdefault(message.event.event_id, []).append(each.path)
    for ids in _chunks(list(lost)):
        # Whole: it is to be seen whether it is the same event, but for the time.
        for stored in store.query(BY_EVENT_ID.query({"event_id": ids})):
            found |= dict.fromkeys(lost[stored.data["event_id"]], stored)
    return found


def _former_paths(built: BuiltMessage) -> list[str]:
    """Return the former path of a state, and those of its parts; none where they are today's."""
    message = built.message
    if not isinstance(message, StateMessage) or message.identity.former_state_path == built.path:
        return []
    former = message.identity.former_state_path
    return [former, *(former + part.removeprefix(built.path) for part in built.parts)]


def _find_former(found: dict[str, Stored], built: BuiltMessage, identity: Identity) -> None:
    """Put under today's paths what lies at the former ones."""
    state = choose_state(identity, found).state
    if state is None:
        return
    found[built.path] = state
    for part in built.parts:
        former = found.get(state.path + part.removeprefix(built.path))
        if part not in found and former is not None:
            found[part] = former


def _chunks(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), _AT_ONCE):
        yield ids[start : start + _AT_ONCE]
