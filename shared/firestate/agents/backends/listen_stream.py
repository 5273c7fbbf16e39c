"""One stream of changes from Firestore for all that a process watches.

Google's own `on_snapshot` takes a stream and three threads for each watch, and while Firestore is
away it tries again without a pause. This is the same protocol (`Listen` of google.firestore.v1)
with one stream for all watches, which begins anew, with pauses, whenever it breaks.
"""

from __future__ import annotations

import itertools
import logging
import queue
import random
import threading
from typing import TYPE_CHECKING, Any

import grpc
from google.api_core import exceptions as gcp
from google.auth import exceptions as auth
from google.cloud.firestore_v1 import _helpers
from google.cloud.firestore_v1.types import ListenRequest, Target, TargetChange

from firestate.agents.backends.grpc_channels import firestore_client
from firestate.google_errors import FIRESTORE, fault_of_setup
from firestate.stores.firestore import FirestoreStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from firestate.agents.backends.document_watch import Watch
    from firestate.outbox.connection import Link

_LOG = logging.getLogger("firestate.watch")
_LEAST_PAUSE, _MOST_PAUSE = 0.1, 2.0
_FIRST_ANSWER_SECONDS = 4.0
_ERRORS = (gcp.GoogleAPICallError, gcp.RetryError, grpc.RpcError, auth.GoogleAuthError, OSError)
_AWAY = "Firestore cannot be watched: {}"
_Kind = TargetChange.TargetChangeType


class ListenStream:
    """A thread that keeps a stream open, and tells the watches; `link` is told how it goes."""

    def __init__(
        self, project: str, link: Link, tell_time: Callable[[datetime], None] = lambda _: None
    ) -> None:
        """Take where to listen; nothing is opened before the first watch.

        `tell_time` is called with the times that Firestore says.
        """
        self._tell_time = tell_time
        self._project = project
        self._link = link
        self._watches: dict[int, Watch] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._requests: queue.SimpleQueue[ListenRequest | None] = queue.SimpleQueue()
        self._call: Any = None
        self._cancelled_for: str | None = None
        self._client: Any = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="firestate-watcher", daemon=True)

    def add(self, watch: Watch) -> None:
        """Watch something more."""
        with self._lock:
            if any(each is watch for each in self._watches.values()):
                return
            number = next(self._numbers)
            for over in [n for n, each in self._watches.items() if each.is_over]:
                del self._watches[over]
                self._requests.put(ListenRequest(remove_target=over))
            self._watches[number] = watch
            if self._client is not None:
                watch.begin()
                self._requests.put(self._added(number, watch))
            if not self._thread.is_alive() and not self._closing.is_set():
                self._thread.start()

    def restart(self, reason: str) -> None:
        """Begin anew: a read has failed, for that reason, so this stream may hang as well."""
        call = self._call
        if call is not None:
            # What the call says of itself, "Locally cancelled by application!", tells nobody why.
            self._cancelled_for = reason
            call.cancel()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        self._requests.put(None)
        self.restart("it was closed")
        if self._thread.is_alive():
            self._thread.join(timeout=_FIRST_ANSWER_SECONDS)

    def _run(self) -> None:
        pause = 0.0
        while not self._closing.is_set():
            try:
                self._listen()
                reason = _AWAY.format("the stream ended")
            except _ERRORS as error:
                reason = self._cancelled_for or self._reason(error)
            except Exception as error:  # noqa: BLE001 - whatever it is: nobody else would tell the watches
                _LOG.exception("changes cannot be followed for now")
                reason = _AWAY.format(type(error).__name__)
            if self._closing.is_set():
                return
            pause = _LEAST_PAUSE if self._link.state.open else min(2 * pause + 0.1, _MOST_PAUSE)
            with self._lock:
                watches = list(self._watches.values())
            for each in watches:
                each.interrupted()
            self._link.lost(reason)
            self._closing.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - a wait, no secret

    def _reason(self, error: Exception) -> str:
        """Return what to say of an error: what is missing, or else that the stream is away."""
        if missing := fault_of_setup(error, FIRESTORE, self._project):
            return str(missing)
        if isinstance(error, grpc.Call):
            return _AWAY.format(error.details())
        return _AWAY.format(getattr(error, "message", error))

    def _listen(self) -> None:
        self._cancelled_for = None
        client = firestore_client(self._project)
        requests: queue.SimpleQueue[ListenRequest | None] = queue.SimpleQueue()
        with self._lock:
            self._client, self._requests = client, requests
            self._watches = {n: each for n, each in self._watches.items() if not each.is_over}
            for number, watch in self._watches.items():
                watch.begin()
                requests.put(self._added(number, watch))
        # The bare call, as the client's own `on_snapshot` makes it: the one around it would try
        # again by itself, and give nothing to cancel before the first answer is there.
        listen = client._firestore_api.transport.listen  # noqa: SLF001 - see above
        self._call = listen(iter(requests.get, None), metadata=client._rpc_metadata)  # noqa: SLF001
        # A connection that hangs gives no answer at all, not even an error.
        silent = _AWAY.format("it does not answer")
        late = threading.Timer(_FIRST_ANSWER_SECONDS, lambda: self.restart(silent))
        late.daemon = True
        late.start()
        try:
            for response in self._call:
                if self._take(response):
                    late.cancel()
                    self._link.back()
        finally:
            late.cancel()
            requests.put(None)  # ends the thread that sends
            with self._lock:
                self._client = None
            client.close()  # type: ignore[no-untyped-call] # Google's

    def _take(self, response: Any) -> bool:  # noqa: ANN401 - a ListenResponse
        """Tell the watches; True where one of them has become current."""
        kind = response._pb.WhichOneof("response_type")  # noqa: SLF001 - proto-plus has no other way
        if kind == "target_change":
            return self._target_changed(response.target_change)
        if kind == "document_change":
            change = response.document_change
            path = self._path(change.document.name)
            data: Any = _helpers.decode_dict(change.document.fields, self._client)
            for watch in self._of(change.target_ids):
                watch.found(path, data, change.document.update_time)
            for watch in self._of(change.removed_target_ids):
                watch.gone(path)
        elif kind in {"document_delete", "document_remove"}:
            change = getattr(response, kind)
            for watch in self._of(change.removed_target_ids):
                watch.gone(self._path(change.document))
        return False

    def _target_changed(self, change: TargetChange) -> bool:
        time: Any = change.read_time  # where there is one, as a datetime
        if time is not None:
            self._tell_time(time)
        kind = change.target_change_type
        watches = list(self._of(change.target_ids))
        if kind == _Kind.REMOVE and change.cause.code == 0 and not watches:
            return False  # as it was asked to
        if kind == _Kind.REMOVE:
            said = change.cause.message or "a watch was refused"
            raise gcp.from_grpc_status(change.cause.code, said)  # type: ignore[no-untyped-call] # Google's
        if kind == _Kind.RESET:
            for watch in watches:
                watch.begin()
        if kind == _Kind.CURRENT:
            for watch in watches:
                watch.current()
        return bool(kind == _Kind.CURRENT)

    def _of(self, numbers: Any) -> Iterator[Watch]:  # noqa: ANN401 - a repeated field
        with self._lock:
            found = [self._watches[number] for number in numbers if number in self._watches]
        return iter(found)

    def _added(self, number: int, watch: Watch) -> ListenRequest:
        database = self._client._database_string  # noqa: SLF001 - as the client's own watches
        documents = f"{database}/documents"
        if isinstance(watch.target, tuple):
            names = [f"{documents}/{path}" for path in watch.target]
            target = Target(documents=Target.DocumentsTarget(documents=names), target_id=number)
        else:
            query = FirestoreStore(self._client).structured(watch.target)
            asked = Target.QueryTarget(parent=documents, structured_query=query)
            target = Target(query=asked, target_id=number)
        return ListenRequest(database=database, add_target=target)

    def _path(self, name: str) -> str:
        return name.partition("/documents/")[2]
