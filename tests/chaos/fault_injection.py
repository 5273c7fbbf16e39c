"""What happens to the deliveries of a volley of batches, and to the processes that work on them.

All is drawn from one seed. When something happens is counted in deliveries, not in seconds: so
it falls into the traffic, on slow machines too.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Self

from google.cloud import firestore

from firestate.schema.ids import CONTROLS
from tests.load.deliveries import Address, Delivery, Fault, Listener

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from tests.load.runner import Runner

_FAULTS = {Fault.NONE: 80, Fault.DUPLICATE: 7, Fault.LOST_BEFORE: 6, Fault.LOST_AFTER: 7}
_WITHIN = range(10, 250)
_MOST_DELAY_SECONDS = 0.015
_FUNCTIONS = (
    "ingest_state",
    "ingest_event",
    "derive_state",
    "derive_event",
    "roll_up_shards",
    "roll_up_controls",
)


class FaultInjection(Listener):
    """Spoils deliveries while it is entered, and does each of `actions` at a drawn moment.

    `kill` and `freeze` befall the instance that has just been handed a delivery, in the middle of
    it; `control` writes the operators' document, which wakes the other roll-up; `sweep` is the
    scheduled one.
    """

    def __init__(self, running: Runner, draw: random.Random, actions: Sequence[str]) -> None:
        self._running = running
        self._draw = draw
        self._lock = threading.Lock()
        self._delivered = 0
        self._threads: list[threading.Thread] = []
        self._due = [
            (draw.choice(_WITHIN), draw.choice(_FUNCTIONS[:5]), draw.random(), action)
            for action in actions
        ]
        self.done: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._running.router.policy = self._fault
        self._running.router.listeners.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._running.router.listeners.remove(self)
        for thread in self._threads:
            thread.join()
        self._running.router.policy = lambda _: Fault.NONE

    def handed_over(self, delivery: Delivery, address: Address) -> None:
        with self._lock:
            self._delivered += 1
            due = [
                one
                for one in self._due
                if one[0] <= self._delivered
                and (one[1] == delivery.function or one[3] in {"control", "sweep"})
            ]
            for one in due:
                self._due.remove(one)
        for _, _, share, action in due:
            thread = threading.Thread(target=getattr(self, f"_{action}"), args=(address, share))
            self._threads.append(thread)
            thread.start()

    def _fault(self, _: Delivery) -> Fault:
        with self._lock:
            (fault,) = self._draw.choices(list(_FAULTS), weights=list(_FAULTS.values()))
            self.done[fault.name.lower()] += 1
        return fault

    def _kill(self, address: Address, share: float) -> None:
        time.sleep(share * _MOST_DELAY_SECONDS)
        self._running.instance(address).kill()
        self._count("kill")

    def _freeze(self, address: Address, share: float) -> None:
        limit = self._running.router.limit_seconds
        # The router is not quiet before what was frozen has had a second to end its work.
        with self._running.router.working():
            time.sleep(share * _MOST_DELAY_SECONDS)
            instance = self._running.instance(address)
            instance.freeze()
            time.sleep(limit * (1 + share))
            instance.thaw()
        self._count("freeze")

    def _control(self, _: Address, share: float) -> None:
        controls = {"feature_flags": {"share": share}, "last_updated": firestore.SERVER_TIMESTAMP}
        self._running.store._client.document(CONTROLS).set(controls, merge=True)
        self._count("control")

    def _sweep(self, _: Address, share: float) -> None:
        self._running.router.push("sweep", "/", {"ce-id": f"sweep-{share}"}, b"")
        self._count("sweep")

    def _count(self, what: str) -> None:
        with self._lock:
            self.done[what] += 1
