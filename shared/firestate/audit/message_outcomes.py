"""What became of each message, looked up from what is stored.

Every distinct message must end as stored, superseded by a newer one, duplicate of one, or in
quarantine with its bytes. `missing` is none of these: not yet arrived, or lost. A message that was
replayed from quarantine is there still, and counts as what became of it since.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from firestate.errors import InvalidMessageError
from firestate.ingest.refusal import quarantine_id
from firestate.ingest.states import same_content
from firestate.schema.ids import quarantine_path
from firestate.schema.messages import (
    EVENT_TOPIC,
    EventMessage,
    StateMessage,
    TombstoneMessage,
    parse_event_message,
    parse_state_message,
)
from firestate.schema.serialization import to_document
from firestate.schema.values import digest
from firestate.stored_states import choose_state

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firestate.client.outgoing import Outgoing
    from firestate.stores.protocol import Store, Stored

FATES = ("stored", "superseded", "duplicate", "quarantined", "missing")


class MessageOutcomes:
    """Looks messages up, each document once."""

    def __init__(self, store: Store) -> None:
        """Take the store that the messages went to."""
        self._store = store
        self._read: dict[str, Stored | None] = {}

    def count(self, messages: Iterable[Outgoing]) -> Counter[str]:
        """Give how many messages met each fate; the same bytes twice are one distinct message."""
        return Counter({fate: len(met) for fate, met in self.sort(messages).items()})

    def sort(self, messages: Iterable[Outgoing]) -> dict[str, list[Outgoing]]:
        """Give the distinct messages by their fates."""
        fates: dict[str, list[Outgoing]] = {fate: [] for fate in FATES}
        taken: set[tuple[str, str]] = set()
        distinct = {(message.topic, message.data): message for message in messages}
        for (topic, data), message in distinct.items():
            fates[self._fate(topic, data, taken)].append(message)
        return fates

    def _fate(self, topic: str, data: bytes, taken: set[tuple[str, str]]) -> str:
        kept = self._stored(quarantine_path(quarantine_id(topic, data)))
        if kept is not None and kept.data.get("waiting", True):
            return "quarantined"
        fate = self._fate_of_content(topic, data, taken)
        return "quarantined" if kept is not None and fate == "missing" else fate

    def _fate_of_content(self, topic: str, data: bytes, taken: set[tuple[str, str]]) -> str:
        try:
            message = (
                parse_event_message(data) if topic == EVENT_TOPIC else parse_state_message(data)
            )
        except InvalidMessageError:
            return "missing"
        if isinstance(message, EventMessage):
            path, content = message.path, message.content_digest
            stored = self._stored(path)
        else:
            path, content = message.identity.state_path, _content(message)
            paths = {each: self._stored(each) for each in message.identity.state_paths}
            found = {each: one for each, one in paths.items() if one is not None}
            stored = choose_state(message.identity, found).state
        if stored is None:
            return "missing"
        if isinstance(message, EventMessage):
            if stored.data["digest"] != content:
                return "missing"
        else:
            order = (stored.data["epoch"], stored.data["revision"])
            if order > message.order:
                return "superseded"
            if order < message.order or not same_content(stored, message):
                return "missing"
        # The same content in other bytes: one of them is stored, the others are its duplicates.
        if (path, content) in taken:
            return "duplicate"
        taken.add((path, content))
        return "stored"

    def _stored(self, path: str) -> Stored | None:
        if path not in self._read:
            self._read[path] = self._store.read(path)
        return self._read[path]


def _content(message: StateMessage | TombstoneMessage) -> str:
    if isinstance(message, StateMessage):
        fields = to_document(message.state)
    else:
        fields = to_document(message.deleted) | {"deleted": True}
    return digest({name: digest(value) for name, value in fields.items()} | {"": message.writer})
