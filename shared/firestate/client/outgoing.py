"""Messages on their way to a topic."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from firestate.schema.messages import EVENT_TOPIC, STATE_TOPIC

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message on its way to a topic: bytes, and attributes such as `traceparent`."""

    topic: str
    data: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)


def outgoing(message: BaseModel | dict[str, Any]) -> Outgoing:
    """Give the message for its topic: agent-coordination for an event, else agent-state."""
    body = message if isinstance(message, dict) else message.model_dump(mode="json")
    topic = EVENT_TOPIC if "event" in body else STATE_TOPIC
    return Outgoing(topic, json.dumps(body, ensure_ascii=False).encode())
