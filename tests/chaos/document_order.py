"""Where a message belongs: the document, and its place in the order there."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

from firestate.schema.ids import Identity, event_path

if TYPE_CHECKING:
    from firestate.client.outgoing import Outgoing


def path_of(message: Outgoing) -> str:
    """Give the document that a good message is for."""
    return place_of(message)[0]


def place_of(message: Outgoing) -> tuple[str, int, int]:
    """Give the document that a good message is for, and its place in the order there."""
    body = json.loads(message.data)
    if event := body.get("event"):
        at = datetime.fromisoformat(event["timestamp"])
        return event_path(at, event["event_id"]), 0, 0
    one = body.get("state") or body["deleted"]
    identity = Identity(one["agent_type"], one["agent_id"], one["session_id"])
    return identity.state_path, body["epoch"], body["revision"]
