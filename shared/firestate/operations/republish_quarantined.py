"""Publishing a refused message again, as it came, on the topic that it came by.

First it is published, then, once Pub/Sub has it, the document is marked. A crash in between
leaves it waiting, so that the next replay publishes it once more: that has no second effect, as
ingest takes the same message for a duplicate. The other order could lose it. A message that says
`migration: true` is marked as released before, else ingest would refuse it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from firestate.client.outgoing import Outgoing
from firestate.errors import InvalidMessageError
from firestate.ingest.refusal import ON_REPLAY, attributes_of_publisher, replayed
from firestate.operations.quarantined_messages import QuarantinedMessage, read_quarantined
from firestate.pipeline.released import RELEASED
from firestate.pipeline.retry import retry_on_conflict
from firestate.schema.strict_json import parse_json
from firestate.stores.protocol import Update

if TYPE_CHECKING:
    from datetime import datetime

    from firestate.stores.protocol import Store


class Republisher(Protocol):
    """What publishes: `firestate.client.publisher.Publisher`, or the local engine."""

    def publish(self, message: Outgoing) -> object:
        """Hand the message over."""
        ...

    def flush(self) -> object:
        """Wait until all has arrived; raise an error of ours where it has not."""
        ...


def republish_quarantined(
    store: Store, publisher: Republisher, quarantine_id: str, now: datetime
) -> bool:
    """Publish a message of the quarantine and mark it; give whether it was there.

    Raises DamagedDocumentError, and publishes nothing, where its bytes are not those that came.
    """
    kept = read_quarantined(store, quarantine_id)
    if kept is None:
        return False
    if says_migration(kept.data):
        _release(store, kept.stored.path)
    publisher.publish(as_published(kept))
    publisher.flush()

    def attempt() -> None:
        latest = store.read(kept.stored.path, ON_REPLAY)
        if latest is not None:  # else it has been dropped meanwhile: there is nothing to mark
            store.commit([replayed(kept.stored, latest, now)])

    retry_on_conflict(kept.stored.path, attempt)
    return True


def says_migration(data: bytes) -> bool:
    """Whether a message's bytes are JSON that says `migration: true`."""
    try:
        raw = parse_json(data)
    except InvalidMessageError:
        return False
    return isinstance(raw, dict) and raw.get("migration") is True


def _release(store: Store, path: str) -> None:
    def attempt() -> None:
        latest = store.read(path, [RELEASED])
        if latest is not None and latest.data.get(RELEASED) is not True:
            store.commit([Update(path, latest.token, {RELEASED: True})])

    retry_on_conflict(path, attempt)


def as_published(kept: QuarantinedMessage) -> Outgoing:
    """Give the message as its publisher sent it."""
    attributes = {each.name: each.value for each in kept.document.attributes}
    return Outgoing(kept.document.topic, kept.data, attributes_of_publisher(attributes))
