"""Going on with the agents of a process that has died: each by exactly one of those who try.

    stale, as read ──▶ one claims it in this folder ──▶ a message that takes the session, on
    condition that it is stored as it was read ──▶ the store says who has it ──▶ the handle

The condition is checked by ingest, where all who try come one after the other: the first message
takes the session, and those of others change nothing. Only then does this folder save to it.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from firestate.agents.agent import Agent
from firestate.agents.state.clock import now
from firestate.agents.state.draft import fitting
from firestate.agents.state.encoded_state import EncodedState
from firestate.agents.state.late_work import with_base
from firestate.agents.state.message_encoding import checked_state, state_data
from firestate.errors import FirestateError, UnavailableError
from firestate.schema.messages import STATE_TOPIC, Order
from firestate.schema.take_over import ADOPTS
from firestate.schema.values import time_text

if TYPE_CHECKING:
    from firestate.agents.backends.backend import Backend
    from firestate.agents.reading.answers import Document
    from firestate.agents.registry import AgentRegistry
    from firestate.agents.submitter import Submitter
    from firestate.schema.ids import Identity
    from firestate.schema.models import AgentState
    from firestate.worker import Worker

_LEAST_LOOK_SECONDS, _MOST_LOOK_SECONDS = 0.05, 1.0


class Adoption:
    """Adopts agents for one process."""

    def __init__(
        self, submitter: Submitter, registry: AgentRegistry, backend: Backend, worker: Worker
    ) -> None:
        """Take the parts of the process."""
        self._submitter = submitter
        self._registry = registry
        self._backend = backend
        self._worker = worker

    def adopt(
        self, state: AgentState, document: Document, *, lease_seconds: float, timeout_seconds: float
    ) -> Agent | None:
        """Go on with a stale session, given as it is known here; None where another one has it.

        Args:
            state: The session's state, with what this machine has saved on top.
            document: Its document.
            lease_seconds: How long a claim of another process of this folder counts, which may
                have died with it.
            timeout_seconds: How long to wait for the store to say who has it.

        Raises:
            UnavailableError: The store does not say so in time. If the message arrives later, the
                session is stale again a lease after that.
        """
        identity = self._registry.identity_of(state)
        stored = self._registry.stored(identity)
        seen = Order(document["epoch"], document["revision"])
        if stored is None or Order(stored["epoch"], stored["revision"]) > seen:
            return None  # somebody has gone on with it since it was found stale
        if not self._claims(identity, stored, lease_seconds):
            return None
        epoch = self._submitter.new_epoch(identity, max(stored["epoch"], document["epoch"]))
        order = Order(epoch, 1)
        fields = state.model_dump(mode="json")
        context = with_base(fields, seen, self._submitter.writer)
        context[ADOPTS] = f"{stored['epoch']}.{stored['revision']}"
        time_now = time_text(now())
        fields |= {"last_active": time_now, "last_updated": time_now}
        taken = checked_state({**fields, "collaboration_context": context})
        body = fitting(EncodedState.of(taken), identity.session_id).body()
        writer = self._submitter.writer
        data = state_data(body, order, writer)
        self._worker.run(lambda: self._backend.send(STATE_TOPIC, [data], writer))
        if not self._is_mine(identity, stored, order, timeout_seconds):
            return None
        agent = Agent(self._submitter, self._registry, taken, order=order)
        agent.is_above = True
        return self._registry.take_adopted(agent, seen, document)

    def _claims(self, identity: Identity, stored: Document, lease_seconds: float) -> bool:
        """Whether this process is the one of its folder that tries to have the session."""
        # Of this process: one that has failed may try again at once. Of its threads one gets it all
        # the same, by what the store says.
        own = f"{os.getpid()}-{id(self)}-{self._submitter.writer}"
        what = f"{stored['epoch']}.{stored['revision']}"
        claimed = self._submitter.outbox.claim(identity.state_path, what, own, lease_seconds)
        return claimed == own

    def _is_mine(
        self, identity: Identity, before: Document, order: Order, timeout_seconds: float
    ) -> bool:
        deadline, pause = time.monotonic() + timeout_seconds, _LEAST_LOOK_SECONDS
        while True:
            try:
                stored = self._registry.stored(identity)
            except FirestateError:
                stored = None
            if stored is not None:
                if Order(stored["epoch"], stored["revision"]) >= order:
                    return bool(stored["epoch"] == order.epoch)
                if (stored["epoch"], stored["revision"]) != (before["epoch"], before["revision"]):
                    return False
            if time.monotonic() > deadline:
                message = (
                    f"{identity.state_path} was to be adopted, and the store does not say in "
                    f"{timeout_seconds:g} s whether it was: look for stale agents again later"
                )
                raise UnavailableError(message)
            time.sleep(pause)
            pause = min(2 * pause, _MOST_LOOK_SECONDS)  # each look is a billed read
