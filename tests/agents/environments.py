"""What the behaviour suite runs on: memory, the local engine's file, the cloud on emulators."""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from firestate import StateManager
from firestate.pipeline.retry import retry_on_conflict
from firestate.schema.ids import CONTROLS
from firestate.stores.protocol import Remove, replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from firestate.agents.reading.answers import Answer
    from firestate.stores.protocol import Store

PATIENCE = 30.0


def eventually(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Wait until a condition holds, and give what it gave; fail where it never does."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it has not come true in time"
        time.sleep(0.02)
    return found


def another_folder(folder: Path) -> Path:
    """Make a folder with an outbox of its own, over the local engine of a folder.

    Its agents are to those of that folder as those of another machine are in the cloud.
    """
    made = folder.with_name(f"{folder.name}-{uuid.uuid4().hex[:8]}")
    made.mkdir()
    (made / "state.db").symlink_to(folder / "state.db")
    return made


@dataclass
class Environment:
    """Opens managers, each as a process of its own would; those in memory are one process."""

    name: str
    folder: Path | None
    options: dict[str, Any]
    stack: ExitStack
    ours: StateManager | None = None
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    wait_quiet: Callable[[], None] = lambda: None
    """Waits until what other tests have sent is counted, where others send at all."""

    def open(self, **options: Any) -> StateManager:
        """Open another one, with an outbox of its own where that is on a disk."""
        if self.name == "memory":
            if self.ours is None:
                self.ours = self._opened(StateManager.in_memory(**{**self.options, **options}))
            return self.ours
        folder = self.folder
        if self.name == "cloud" and folder is not None:
            folder = folder / uuid.uuid4().hex
        return self._opened(StateManager(folder=folder, **{**self.options, **options}))

    def _opened(self, manager: StateManager) -> StateManager:
        self.stack.callback(manager.close)
        return manager

    def agent(self, name: str) -> str:
        """Give an agent's id that no other test uses."""
        return f"{name}-{self.run}"

    @property
    def store(self) -> Store:
        """What is stored."""
        assert self.ours is not None
        return self.ours._runtime.backend.store()

    def stored(self, path: str) -> dict[str, Any]:
        """Give the fields of a document; none where it is not there."""
        found = self.store.read(path)
        return found.data if found is not None else {}

    def set_controls(self, **controls: Any) -> None:
        """Do what an operator does."""

        def attempt() -> None:
            stored = self.store.read(CONTROLS)
            fields = (stored.data if stored else {}) | controls
            if writes := replacing(stored, CONTROLS, fields):
                self.store.commit(writes)

        retry_on_conflict(CONTROLS, attempt)

    def unset_controls(self) -> None:
        stored = self.store.read(CONTROLS)
        if stored is not None:
            self.store.commit([Remove(CONTROLS, stored.token)])


@contextmanager
def world(name: str, folder: Path | None, **options: Any) -> Iterator[Environment]:
    """Give a world, and close all that was opened in it."""
    with ExitStack() as stack:
        # What is stored is to be told, however busy the machine.
        made = Environment(name, folder, {"patience_seconds": PATIENCE, **options}, stack)
        made.ours = made.open()
        yield made
        made.unset_controls()


def value(answer: Answer[Any]) -> Any:
    """Give what an answer holds, which must be what is stored."""
    assert answer.fresh
    return answer.value
