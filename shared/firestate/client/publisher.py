"""Publishing to Firestate's topics."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions as gcp
from google.auth import exceptions as auth
from google.cloud import pubsub_v1  # type: ignore[attr-defined] # a namespace without types

from firestate.errors import RefusedError, UnavailableError
from firestate.google_errors import PUBSUB, fault_of_setup, is_emulated, no_emulator_text

if TYPE_CHECKING:
    from concurrent.futures import Future

    from firestate.client.outgoing import Outgoing
    from firestate.errors import FirestateError

_RESERVED = frozenset({"topic", "data", "ordering_key", "retry", "timeout"})
"""Parameters of `PublisherClient.publish`, beside which attributes are passed by their names."""


class Publisher:
    """Publishes in batches, in the background; `flush` waits until all has arrived."""

    def __init__(self, project: str) -> None:
        """Connect to Pub/Sub, or to PUBSUB_EMULATOR_HOST; or raise ConfigurationError."""
        self._project = project
        self._sent: list[tuple[str, Future[str]]] = []
        try:
            self._client: Any = pubsub_v1.PublisherClient()
        except auth.GoogleAuthError as error:
            raise self._our_error(error, "") from error

    def publish(self, message: Outgoing) -> None:
        """Hand the message over; it is on its way, not yet there.

        Raises RefusedError for an attribute with a name that Google's client keeps for itself.
        """
        if taken := _RESERVED & message.attributes.keys():
            reason = f"Google's client cannot publish an attribute named {min(taken)!r}"
            raise RefusedError(reason)
        path = self._client.topic_path(self._project, message.topic)
        published = self._client.publish(path, message.data, **message.attributes)
        self._sent.append((message.topic, published))

    def flush(self, timeout_seconds: float = 60.0) -> int:
        """Wait until Pub/Sub has confirmed each message; give their number.

        Raises UnavailableError if it did not confirm them all in time, ConfigurationError if
        something is missing, such as a topic, a permission or credentials.
        """
        sent, self._sent = self._sent, []
        deadline = time.monotonic() + timeout_seconds
        for topic, each in sent:
            try:
                each.result(timeout=max(0.0, deadline - time.monotonic()))
            except TimeoutError as error:
                message = f"Pub/Sub did not confirm all messages within {timeout_seconds:g} s"
                if is_emulated(PUBSUB):
                    message += f". If {no_emulator_text(str(PUBSUB.emulator))}"
                raise UnavailableError(message) from error
            except (gcp.GoogleAPICallError, gcp.RetryError, auth.GoogleAuthError) as error:
                raise self._our_error(error, topic) from error
        return len(sent)

    def _our_error(self, error: Exception, topic: str) -> FirestateError:
        missing = fault_of_setup(error, PUBSUB, self._project, topic)
        return missing or UnavailableError(f"Pub/Sub did not confirm a message: {error}")
