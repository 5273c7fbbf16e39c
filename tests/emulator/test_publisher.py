"""Publishing through Google's client."""

from __future__ import annotations

import pytest

from firestate.client.outgoing import Outgoing
from firestate.client.publisher import Publisher
from firestate.errors import ConfigurationError, RefusedError
from firestate.schema.messages import STATE_TOPIC
from tools.emulators import pubsub_emulator


def test_what_cannot_be_published_is_said_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attribute that Google's client takes for a parameter, and a topic that is not there."""
    with pubsub_emulator() as host:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", host)
        publisher = Publisher("demo-publisher")
        with pytest.raises(RefusedError, match="'topic'"):
            publisher.publish(Outgoing(STATE_TOPIC, b"{}", {"topic": "x"}))
        publisher.publish(Outgoing(STATE_TOPIC, b"{}", {"traceparent": "x"}))
        with pytest.raises(ConfigurationError, match="deploy the functions first"):
            publisher.flush()
