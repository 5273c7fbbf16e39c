"""Each state that was ever stored, as Firestore's triggers tell of them."""

from __future__ import annotations

import threading
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from firestate.stores.firestore_event import changed_document
from tests.load.deliveries import Delivery, Listener

if TYPE_CHECKING:
    from datetime import datetime


class ObservedStates(Listener):
    """Notes the order of each stored state; the emulator tells of each write once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.states: dict[str, list[tuple[datetime, tuple[int, int]]]] = defaultdict(list)

    def changed(self, delivery: Delivery) -> None:
        if delivery.function != "derive_state":
            return
        state = changed_document(delivery.body, ("epoch", "revision"))
        if state is not None:
            order = (state.data["epoch"], state.data["revision"])
            with self._lock:
                self.states[state.path].append((state.updated_at, order))

    def gone_back(self) -> list[str]:
        """Say which documents were ever overwritten by an earlier state.

        Noting beside a state that something has come late leaves its order as it is.
        """
        with self._lock:
            return [
                f"{path}: {before} at {at}, then {after}"
                for path, seen in self.states.items()
                for (at, before), (_, after) in pairwise(sorted(seen))
                if after < before
            ]
