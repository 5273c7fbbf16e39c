"""Putting a message into quarantine: after that, and only after that, it is acknowledged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate.errors import ExistsError
from firestate.ingest.outcomes import Outcome
from firestate.ingest.quarantine import parts, quarantine_creation
from firestate.pipeline.contention import until_settled
from firestate.pipeline.deliveries import Delivery, Report
from firestate.stores.protocol import Create, Update

if TYPE_CHECKING:
    from datetime import datetime

    from firestate.errors import InvalidMessageError
    from firestate.stores.protocol import Store


def quarantine(
    store: Store, delivery: Delivery, error: InvalidMessageError, now: datetime
) -> Report:
    """Keep the message with its errors; the same message again only raises its count."""
    creation = quarantine_creation(delivery.topic, delivery.data, delivery.attributes, error, now)

    def attempt() -> None:
        known = store.read(creation.path, ["deliveries"])
        if known is not None:
            deliveries = known.data["deliveries"] + 1
            again = {"deliveries": deliveries, "last_seen": now}
            store.commit([Update(known.path, known.token, again)])
            return
        for path, data in parts(delivery.topic, delivery.data):
            # A part that is there came with the same bytes, since these make its path. Any
            # other conflict says nothing of it: then all of this is done again.
            try:
                store.commit([Create(path, {"data": data})])
            except ExistsError:
                continue
        store.commit([creation])

    until_settled(creation.path, attempt)
    return Report(Outcome.QUARANTINED, creation.path, detail=error.code)
