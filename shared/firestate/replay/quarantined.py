"""Publishing a refused message again, as it came, on the topic that it came by.

First it is published, then, once Pub/Sub has it, the document is marked. A crash in between
leaves it waiting, so that the next replay publishes it once more: that has no second effect, as
ingest takes the same message for a duplicate. The other order could lose it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from firestate.client.outgoing import Outgoing
from firestate.ingest.quarantine import ON_REPLAY, attributes_of_publisher, replayed
from firestate.pipeline.contention import until_settled
from firestate.pipeline.quarantined import Kept, read_kept

if TYPE_CHECKING:
    from datetime import datetime

    from firestate.stores.protocol import Store


class Publishing(Protocol):
    """What publishes: `firestate.client.publisher.Publisher`, or the local engine."""

    def publish(self, message: Outgoing) -> object:
        """Hand the message over."""
        ...

    def flush(self) -> object:
        """Wait until all has arrived; raise an error of ours where it has not."""
        ...


def replay_quarantined(
    store: Store, publisher: Publishing, quarantine_id: str, now: datetime
) -> bool:
    """Publish a message of the quarantine and mark it; give whether it was there.

    Raises DamagedDocumentError, and publishes nothing, where its bytes are not those that came.
    """
    kept = read_kept(store, quarantine_id)
    if kept is None:
        return False
    publisher.publish(as_published(kept))
    publisher.flush()

    def attempt() -> None:
        latest = store.read(kept.stored.path, ON_REPLAY)
        if latest is not None:  # else it has been dropped meanwhile: there is nothing to mark
            store.commit([replayed(kept.stored, latest, now)])

    until_settled(kept.stored.path, attempt)
    return True


def as_published(kept: Kept) -> Outgoing:
    """Give the message as its publisher sent it."""
    attributes = {each.name: each.value for each in kept.document.attributes}
    return Outgoing(kept.document.topic, kept.data, attributes_of_publisher(attributes))
