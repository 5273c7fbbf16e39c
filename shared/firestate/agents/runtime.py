"""The one place where the parts behind a StateManager are put together, and taken apart."""

from __future__ import annotations

import atexit
import logging
import os
import weakref
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, get_args

from firestate.agents.adoption import Adoption
from firestate.agents.backends.local import LocalBackend
from firestate.agents.callbacks import Callbacks
from firestate.agents.controls import Controls, WhenUnknown
from firestate.agents.leases import Leases
from firestate.agents.reading.background_reads import BackgroundReads
from firestate.agents.reading.store_reader import StoreReader
from firestate.agents.refusals import Refusals
from firestate.agents.registry import AgentRegistry
from firestate.agents.state.clock import CLOCK
from firestate.agents.state.wrong_times import put_right
from firestate.agents.submitter import Submitter, WhenFull
from firestate.errors import ConfigurationError, OutboxError
from firestate.outbox.connection import Connection, Link
from firestate.outbox.open import open_outbox
from firestate.outbox.sender import Sender
from firestate.worker import Worker

if TYPE_CHECKING:
    from pathlib import Path

    from firestate.agents.backends.backend import Backend

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


_OPEN: weakref.WeakSet[Runtime] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Send what a program that ends without `close` has left, as far as that goes in time."""
    for runtime in list(_OPEN):
        runtime.close(_AT_EXIT_SECONDS)


class Runtime:
    """The parts behind one StateManager."""

    def __init__(
        self,
        project: str,
        folder: Path | None,
        *,
        snapshot_interval_seconds: float,
        patience_seconds: float,
        outbox_bytes: int,
        when_full: WhenFull,
        when_unknown: WhenUnknown,
        lease_seconds: float,
    ) -> None:
        """Open everything, and begin to send; nothing is waited for.

        Raises ConfigurationError where `when_unknown` is no such word, or the lease is none.
        """
        if not lease_seconds > 0:
            message = f"lease_seconds must be more than 0, not {lease_seconds!r}"
            raise ConfigurationError(message)
        if when_unknown not in get_args(WhenUnknown):
            message = f"when_unknown must be 'open' or 'closed', not {when_unknown!r}"
            raise ConfigurationError(message)
        self.backend = _backend(project, folder)
        try:
            path = None if folder is None else folder / outbox_name(project)
            self.outbox = open_outbox(path, most_bytes=outbox_bytes)
            self.reader = StoreReader(self.backend, self.outbox, patience_seconds=patience_seconds)
            self.callbacks = Callbacks()
            self.controls = Controls(
                self.backend,
                self.callbacks,
                patience_seconds=patience_seconds,
                when_unknown=when_unknown,
            )
            self.sender = Sender(
                self.outbox,
                self.backend,
                self.backend.publishing,
                interval_seconds=snapshot_interval_seconds,
                put_right=self._put_right,
            )
            self.submitter = Submitter(
                self.outbox, self.sender, self.controls, self.callbacks, when_full=when_full
            )
            self.background_reads = BackgroundReads(self.backend, self.reader)
            self.registry = AgentRegistry(self.submitter, self.backend, self.background_reads)
            self.outbox.on_conflict(self.registry.merge_apart)
            self.outbox.on_loss(self.registry.put_again)
            self._losses = 0
            if isinstance(self.backend, LocalBackend):
                self.backend.on_replaced(lambda: self._worker.submit(self._send_again))
            self.refusals = Refusals(self.outbox, self.backend, self.callbacks)
            self._worker = Worker("firestate-runtime")
            self.leases = Leases(
                self.registry, self.reader, self.callbacks, lease_seconds=lease_seconds
            )
            self.adoption = Adoption(self.submitter, self.registry, self.backend, self._worker)
            _OPEN.add(self)
            self.sender.start()
            self.refusals.begin()
        except BaseException:
            # Nobody will have it, and so nobody could close it.
            if self in _OPEN:
                self.close(0.0)
            else:
                self.backend.close()
            raise

    def _put_right(self, message: dict[str, Any]) -> str | None:
        """Put the times of a message right before it goes out."""
        self.backend.learn_time()
        return put_right(message, CLOCK)

    @property
    def links(self) -> tuple[Link, Link]:
        """The ways to publish and to read."""
        return self.backend.publishing, self.backend.reading

    def connection(self) -> Connection:
        """Give how the ways are, and what waits."""
        depth = self.outbox.depth()
        since = None if depth.since is None else datetime.fromtimestamp(depth.since, UTC)
        publishing, reading = (link.state for link in self.links)
        self.refusals.begin()  # a child of a fork may not have yet
        return Connection(publishing, reading, depth.messages, since, self.refusals.waiting)

    def _send_again(self) -> None:
        """Have the local engine, whose file is another one, be told again what it was told."""
        # At once, also where this process ends now; and what is under way, which is confirmed soon.
        try:
            self.outbox.send_again()
        except OutboxError as error:
            _LOG.warning(
                "what was sent to the local engine of late goes out again later: %s", error
            )
        self.sender.send_again()
        self.registry.put_again()

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until what waits in the outbox has gone out; False if the time was up before."""
        return self.sender.flush(timeout_seconds)

    def settle(self, timeout_seconds: float) -> bool:
        """Flush and, on the local engine, wait until all is counted.

        False also where a message waits in quarantine since this process has begun, or where some
        were lost with the outbox's file since the last time.
        """
        flushed = self.flush(timeout_seconds)
        if not isinstance(self.backend, LocalBackend):
            is_any_refused = self.refusals.is_any_new()
        else:
            backend = self.backend
            self._worker.run(lambda: backend.engine.settle(timeout_seconds))
            is_any_refused = self._worker.run(lambda: self.refusals.is_any_new(backend.store()))
        # Last: where something has raised, the next call still says what was lost.
        losses, self._losses = self._losses, self.outbox.losses
        return flushed and losses == self._losses and not is_any_refused

    def close(self, timeout_seconds: float) -> None:
        """Send what waits, as far as that goes in time, and end all threads; once.

        One that was interrupted is gone on with by the next.
        """
        if self.outbox.is_closed:
            return
        try:
            self.registry.rest()
            self.flush(timeout_seconds)
        except OutboxError:
            if not self.outbox.is_closed:  # by a signal handler, in the middle of this
                _LOG.exception("what waits in the outbox cannot be sent before it is closed")
        # On a thread of ours, which no signal interrupts: each part is closed, or all of them are
        # by the next call, which waits for this one.
        self._worker.run(self._close_parts)
        self._worker.close(0.0)
        with suppress(OutboxError):  # closed by a signal handler, in the middle of this
            if self.outbox.path is None and (left := self.outbox.depth().messages):
                _LOG.error("%d messages are lost with the outbox in memory", left)
        # Last of all: what interrupts this may save up to here.
        self.outbox.close()

    def _close_parts(self) -> None:
        for part in (
            self.leases,
            self.background_reads,
            self.refusals,
            self.sender,
            self.controls,
            self.callbacks,
            self.reader,
            self.backend,
        ):
            try:
                part.close()
            except Exception:  # noqa: BLE001 - one that cannot be closed keeps no other open
                _LOG.exception("a %s cannot be closed", type(part).__name__)


def _backend(project: str, folder: Path | None) -> Backend:
    if not project:
        return LocalBackend(None if folder is None else folder / "state.db")
    # Google's libraries take longer to load than all the rest: only where they are used.
    from firestate.agents.backends.cloud import CloudBackend  # noqa: PLC0415 - see above

    return CloudBackend(project)
