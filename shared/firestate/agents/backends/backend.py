"""What a StateManager works on: somewhere to send to, a store to read, changes to be told of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from firestate.agents.backends.document_watch import Watch
    from firestate.outbox.connection import Link
    from firestate.stores.protocol import Store


NEAR_SECONDS = 60.0
"""A file of this machine answers, if not at once: this only ends a wait for what the waiting thread
itself holds up."""


class Backend(Protocol):
    """The cloud, or the local engine."""

    is_near: bool
    """Whether a read is one of this machine: then it is waited for, however long it takes."""
    publishing: Link
    reading: Link

    def send(self, topic: str, messages: Sequence[bytes], writer: str) -> None:
        """Send messages of a writer in this order, each with the attribute `writer`.

        Raises a FirestateError where they may not have arrived.
        """
        ...

    def learn_time(self) -> None:
        """Have the clock know what time it is by the store, where that is not known yet.

        It takes a moment, and stays unknown where the store cannot be asked.
        """
        ...

    def store(self) -> Store:
        """Return what to read from."""
        ...

    def broken(self, reason: str) -> None:
        """Say that a read failed: the way is closed until it is found open again."""
        ...

    def watch(self, watch: Watch) -> None:
        """Tell `watch` what there is and what changes, from now on."""
        ...

    def close(self) -> None:
        """End all threads and connections."""
        ...
