"""New ids, in the order of time."""

from __future__ import annotations

import secrets

from firestate.agents.state.clock import now_in_microseconds


def new_id() -> str:
    """Return an id for an event or a session: unique, and sorted by the time it was made."""
    return f"{now_in_microseconds():016x}-{secrets.token_hex(4)}"
