"""A proxy in front of a Firestore emulator that counts billed operations at the gRPC layer.

Every call is passed on as the bytes it is, in both directions; what it costs is read off the
requests and responses. A read is a document returned (or found missing) by a get, or returned by
a query, at least one a query; a write is a document written by a commit that succeeded. A query
for an aggregation costs one read per 1,000 index entries: here always one.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import grpc
from google.cloud.firestore_v1.types import firestore as types

if TYPE_CHECKING:
    from collections.abc import Iterator

_SERVICE = "/google.firestore.v1.Firestore/"
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
]
_THREADS = 96
_WINDOW_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Billed:
    """So many operations; `refused` are commits that a precondition refused."""

    reads: int = 0
    writes: int = 0
    deletes: int = 0
    refused: int = 0
    round_trips: int = 0

    def __sub__(self, other: Billed) -> Billed:
        """Give what came since `other`."""
        return Billed(*(getattr(self, n) - getattr(other, n) for n in self.__slots__))


class GrpcCounter(grpc.GenericRpcHandler):  # type: ignore[type-arg] # generic in its stubs alone
    """The proxy: point FIRESTORE_EMULATOR_HOST to its `address`."""

    def __init__(self, upstream: str) -> None:
        self._channel = grpc.insecure_channel(upstream, options=_OPTIONS)
        self._server = grpc.server(ThreadPoolExecutor(_THREADS), options=_OPTIONS)
        self._server.add_generic_rpc_handlers((self,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._written: dict[str, list[float]] = defaultdict(list)
        self._queried: Counter[tuple[str, str]] = Counter()

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(grace=0).wait()
        self._channel.close()

    def snapshot(self) -> Billed:
        """Give the operations so far."""
        with self._lock:
            return Billed(**self._counts)

    def times_of(self, path: str) -> list[float]:
        """Give when `path` was written, in seconds of the monotonic clock."""
        with self._lock:
            return list(self._written.get(path, ()))

    def queries(self, collection: str, under: str) -> int:
        """Return how often a `collection` below one document of `under` was asked."""
        with self._lock:
            return self._queried[collection, under]

    def hottest(self, most: int = 10) -> list[tuple[str, int, float]]:
        """Give path, writes, and the highest rate a second over any 5 s, highest rate first."""
        with self._lock:
            rates = [(path, len(t), peak_rate(t)) for path, t in self._written.items()]
        return sorted(rates, key=lambda one: (one[2], one[1]), reverse=True)[:most]

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        method = details.method

        def forward(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            return self._forward(method, requests, context)

        return grpc.stream_stream_rpc_method_handler(forward)

    def _forward(
        self, method: str, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        sent: list[bytes] = []

        def noting() -> Iterator[bytes]:
            for request in requests:
                sent.append(request)
                yield request

        metadata = tuple(
            (key, value)
            for key, value in context.invocation_metadata()
            if not key.startswith("grpc-") and key not in {"user-agent", "te", "content-type"}
        )
        call = self._channel.stream_stream(method, None, None)(noting(), metadata=metadata)
        context.add_callback(call.cancel)
        try:
            received = list(call)
        except grpc.RpcError:
            self._count(method, sent, [], call.code())
            context.set_trailing_metadata(call.trailing_metadata() or ())
            context.abort(call.code(), call.details())
        # Counted before it is passed on: who has the answer finds it counted.
        self._count(method, sent, received, grpc.StatusCode.OK)
        yield from received

    def _count(
        self, method: str, sent: list[bytes], received: list[bytes], code: grpc.StatusCode
    ) -> None:
        name = method.removeprefix(_SERVICE)
        with self._lock:
            self._counts["round_trips"] += 1
            if name == "Commit" and code is not grpc.StatusCode.OK:
                self._counts["refused"] += 1
            elif code is grpc.StatusCode.OK:
                self._count_success(name, sent, received)

    def _count_success(self, name: str, sent: list[bytes], received: list[bytes]) -> None:
        if name == "BatchGetDocuments":
            answers = [types.BatchGetDocumentsResponse.pb().FromString(r) for r in received]
            self._counts["reads"] += sum(bool(a.found.name or a.missing) for a in answers)
        elif name == "RunQuery":
            found = [types.RunQueryResponse.pb().FromString(r) for r in received]
            self._counts["reads"] += max(1, sum(bool(a.document.name) for a in found))
            self._count_queries(sent)
        elif name in {"RunAggregationQuery", "GetDocument"}:
            self._counts["reads"] += 1
        elif name == "Commit":
            for request in sent:
                for write in types.CommitRequest.pb().FromString(request).writes:
                    self._count_write(write)

    def _count_queries(self, sent: list[bytes]) -> None:
        for request in sent:
            query = types.RunQueryRequest.pb().FromString(request)
            # projects/{project}/databases/{database}/documents, and the document, if below one
            under = query.parent.split("/")[5:]
            for asked in query.structured_query.from_:
                self._queried[asked.collection_id, under[0] if under else ""] += 1

    def _count_write(self, write: Any) -> None:
        if write.delete:
            self._counts["deletes"] += 1
            return
        self._counts["writes"] += 1
        name = write.update.name or write.transform.document
        self._written[name.split("/", 5)[5]].append(time.monotonic())


def peak_rate(times: list[float], window: float = _WINDOW_SECONDS) -> float:
    """Give the most that fell into any `window` seconds, a second."""
    ordered, start, most = sorted(times), 0, 0
    for end, at in enumerate(ordered):
        while ordered[start] <= at - window:
            start += 1
        most = max(most, end - start + 1)
    return most / window
