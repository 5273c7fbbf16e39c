"""New ids, in the order of time."""

from __future__ import annotations

import secrets
import time


def new_id() -> str:
    """Return an id for an event or a session: unique, and sorted by the time it was made."""
    return f"{time.time_ns() // 1000:016x}-{secrets.token_hex(4)}"
