"""An engine far away that does as it is told: answers, fails, refuses, or says nothing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from firestate.outbox.connection import Link
from firestate.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from firestate.agents.backends.document_watch import Watch


class FakeBackend:
    """Its store is in memory; `fault` is raised by each read, and while `hangs` none comes back."""

    is_near = False

    def __init__(self) -> None:
        self.publishing = Link("the far topics")
        self.reading = Link("the far store")
        self.stored = SqliteStore()
        self.fault: Exception | None = None
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.reads = 0
        self.watches: list[Watch] = []

    def send(self, topic: str, messages: Sequence[bytes], writer: str) -> None:
        """Take them, and forget them."""

    def store(self) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        """Be the store as well."""
        if name not in {"read", "query"}:
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.reads += 1
            self.goes_on.wait(30)
            if self.fault is not None:
                raise self.fault
            return getattr(self.stored, name)(*args, **kwargs)

        return call

    def broken(self, reason: str) -> None:
        self.reading.lost(reason)

    def watch(self, watch: Watch) -> None:
        self.watches.append(watch)

    def close(self) -> None:
        self.goes_on.set()
        self.stored.close()
