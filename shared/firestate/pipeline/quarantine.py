"""Putting a message into quarantine: after that, and only after that, it is acknowledged.

Document and bytes are one commit, as long as all fits in one request. A larger message's first
parts come before, and the commit that makes the document is refused unless each of them is still
there. So there is no document without its bytes, wherever a process ends and whoever drops the
same message meanwhile. Parts alone are left by a crash only, until the redelivery.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate.errors import ConflictError
from firestate.ingest.outcomes import Outcome
from firestate.ingest.refusal import ON_REFUSAL, parts, quarantine_creation, refused_again
from firestate.limits import QUARANTINE_COMMIT_PARTS
from firestate.pipeline.deliveries import Delivery, StepReport
from firestate.pipeline.retry import retry_on_conflict
from firestate.queries import PARTS_OF_KEPT
from firestate.stores.protocol import Create, Stored, Update

if TYPE_CHECKING:
    from datetime import datetime

    from firestate.errors import InvalidMessageError
    from firestate.stores.protocol import Store

_MARK = "whole"


def quarantine(
    store: Store, delivery: Delivery, error: InvalidMessageError, now: datetime
) -> StepReport:
    """Keep the message with its errors; the same message again only raises its count."""
    topic, data = delivery.topic, delivery.data
    creation = quarantine_creation(topic, data, delivery.attributes, error, now)

    def attempt() -> None:
        known = store.read(creation.path, ON_REFUSAL)
        if known is not None:
            store.commit([refused_again(known, delivery.attributes, error, now)])
            return
        # Those that are there are left by a crash, or by somebody who removed the document alone.
        there = quarantine_parts(store, creation.path)
        paths = {part.path for part in there}
        new = [Create(p, {"data": each}) for p, each in parts(topic, data) if p not in paths]
        last = len(new) - QUARANTINE_COMMIT_PARTS
        if last > 0:
            for start in range(0, last, QUARANTINE_COMMIT_PARTS):
                store.commit(new[start : min(start + QUARANTINE_COMMIT_PARTS, last)])
            there = quarantine_parts(store, creation.path)
            new = new[last:]
            whole = {path for path, _ in parts(topic, data)}
            if {part.path for part in there} | {part.path for part in new} < whole:
                raise ConflictError(f"{creation.path}: was dropped while it was kept")
        # What comes of this is refused if one of them has been dropped: then all is done again.
        held = [Update(part.path, part.token, {_MARK: True}) for part in there]
        store.commit([creation, *new, *held])

    retry_on_conflict(creation.path, attempt)
    return StepReport(Outcome.QUARANTINED, creation.path, detail=error.code)


def quarantine_parts(store: Store, path: str) -> list[Stored]:
    """Give the parts that are there of a document of the quarantine, without their bytes."""
    return list(store.query(PARTS_OF_KEPT.query(under=path, fields=[_MARK])))
