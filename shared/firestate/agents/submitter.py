"""Submits the messages of all agents of this process: one outbox, one writer's name."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from typing import TYPE_CHECKING, Literal

from firestate.agents.reading.read_your_writes import state_document
from firestate.agents.state.clock import now
from firestate.agents.state.json_values import to_json_values
from firestate.agents.state.message_encoding import (
    checked_event,
    event_data,
    state_data,
    tombstone_data,
)
from firestate.errors import FencedError, OutboxFullError
from firestate.forking import ForkSafe
from firestate.outbox.entries import NewEntry
from firestate.schema.messages import EVENT_TOPIC, STATE_TOPIC
from firestate.schema.values import time_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from firestate.agents.callbacks import Callbacks
    from firestate.agents.controls import Controls
    from firestate.outbox.file import Outbox
    from firestate.outbox.sender import Sender
    from firestate.schema.ids import Identity
    from firestate.schema.messages import Order
    from firestate.schema.models import CoordinationEvent

WhenFull = Literal["refuse", "wait"]

_LOOK_FOR_ROOM_SECONDS = 0.1
_MOST_HOST = 200


class Submitter(ForkSafe):
    """Puts messages into the outbox, and says so to its sender; never waits for the network."""

    def __init__(
        self,
        outbox: Outbox,
        sender: Sender,
        controls: Controls,
        callbacks: Callbacks,
        *,
        when_full: WhenFull,
    ) -> None:
        """Take them; `when_full` says what a call does at the outbox's bound."""
        super().__init__()
        self.outbox = outbox
        self.controls = controls
        self.callbacks = callbacks
        self._sender = sender
        self._when_full = when_full
        self.after_fork()

    def after_fork(self) -> None:
        """Be somebody else: a child that writes as its parent would not be told from it."""
        host = socket.gethostname().replace("/", "-")[:_MOST_HOST]
        self.writer = f"{host}-{os.getpid()}-{secrets.token_hex(6)}"
        self._epoch_lock = threading.Lock()
        self._epoch = 0

    def new_epoch(self, identity: Identity, stored: int = 0) -> int:
        """Give an epoch above any that is known of the session, and of this process."""
        known = self.outbox.snapshot(identity.state_path)
        waiting = state_document(known)["epoch"] if known is not None else 0
        with self._epoch_lock:
            start = time.time_ns() // 1000
            self._epoch = max(start, self._epoch + 1, stored + 1, waiting + 1)
            return self._epoch

    def put_state(self, identity: Identity, body: bytes, order: Order) -> None:
        """Keep a whole state, the checked JSON of it.

        Raises InvalidMessageError where it is too large, FencedError where a later one of another
        process waits in the same outbox, OutboxError; then nothing is kept.
        """
        data = state_data(body, order, self.writer)
        self._put_snapshot(identity, order, data)

    def put_tombstone(self, identity: Identity, order: Order) -> None:
        """Keep that a state is deleted; raise like the above."""
        data = tombstone_data(identity, time_text(now()), order, self.writer)
        self._put_snapshot(identity, order, data)

    def put_event(self, fields: Mapping[str, Any]) -> CoordinationEvent:
        """Keep an event; raise InvalidMessageError or OutboxError, and then nothing is kept."""
        message = checked_event(to_json_values(fields))
        event = message.event
        agent = f"{event.source_agent_type}_{event.source_agent_id}"
        put = NewEntry(
            document=message.path, agent=agent, topic=EVENT_TOPIC, data=event_data(message)
        )
        self._put(lambda: self.outbox.put(put))
        return event

    def _put_snapshot(self, identity: Identity, order: Order, data: bytes) -> None:
        put = NewEntry(
            document=identity.state_path,
            agent=f"{identity.agent_type}_{identity.agent_id}",
            topic=STATE_TOPIC,
            data=data,
            order=order,
        )
        if not self._put(lambda: self.outbox.put(put)):
            raise FencedError(identity.state_path)

    def _put(self, put: Callable[[], bool]) -> bool:
        while True:
            try:
                done = put()
            except OutboxFullError:
                if self._when_full == "refuse":
                    raise
                self._sender.wake()
                self.outbox.wait_for_room(_LOOK_FOR_ROOM_SECONDS)
            else:
                self._sender.wake()
                return done
