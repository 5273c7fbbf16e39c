"""The way of messages to the functions, as a bad network makes it: twice, late, out of order."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from tests.chaos.settings import tell
from tests.load.deliveries import Delivery, Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate.client.outgoing import Outgoing
    from tests.load.runner import Runner
    from tests.upgrade.old_clients import OldClients

PATIENCE_SECONDS = 120.0
"""For how long no delivery may be taken, where some are under way."""

_BATCH, _MOST_UNDER_WAY = 40, 40
_TWICE, _AGAIN, _LATE, _LATE_STILL = 0.2, 0.02, 0.03, 0.8
_FAULTS = {Fault.NONE: 92, Fault.DUPLICATE: 4, Fault.LOST_BEFORE: 2, Fault.LOST_AFTER: 2}
_WARM_UP_BATCHES, _LONG_SESSIONS, _BATCHES_A_LONG_SESSION = 6, 3, 25
_SWEEP_SECONDS, _TELL_SECONDS, _LONGEST_SECONDS = 15.0, 5.0, 300.0


class Network:
    """Brings what `clients` send to the functions, as fast as those take it."""

    def __init__(self, running: Runner, clients: OldClients, seed: int) -> None:
        self._running = running
        self._clients = clients
        self._draw = random.Random(seed)
        self._faults = random.Random(seed)
        self._late: list[Outgoing] = []
        running.router.policy = self._fault
        running.router.choice = random.Random(seed).choice

    def warm_up(self) -> None:
        """Have each client begin, and do some of what it does: from then on all is as usual."""
        batch = self._clients.begin()
        for _ in range(_WARM_UP_BATCHES):
            self._publish(self._filled(batch))
            batch = []
        self._running.wait_quiet(PATIENCE_SECONDS)

    def load(self, title: str, seconds: float, enough: Callable[[], bool] = lambda: True) -> int:
        """Have the clients at work for so long, and until it is enough, some minutes at most.

        Then wait for all; return how many messages were published.
        """
        clients = self._clients
        began = told = swept = time.monotonic()
        batch = [each for _ in range(_LONG_SESSIONS) for each in clients.long_session()]
        published = batches = 0
        longest = began + max(seconds, _LONGEST_SECONDS)
        while (now := time.monotonic()) < began + seconds or (now < longest and not enough()):
            published += self._publish(self._filled(batch))
            batches += 1
            batch = [] if batches % _BATCHES_A_LONG_SESSION else clients.long_session()
            if now > swept + _SWEEP_SECONDS:
                self._running.router.push("sweep", "/", {"ce-id": f"sweep-{now}"}, b"")
                swept = now
            if now > told + _TELL_SECONDS:
                tell(f"{title}: {now - began:.0f} of {seconds:.0f} s, {published} published")
                told = now
        self._running.publish([*batch, *self._late])
        published += len(batch) + len(self._late)
        self._late = []
        self._running.wait_quiet(PATIENCE_SECONDS)
        return published

    def _filled(self, batch: list[Outgoing]) -> list[Outgoing]:
        while len(batch) < _BATCH:
            batch = [*batch, *self._clients.step()]
        return batch

    def _publish(self, messages: list[Outgoing]) -> int:
        """Publish, and wait until not too many are under way; return how many were published."""
        draw = self._draw
        placed = [(each, _LATE) for each in messages]
        placed += [(each, _LATE) for each in messages if draw.random() < _TWICE]
        placed += [(each, _LATE_STILL) for each in self._late]
        placed += [(draw.choice(self._clients.sent), 0) for _ in messages if draw.random() < _AGAIN]
        draw.shuffle(placed)
        self._late = []
        now: list[Outgoing] = []
        for message, late in placed:
            (self._late if draw.random() < late else now).append(message)
        self._running.publish(now)
        self._running.wait_for(self._has_room, PATIENCE_SECONDS)
        return len(now)

    def _has_room(self) -> bool:
        router = self._running.router
        left = [each for each in self._running.sent if each.result() not in router.acknowledged]
        self._running.sent[:] = left
        return len(left) + router.under_way() <= _MOST_UNDER_WAY

    def _fault(self, _: Delivery) -> Fault:
        (fault,) = self._faults.choices(list(_FAULTS), weights=list(_FAULTS.values()))
        return fault
