"""The one place where the parts behind a StateManager are put together, and taken apart."""

from __future__ import annotations

import atexit
import logging
import os
import weakref
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from firestate.agents.callbacks import Callbacks
from firestate.agents.controls import Controls
from firestate.agents.desk import Desk, WhenFull
from firestate.agents.engines import Engine, OnThisMachine
from firestate.agents.errands import Errands
from firestate.agents.reader import Reader
from firestate.agents.roster import Roster
from firestate.errors import ConfigurationError
from firestate.outbox.connection import Connection, Line
from firestate.outbox.opening import open_outbox
from firestate.outbox.sender import Sender

if TYPE_CHECKING:
    from pathlib import Path

_LOG = logging.getLogger("firestate.agents")
_AT_EXIT_SECONDS = 5.0
_EMULATORS = ("FIRESTORE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST")
LOCAL = ""
"""Given as the project: this machine, whatever the environment names."""


def named_project(given: str | None) -> str:
    """Give the project to work on, or LOCAL; raise ConfigurationError for half a setting."""
    if given is not None:
        return given
    project = os.environ.get("GOOGLE_CLOUD_PROJECT", LOCAL)
    if project == LOCAL and (named := [name for name in _EMULATORS if os.environ.get(name)]):
        message = f"{named[0]} names an emulator, but GOOGLE_CLOUD_PROJECT no project"
        raise ConfigurationError(message)
    return project


def outbox_name(project: str) -> str:
    """Give the name of an outbox's file: one for each project, so that nothing goes astray."""
    return f"outbox-{project}.db" if project else "outbox.db"


_OPEN: weakref.WeakSet[Office] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Send what a program that ends without `close` has left, as far as that goes in time."""
    for office in list(_OPEN):
        office.close(_AT_EXIT_SECONDS)


class Office:
    """All that works behind one StateManager."""

    def __init__(
        self,
        project: str,
        folder: Path | None,
        *,
        snapshot_interval_seconds: float,
        patience_seconds: float,
        outbox_bytes: int,
        when_full: WhenFull,
    ) -> None:
        """Open everything, and begin to send; nothing is waited for."""
        self.engine = _engine(project, folder)
        path = None if folder is None else folder / outbox_name(project)
        self.outbox = open_outbox(path, most_bytes=outbox_bytes)
        self.reader = Reader(self.engine, self.outbox, patience_seconds=patience_seconds)
        self.callbacks = Callbacks()
        self.controls = Controls(self.engine, self.callbacks, patience_seconds=patience_seconds)
        self.sender = Sender(
            self.outbox,
            self.engine,
            self.engine.publishing,
            interval_seconds=snapshot_interval_seconds,
        )
        self.desk = Desk(
            self.outbox, self.sender, self.controls, self.callbacks, when_full=when_full
        )
        self.errands = Errands(self.engine, self.reader)
        self.roster = Roster(self.desk, self.engine, self.errands)
        self._closed = False
        _OPEN.add(self)
        self.sender.start()

    @property
    def lines(self) -> tuple[Line, Line]:
        """The ways to publish and to read."""
        return self.engine.publishing, self.engine.reading

    def connection(self) -> Connection:
        """Give how the ways are, and what waits."""
        depth = self.outbox.depth()
        since = None if depth.since is None else datetime.fromtimestamp(depth.since, UTC)
        publishing, reading = (line.way for line in self.lines)
        return Connection(publishing, reading, depth.messages, since)

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until nothing waits in the outbox; False if the time was up before."""
        return self.sender.flush(timeout_seconds)

    def settle(self, timeout_seconds: float) -> bool:
        """Flush and, on the local engine, wait until all is counted."""
        flushed = self.flush(timeout_seconds)
        if isinstance(self.engine, OnThisMachine):
            self.engine.engine.settle(timeout_seconds)
        return flushed

    def close(self, timeout_seconds: float) -> None:
        """Send what waits, as far as that goes in time, and end all threads; once."""
        if self._closed:
            return
        self._closed = True
        if not self.flush(timeout_seconds) and self.outbox.path is None:
            left = self.outbox.depth().messages
            _LOG.error("%d messages are lost with the outbox in memory", left)
        parts = (
            self.errands,
            self.sender,
            self.controls,
            self.callbacks,
            self.reader,
            self.engine,
            self.outbox,
        )
        with ExitStack() as stack:  # one that cannot be closed keeps no other open
            for part in reversed(parts):
                stack.callback(part.close)


def _engine(project: str, folder: Path | None) -> Engine:
    if not project:
        return OnThisMachine(None if folder is None else folder / "state.db")
    # Google's libraries take longer to load than all the rest: only where they are used.
    from firestate.agents.cloud import InTheCloud  # noqa: PLC0415 - see above

    return InTheCloud(project)
