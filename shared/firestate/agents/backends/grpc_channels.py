"""Google's clients, on connections that do not remember that there was none.

By default gRPC shares connections among all channels of a process, and waits up to two minutes
before it tries one again that has failed: also for a channel that is new. Here each has its own,
and tries at once.
"""

from __future__ import annotations

import os
from typing import Any

import grpc
from google.cloud import firestore
from google.cloud.firestore_v1.services.firestore import FirestoreClient
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcTransport
from google.pubsub_v1 import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # also the time that one try may take
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.keepalive_time_ms", 30_000),  # as Google's own Firestore client has it
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]


def firestore_client(project: str) -> firestore.Client:
    """Give a client for Firestore, or for FIRESTORE_EMULATOR_HOST; raise GoogleAuthError."""
    client = firestore.Client(project=project)
    channel = _channel(
        FirestoreGrpcTransport,
        "FIRESTORE_EMULATOR_HOST",
        client._credentials,  # noqa: SLF001 - found by the client
    )
    # The client makes its own at the first call, unless it has one by then.
    client._firestore_api_internal = FirestoreClient(  # noqa: SLF001 - see above
        transport=FirestoreGrpcTransport(channel=channel)
    )
    return client


def publisher_client() -> PublisherClient:
    """Give a client for Pub/Sub, or for PUBSUB_EMULATOR_HOST; raise GoogleAuthError."""
    channel = _channel(PublisherGrpcTransport, "PUBSUB_EMULATOR_HOST", None)
    return PublisherClient(transport=PublisherGrpcTransport(channel=channel))


def _channel(transport: Any, emulator: str, credentials: Any) -> Any:  # noqa: ANN401 - Google's types are loose here
    if address := os.environ.get(emulator):
        return grpc.insecure_channel(address, options=_OPTIONS)
    return transport.create_channel(credentials=credentials, options=_OPTIONS)
