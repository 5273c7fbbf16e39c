"""Folders over one store, as machines are over one project, whose ways can be closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate import StateManager
from firestate.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path


class Folder:
    """A process with an outbox of its own, whose way out can be closed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manager = StateManager("", folder=folder, snapshot_interval_seconds=0.0)
        self.is_open = True
        backend = self.manager._runtime.backend
        send = backend.send

        def gated(topic: str, messages: Any, writer: str) -> None:
            if not self.is_open:
                raise UnavailableError("the way is closed")
            send(topic, messages, writer)

        backend.send = gated  # type: ignore[method-assign]

    def close_reading(self) -> None:
        """Have the store be far away, and not to be reached."""
        backend = self.manager._runtime.backend
        backend.is_near = False
        backend.reading.lost("the way is closed")

    def open_reading(self) -> None:
        """Have the store be there again."""
        self.manager._runtime.backend.reading.back()

    def stop_telling(self) -> None:
        """Have it not be told yet where others have taken its sessions: that takes its time."""
        self.manager._runtime.registry._compare = lambda *_: None  # type: ignore[method-assign]

    def send_all(self) -> None:
        self.is_open = True
        assert self.manager.flush(30)

    def close(self) -> None:
        self.manager.close(timeout_seconds=0.0)
