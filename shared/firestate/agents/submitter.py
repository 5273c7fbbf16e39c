"""Submits the messages of all agents of this process: one outbox, one writer's name."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING, Literal, TypeVar

from firestate.agents.state.clock import now, now_in_microseconds
from firestate.agents.state.json_values import to_json_values
from firestate.agents.state.message_encoding import (
    checked_event,
    event_data,
    state_data,
    tombstone_data,
)
from firestate.errors import OutboxFullError
from firestate.forking import ForkSafe
from firestate.outbox.entries import NewEntry
from firestate.outbox.writer import new_writer_name
from firestate.schema.messages import EVENT_TOPIC, STATE_TOPIC, Order
from firestate.schema.values import time_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from firestate.agents.callbacks import Callbacks
    from firestate.agents.controls import Controls
    from firestate.outbox.file import Outbox
    from firestate.outbox.sender import Sender
    from firestate.schema.ids import Identity
    from firestate.schema.messages import EventMessage
    from firestate.schema.models import CoordinationEvent

T = TypeVar("T")
WhenFull = Literal["refuse", "wait"]

_LOOK_FOR_ROOM_SECONDS = 0.02


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
        """Begin anew; what is in memory is another outbox, and another writer."""
        if self.outbox.path is None:
            self.outbox.writer = new_writer_name()
        self._epochs = count(1)

    @property
    def writer(self) -> str:
        """Who writes: the folder, for all of its processes."""
        return self.outbox.writer

    def new_epoch(self, identity: Identity, stored: int = 0) -> int:
        """Return an epoch above any that is known of the session, and of this process."""
        head = self.outbox.head(identity.state_path)
        known = max(stored, 0 if head is None else head[0])
        # The counter tells apart what begins within one microsecond; `next` is one operation.
        return max(now_in_microseconds(), known) + next(self._epochs)

    def state_entry(self, identity: Identity, body: bytes, order: Order) -> NewEntry:
        """Return what is put for a whole state, the checked JSON of it.

        Raises InvalidMessageError where it is too large.
        """
        return _entry(identity, order, state_data(body, order, self.writer))

    def change_entry(self, identity: Identity, change: bytes, order: Order) -> NewEntry:
        """Return what is put for a change of a state, which the one before it is known of."""
        return _entry(identity, order, change, is_change=True)

    def expected_entry(self, identity: Identity, order: Order) -> NewEntry:
        """Return what is put beside others that are to be kept only if nothing later is there."""
        return _entry(identity, order, b"")._replace(is_expected=True)

    def held_back_entry(self, identity: Identity) -> NewEntry:
        """Return what is put beside a state that is not to go out yet."""
        return _entry(identity, Order(0, 0), b"")._replace(is_held_back=True)

    def tombstone_entry(self, identity: Identity, order: Order) -> NewEntry:
        """Return what is put where a state is deleted."""
        data = tombstone_data(identity, time_text(now()), order, self.writer)
        return _entry(identity, order, data)

    def event_entry(self, fields: Mapping[str, Any]) -> NewEntry:
        """Return what is put for an event; raise InvalidMessageError for fields that are wrong."""
        return _event_entry(checked_event(to_json_values(fields)))

    def put_event(self, fields: Mapping[str, Any]) -> CoordinationEvent:
        """Keep an event; raise InvalidMessageError or OutboxError, and then nothing is kept."""
        message = checked_event(to_json_values(fields))
        self.put(_event_entry(message))
        return message.event

    def put(self, *entries: NewEntry) -> bool:
        """Keep entries, all or none of them; return False where a state has moved (`Outbox.put`).

        Raises OutboxFullError where the outbox is full and is not to be waited for, OutboxError;
        then nothing is kept.
        """
        while True:
            try:
                done = self.outbox.put(*entries)
            except OutboxFullError:
                # Whoever keeps others from putting may not wait: nor could they send then.
                if self._when_full == "refuse" or self.outbox.is_exclusive:
                    raise
                self._wait_for_room()
            else:
                self._sender.wake()
                return done

    def retry_exclusively(self, attempt: Callable[[], T]) -> T:
        """Run an attempt that reads what is kept, and puts what follows from it; return its result.

        One that has come to nothing, since others put in between, is run again while they wait.
        """
        while True:
            if done := attempt():
                return done
            try:
                return self.outbox.exclusively(attempt)
            except OutboxFullError:
                if self._when_full == "refuse" or self.outbox.is_exclusive:
                    raise
                self._wait_for_room()

    def _wait_for_room(self) -> None:
        self._sender.wake()
        time.sleep(_LOOK_FOR_ROOM_SECONDS)


def _entry(identity: Identity, order: Order, data: bytes, *, is_change: bool = False) -> NewEntry:
    return NewEntry(
        document=identity.state_path,
        agent=f"{identity.agent_type}_{identity.agent_id}",
        topic=STATE_TOPIC,
        data=data,
        order=order,
        is_change=is_change,
    )


def _event_entry(message: EventMessage) -> NewEntry:
    event = message.event
    agent = f"{event.source_agent_type}_{event.source_agent_id}"
    return NewEntry(document=message.path, agent=agent, topic=EVENT_TOPIC, data=event_data(message))
