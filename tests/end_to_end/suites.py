"""What the tests of the suite share: the bucket's name, and waiting until all is counted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from firestate.audit.full import FullAudit

if TYPE_CHECKING:
    from firestate.stores.firestore import FirestoreStore

BUCKET = "old-files"
_SECONDS = 240.0


def counted(store: FirestoreStore) -> None:
    """Wait until the suite has called all triggers."""
    until = time.monotonic() + _SECONDS
    while FullAudit(store).run().in_flight and time.monotonic() < until:
        time.sleep(0.5)
