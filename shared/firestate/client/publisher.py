"""Publishing to Firestate's topics."""

from __future__ import annotations

import threading
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
    """Publishes in batches, in the background; `flush` waits until all has arrived.

    Any number of threads may publish. A message is forgotten once Pub/Sub has confirmed it, so that
    a process may publish for years and never flush. Of messages that failed, the first error is
    kept, for the next `flush` to raise.
    """

    def __init__(self, project: str) -> None:
        """Connect to Pub/Sub, or to PUBSUB_EMULATOR_HOST; or raise ConfigurationError."""
        self._project = project
        # What is on its way, the oldest first, with its topic.
        self._sent: dict[Future[str], str] = {}
        self._confirmed = 0
        self._failure: tuple[str, BaseException] | None = None
        self._lock = threading.RLock()
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
        with self._lock:
            self._sent[published] = message.topic
        published.add_done_callback(self._ended)  # at once, where it has ended already

    def flush(self, timeout_seconds: float = 60.0) -> int:
        """Wait until Pub/Sub has confirmed each message; return how many it has since last time.

        Raises UnavailableError if it did not confirm them all in time, ConfigurationError if
        something is missing, such as a topic, a permission or credentials. What is on its way
        still is waited for by the next call.
        """
        deadline = time.monotonic() + timeout_seconds
        with self._lock:
            waiting = list(self._sent)
        for each in waiting:
            if self._failure is not None:
                break
            try:
                each.exception(timeout=max(0.0, deadline - time.monotonic()))
            except TimeoutError as error:
                self._failed(self._sent.get(each, ""), error)
                break
            # Whoever waits is woken before what is called back: it must not be missed here.
            self._ended(each)
        with self._lock:
            failure, self._failure = self._failure, None
            if failure is None:
                confirmed, self._confirmed = self._confirmed, 0
                return confirmed
        topic, cause = failure
        if isinstance(cause, TimeoutError):
            message = f"Pub/Sub did not confirm all messages within {timeout_seconds:g} s"
            if is_emulated(PUBSUB):
                message += f". If {no_emulator_text(str(PUBSUB.emulator))}"
            raise UnavailableError(message) from cause
        if isinstance(cause, gcp.GoogleAPICallError | gcp.RetryError | auth.GoogleAuthError):
            raise self._our_error(cause, topic) from cause
        raise cause

    def _ended(self, published: Future[str]) -> None:
        """Forget a message that was confirmed or has failed; called twice, it counts once."""
        error = published.exception()
        with self._lock:
            topic = self._sent.pop(published, None)
            if topic is None:
                return
            if error is None:
                self._confirmed += 1
            else:
                self._failed(topic, error)

    def _failed(self, topic: str, error: BaseException) -> None:
        with self._lock:
            self._failure = self._failure or (topic, error)

    def _our_error(self, error: Exception, topic: str) -> FirestateError:
        missing = fault_of_setup(error, PUBSUB, self._project, topic)
        return missing or UnavailableError(f"Pub/Sub did not confirm a message: {error}")
