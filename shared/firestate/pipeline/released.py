"""Messages that say `migration: true`: a topic refuses them, unless an operator lets them in.

A migration commits by itself. What comes by a topic and says so wants to be let in at any age, and
might bring back what has ended. `firestate quarantine replay` marks such a message as released
before it publishes it again: the mark is in the quarantine, where functions and operators alone
write, under an id that is made of the very bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate.errors import FieldProblem, InvalidMessageError
from firestate.ingest.refusal import quarantine_id
from firestate.schema.ids import quarantine_path

if TYPE_CHECKING:
    from firestate.pipeline.deliveries import Delivery
    from firestate.stores.protocol import Store

RELEASED = "released"
"""The field of a quarantined message that an operator has let in."""


def check_released(store: Store, delivery: Delivery) -> None:
    """Raise InvalidMessageError, code `migration`, for a message that nobody has released."""
    kept = store.read(quarantine_path(quarantine_id(delivery.topic, delivery.data)), [RELEASED])
    if kept is None or kept.data.get(RELEASED) is not True:
        reason = "is refused by this topic: `firestate migrate` writes old files by itself"
        raise InvalidMessageError("migration", [FieldProblem("migration", reason)])
