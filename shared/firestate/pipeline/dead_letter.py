"""What Pub/Sub gave up delivering: into quarantine, where it can be replayed from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate.ingest.refusal import dead_letter
from firestate.pipeline.quarantine import quarantine

if TYPE_CHECKING:
    from datetime import datetime

    from firestate.pipeline.deliveries import Delivery, StepReport
    from firestate.stores.protocol import Store


def keep_dead_letter(store: Store, delivery: Delivery, now: datetime) -> StepReport:
    """Keep the message under the topic that it was published to: `delivery` names that one.

    Its bytes may be perfectly good, and may even have been stored before the function failed:
    replayed, it is stored or found to be a duplicate.
    """
    return quarantine(store, delivery, dead_letter(delivery.attributes), now)
