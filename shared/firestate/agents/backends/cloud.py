"""The cloud as agents use it: Pub/Sub to publish, Firestore to read and to watch.

Whatever fails is thrown away, connection and all, and made anew at the next try: a connection that
hangs is never waited for. No call here is made on an agent's own thread.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc
from google.api_core import exceptions as gcp
from google.auth import exceptions as auth
from google.pubsub_v1 import PublishRequest, PubsubMessage

from firestate.agents.backends.grpc_channels import firestore_client, publisher_client
from firestate.agents.backends.listen_stream import ListenStream
from firestate.agents.state.clock import CLOCK
from firestate.clock import elapsed_seconds
from firestate.errors import ConfigurationError, FirestateError, UnavailableError
from firestate.forking import ForkSafe
from firestate.google_errors import PUBSUB, fault_of_setup
from firestate.outbox.connection import Link
from firestate.schema.messages import WRITER
from firestate.stores.firestore import FirestoreStore, translated
from firestate.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from firestate.agents.backends.document_watch import Watch

_LOG = logging.getLogger("firestate.clock")
_Request: Any = PublishRequest.pb()
_Message: Any = PubsubMessage.pb()
# ValueError: the channel was closed by a fork of another thread.
_ERRORS = (
    gcp.GoogleAPICallError,
    gcp.RetryError,
    grpc.RpcError,
    auth.GoogleAuthError,
    ValueError,
)
_REFUSALS = (gcp.NotFound, gcp.Forbidden, gcp.BadRequest)  # the connection is as it should be
_SEND_SECONDS = 3.0
_READ_SECONDS = 30.0
_TIME_SECONDS, _ASK_AGAIN_SECONDS = 3.0, 2.0
_CLOSE_SECONDS = 5.0
_SLOWEST_BYTES_A_SECOND = 1_000_000


class CloudBackend(ForkSafe):
    """A project of Google Cloud, or the emulators that the environment names."""

    is_near = False

    def __init__(self, project: str) -> None:
        """Connect to nothing yet."""
        super().__init__()
        self._project = project
        self.publishing = Link("Pub/Sub")
        self.reading = Link("Firestore")
        self._watches: dict[int, Watch] = {}
        self._worker = Worker("firestate-cloud")
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._publisher: Any = None
        self._store: FirestoreStore | None = None
        self._stream: ListenStream | None = None
        self._ask_at = 0.0

    def after_fork(self) -> None:
        """Leave the connections to the parent; the child's are made when they are needed."""
        self.leak((self._publisher, self._store, self._stream))
        self._begin()

    def send(self, topic: str, messages: Sequence[bytes], writer: str) -> None:
        """Publish them in one request, each with the attribute `writer`.

        Raises UnavailableError where that failed for now, ConfigurationError where it will go on
        failing until somebody does something.
        """
        try:
            if self._publisher is None:
                self._publisher = publisher_client()
            path = f"projects/{self._project}/topics/{topic}"
            size = sum(map(len, messages))
            # Plain protobuf: the client's own message types take fifty times as long to make, and
            # the agents' threads wait meanwhile.
            named = {WRITER: writer}
            listed = [_Message(data=data, attributes=named) for data in messages]
            bare = _Request(topic=path, messages=listed)
            self._publisher.publish(
                PublishRequest.wrap(bare),
                timeout=_SEND_SECONDS + size / _SLOWEST_BYTES_A_SECOND,
                retry=None,
            )
        except _ERRORS as error:
            if not isinstance(error, _REFUSALS):
                self._publisher = None
            if missing := fault_of_setup(error, PUBSUB, self._project, topic):
                raise missing from error
            if isinstance(error, _REFUSALS):
                raise ConfigurationError(f"Pub/Sub takes nothing for {path}: {error}") from error
            raise UnavailableError(f"Pub/Sub cannot be reached: {error}") from error

    def learn_time(self) -> None:
        """Ask Firestore what time it is, unless its stream has said so already."""
        if CLOCK.is_sure or time.monotonic() < self._ask_at:
            return
        try:
            with translated(f"project {self._project}", self._project):
                client = firestore_client(self._project)
            try:
                began = elapsed_seconds()
                now = FirestoreStore(client, timeout_seconds=_TIME_SECONDS).now()
                # An answer that was under way for long says when it was sent, not what time it is.
                if elapsed_seconds() - began <= _TIME_SECONDS:
                    CLOCK.learn(now)
            finally:
                client.close()  # type: ignore[no-untyped-call] # Google's
        except FirestateError as error:
            _LOG.info("what time it is cannot be asked for now: %s", error)
            self._ask_at = time.monotonic() + _ASK_AGAIN_SECONDS

    def _told_time(self, now: datetime) -> None:
        """Take the time of an answer of the stream: it may have been under way for long."""
        if not CLOCK.agrees(now):
            CLOCK.doubt()
            self._worker.submit(self.learn_time)

    def store(self) -> FirestoreStore:
        """Give a store whose reads end some time or other; raise ConfigurationError."""
        self._follow()
        with self._lock:
            if self._store is None:
                with translated(f"project {self._project}", self._project):
                    client = firestore_client(self._project)
                self._store = FirestoreStore(client, timeout_seconds=_READ_SECONDS)
            return self._store

    def broken(self, reason: str) -> None:
        """Drop the store's connection; the stream tells when there is a way again.

        Other reads that are under way on it end with it: their threads are wanted.
        """
        # On a thread of ours: agents call this, and what follows takes locks.
        self._worker.submit(lambda: self._drop(reason))

    def _drop(self, reason: str) -> None:
        with self._lock:
            store, self._store = self._store, None
        if store is not None:
            store.close()
        self.reading.lost(reason)
        if self._stream is not None:
            self._stream.restart(reason)

    def watch(self, watch: Watch) -> None:
        """Watch it on the one stream of this process."""
        # Known at once, for a child of a fork to find; the stream takes locks.
        self._watches[id(watch)] = watch
        self._worker.submit(lambda: self._add(watch))

    def _add(self, watch: Watch) -> None:
        with self._lock:
            for key, each in list(self._watches.items()):
                if each.is_over:
                    self._watches.pop(key, None)
            if self._stream is not None:
                self._stream.add(watch)
                return
        self._follow()

    def _follow(self) -> None:
        """Open the stream, which a child of a fork has none of."""
        with self._lock:
            if self._stream is None and self._watches:
                self._stream = ListenStream(self._project, self.reading, self._told_time)
                for each in list(self._watches.values()):
                    self._stream.add(each)

    def close(self) -> None:
        """End the stream; other connections end with the process."""
        self._worker.close(_CLOSE_SECONDS)
        if self._stream is not None:
            self._stream.close()
