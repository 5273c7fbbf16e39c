"""StateManager: the one object through which a process of agents keeps its state."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from firestate.agents.lookups import LookUps
from firestate.agents.office import LOCAL, Office, named_project
from firestate.agents.sessions import Sessions
from firestate.agents.watch import Watch
from firestate.limits import MAX_OUTBOX_BYTES, SNAPSHOT_INTERVAL_SECONDS
from firestate.queries import BY_PARENT
from firestate.schema.ids import Identity

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from firestate.agents.desk import WhenFull
    from firestate.agents.watch import Change
    from firestate.outbox.connection import Connection
    from firestate.stores.protocol import Query

_LOG = logging.getLogger("firestate.agents")
_MOST_FORMERS = 10
FOLDER = Path(".firestate")
"""Where a process keeps its outbox and, without a project, the local engine's file."""


class StateManager(Sessions, LookUps):
    """Keeps the state of agents: in a project of Google Cloud or, without one, on this machine.

    The project is the argument, or GOOGLE_CLOUD_PROJECT; FIRESTORE_EMULATOR_HOST and
    PUBSUB_EMULATOR_HOST name emulators. Without a project it works on the local engine, in the file
    `state.db` of the folder. Nothing that an agent calls waits for the network or fails because of
    it; `connection` says how it is.
    """

    def __init__(
        self,
        project: str | None = None,
        *,
        folder: Path | str | None = FOLDER,
        snapshot_interval_seconds: float = SNAPSHOT_INTERVAL_SECONDS,
        patience_seconds: float = 1.0,
        outbox_bytes: int = MAX_OUTBOX_BYTES,
        when_full: WhenFull = "refuse",
    ) -> None:
        """Open the outbox, and begin to work in the background; nothing is waited for.

        `folder` None keeps all in memory. Snapshots of one session go out at most once in an
        interval. A read that takes longer than the patience is answered by what is known. Past its
        bytes the outbox refuses, or a call waits (`when_full="wait"`), but nothing is dropped.
        Raises ConfigurationError where the local engine's file cannot be used.
        """
        self._office = Office(
            named_project(project),
            None if folder is None else Path(folder).absolute(),
            snapshot_interval_seconds=snapshot_interval_seconds,
            patience_seconds=patience_seconds,
            outbox_bytes=outbox_bytes,
            when_full=when_full,
        )
        self._reader = self._office.reader
        self._roster = self._office.roster
        self.controls = self._office.controls
        """Feature flags and the emergency stop, as operators have set them."""
        self._watches: list[Watch] = []

    @classmethod
    def in_memory(cls, **options: Any) -> Self:  # noqa: ANN401 - those of the class
        """Make one that keeps nothing on any disk, nor in a cloud: for tests of your agents."""
        return cls(LOCAL, folder=None, **options)

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def watch(
        self, agent_type: str, agent_id: str, session_id: str, tell: Callable[[Change], None]
    ) -> Watch:
        """Call `tell` with each change of a stored state, until the watch is closed."""
        return self._watched(Identity(agent_type, agent_id, session_id).state_path, tell)

    def watch_children(self, parent_agent_id: str, tell: Callable[[Change], None]) -> Watch:
        """Call `tell` with each change of the states of an agent's children."""
        return self._watched(BY_PARENT.query({"parent_agent_id": parent_agent_id}), tell)

    @property
    def connection(self) -> Connection:
        """How the ways to the cloud are, and what waits."""
        return self._office.connection()

    def on_connection(self, listener: Callable[[Connection], None]) -> None:
        """Call `listener` whenever a way opens or closes."""
        call = self._office.callbacks.call
        for line in self._office.lines:
            line.on_change(lambda _: call(lambda: listener(self.connection)))

    def flush(self, timeout_seconds: float = 10.0) -> bool:
        """Wait until Pub/Sub has all that was saved; False if the time was up before."""
        return self._office.flush(timeout_seconds)

    def settle(self, timeout_seconds: float = 30.0) -> bool:
        """Flush and, on the local engine, wait until all is counted: for tests."""
        return self._office.settle(timeout_seconds)

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Send what waits, as far as that goes in time, and end all threads.

        What is left waits in the outbox for the next process; one in memory says what is lost.
        """
        for watch in self._watches:
            watch.close()
        self._office.close(timeout_seconds)

    def _watched(self, target: str | Query, tell: Callable[[Change], None]) -> Watch:
        watch = Watch(target, lambda change: self._office.callbacks.call(tell, change))
        self._watches = [each for each in self._watches if not each.is_over] + [watch]
        self._office.engine.watch(watch)
        return watch
