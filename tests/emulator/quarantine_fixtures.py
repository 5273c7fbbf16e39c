"""Messages of the quarantine, and a publisher that delivers here and now."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from firestate.client.outgoing import Outgoing, outgoing
from firestate.ingest.refusal import quarantine_id
from firestate.operations.quarantined_messages import read_quarantined
from firestate.pipeline.dead_letter import keep_dead_letter
from firestate.pipeline.deliveries import Delivery
from firestate.schema.messages import STATE_TOPIC
from tests.harness import NOW, Crash, Pipeline, state_message

if TYPE_CHECKING:
    from datetime import datetime

    from firestate.operations.quarantined_messages import QuarantinedMessage
    from firestate.stores.firestore import FirestoreStore
    from firestate.stores.protocol import Store

BAD = Outgoing(STATE_TOPIC, b'{"state": "nonsense"}', {"origin": "kept", "googclient_x": "1"})
BAD_ID = quarantine_id(BAD.topic, BAD.data)
LARGE = Outgoing(STATE_TOPIC, random.Random(7).randbytes(9_900_000))
LARGE_ID = quarantine_id(LARGE.topic, LARGE.data)


GOOD = outgoing(state_message(1))
GOOD_ID = quarantine_id(GOOD.topic, GOOD.data)


class DirectPublisher:
    """A publisher whose messages are delivered here and now; it can crash before or after."""

    def __init__(self, pipeline: Pipeline, crash: str = "") -> None:
        self.pipeline = pipeline
        self.crash = crash
        self.sent: list[Outgoing] = []

    def publish(self, message: Outgoing) -> None:
        """Hand over."""
        if self.crash == "publish":
            self.crash = ""
            raise Crash
        self.sent.append(message)
        self.pipeline.send(message)

    def flush(self) -> int:
        """Wait for nothing."""
        if self.crash == "flush":
            self.crash = ""
            raise Crash
        return len(self.sent)


def kept(store: Store, own_id: str = BAD_ID) -> QuarantinedMessage:
    found = read_quarantined(store, own_id)
    assert found is not None
    return found


def dead_letter_in(store: FirestoreStore) -> FirestoreStore:
    keep_dead_letter(store, Delivery(GOOD.topic, GOOD.data), NOW)
    return store


def refuse(store: FirestoreStore, *messages: Any, now: datetime = NOW) -> list[str]:
    """Deliver messages that are refused; give their ids."""
    sent = [each if isinstance(each, Outgoing) else outgoing(each) for each in messages]
    for each in sent:
        Pipeline(store).send(each, now)
    return [quarantine_id(each.topic, each.data) for each in sent]
