"""Saying that the agents of this process live, and finding those whose process has died.

An agent that is at work (active or busy) is renewed several times a lease: `last_active` in its
state says until when its process was there. One that rests needs no renewing. A process that ends
in order leaves its agents idle; those of one that dies stay at work and are renewed no more: after
a lease they are stale, and another process may adopt them.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from firestate.agents.reading.answers import Lookup, ReadRequest
from firestate.agents.reading.state_queries import read_as
from firestate.agents.state.clock import now
from firestate.errors import FirestateError
from firestate.forking import ForkSafe
from firestate.queries import LOOK_UP_STALE, WORKING_STATUSES
from firestate.schema.ids import Identity
from firestate.schema.models import AgentState
from firestate.worker import Thread, Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from firestate.agents.callbacks import Callbacks
    from firestate.agents.reading.store_reader import StoreReader
    from firestate.agents.registry import AgentRegistry

    Listener = Callable[[AgentState], None]

_LOG = logging.getLogger("firestate.agents")
_RENEWED_IN_A_LEASE = 4
_LOOKS_IN_A_LEASE = 2
_MOST_STALE = 1_000
_CLOSE_SECONDS = 5.0


def stale_states(lease_seconds: float, wanted: Mapping[str, str], *, limit: int) -> Lookup:
    """Say which documents are the states of agents at work that were not renewed for a lease.

    Args:
        lease_seconds: The lease of the fleet.
        wanted: Fields that they have; empty for all.
        limit: At most so many, those that were renewed last first.
    """
    until = now() - timedelta(seconds=lease_seconds)
    return Lookup(LOOK_UP_STALE, {"status": WORKING_STATUSES, **wanted}, until=until, limit=limit)


class Leases(ForkSafe):
    """A thread that renews the agents of this process and, where somebody listens, looks for stale.

    It runs from the first agent that is held on.
    """

    def __init__(
        self,
        registry: AgentRegistry,
        reader: StoreReader,
        callbacks: Callbacks,
        *,
        lease_seconds: float,
    ) -> None:
        """Begin nothing yet."""
        super().__init__()
        self.lease_seconds = lease_seconds
        self._registry = registry
        self._reader = reader
        self._callbacks = callbacks
        self._listeners: list[Listener] = []
        self._begin()
        registry.on_first_held(self.start)

    def _begin(self) -> None:
        self._thread = Thread("firestate-leases", self._run)
        self._ending = Wakeup()
        self._closing = False
        self._told: set[tuple[str, object]] = set()

    def after_fork(self) -> None:
        """Begin anew: the thread is the parent's."""
        self._begin()

    def start(self) -> None:
        """Begin to renew, until `close`."""
        if not self._closing:
            self._thread.start()

    def on_stale(self, listener: Listener) -> None:
        """Call `listener` with each agent that becomes stale, once."""
        self._listeners.append(listener)
        self.start()

    def close(self) -> None:
        """End after what is under way."""
        self._closing = True
        self._ending.call()
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        turns = 0
        while not self._ending.wait(self.lease_seconds / _RENEWED_IN_A_LEASE):
            self.renew()
            turns += 1
            if self._listeners and turns % (_RENEWED_IN_A_LEASE // _LOOKS_IN_A_LEASE) == 0:
                self.look()

    def renew(self) -> None:
        """Save each agent at work that nobody has saved for a while."""
        before = now() - timedelta(seconds=self.lease_seconds / _RENEWED_IN_A_LEASE)
        for agent in self._registry.held():
            try:
                agent.renew(before)
            except FirestateError as error:
                _LOG.info("%s cannot be renewed: %s", agent.identity.state_path, error)
            except Exception:  # noqa: BLE001 - others are to be renewed
                _LOG.exception("%s cannot be renewed", agent.identity.state_path)

    def look(self) -> None:
        """Tell of each agent that has become stale since the last look."""
        find = stale_states(self.lease_seconds, {}, limit=_MOST_STALE)
        try:
            found, fresh = self._reader.ask(ReadRequest(find, lambda found, fresh: (found, fresh)))
        except FirestateError as error:
            _LOG.warning("stale agents cannot be looked for now: %s", error)
            return
        if not fresh:
            return
        states = read_as(AgentState, found)
        keys = {(_path(state), state.last_active): state for state in states}
        for key, state in keys.items():
            if key not in self._told:
                for listener in list(self._listeners):
                    self._callbacks.call(listener, state)
        self._told = set(keys)  # who was renewed, and becomes stale again, is told of again


def _path(state: AgentState) -> str:
    return Identity(state.agent_type, state.agent_id, state.session_id).state_path
