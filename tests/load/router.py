"""Between the emulators and the functions: what Eventarc is in production.

Pub/Sub pushes through it and is told what the function answered, so Pub/Sub itself tries again.
The Firestore emulator tells of each change once and never again; here it is kept until its
function has taken it, with a wait that doubles from 50 ms to 2 s. Deliveries go to the instances
of a function by turns; one that takes longer than the limit counts as failed, and the handler goes
on, as in production. A policy can spoil deliveries, and others can listen.
"""

from __future__ import annotations

import base64
import contextlib
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

import urllib3

from tests.load.deliveries import Address, Delivery, Fault, Listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.05, 2.0
_AT_ONCE = 8
_LIMIT_SECONDS = 120.0
_LOOK_SECONDS = 0.02
_FORGETS_FOR_SECONDS = 0.3
_OK = range(200, 300)


class Router:
    """Listens on a port of its own."""

    def __init__(self) -> None:
        self.addresses: dict[str, list[Address]] = {}
        self.policy: Callable[[Delivery], Fault] = lambda _: Fault.NONE
        self.choice: Callable[[list[Address]], Address] | None = None
        """Which of the instances that are open takes a delivery; by turns, unless set."""
        self.listeners: list[Listener] = []
        self.limit_seconds = _LIMIT_SECONDS
        self.counts: Counter[tuple[str, str]] = Counter()
        self.acknowledged: set[str] = set()
        self.taken = 0
        """How many deliveries the functions have taken: what grows as long as there is progress."""
        self.last_failure: dict[str, str] = {}
        self._busy = 0
        self._forgetting = False
        self._forgotten_at = 0.0
        self._quiet_since = time.monotonic()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._former_pools: list[ThreadPoolExecutor] = []
        self._turns: Counter[str] = Counter()
        self._http = urllib3.PoolManager(num_pools=32, maxsize=32, block=False)
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        for pool in (*self._pools.values(), *self._former_pools):
            pool.shutdown(wait=True, cancel_futures=True)
        self._http.clear()

    def connect(self, function: str, addresses: list[Address]) -> None:
        """Deliver what is for `function` to these from now on."""
        with self._lock:
            self.addresses[function] = addresses
            if pool := self._pools.pop(function, None):
                self._former_pools.append(pool)

    @contextlib.contextmanager
    def forgetting(self) -> Iterator[None]:
        """Deliver none of the changes made within the block."""
        self._forgetting = True
        try:
            yield
            self._forgotten_at = time.monotonic()
            while time.monotonic() < self._forgotten_at + _FORGETS_FOR_SECONDS:
                time.sleep(_LOOK_SECONDS)
        finally:
            self._forgetting = False

    def reset(self) -> None:
        """Deliver everything again, to all that listen to nobody: as it was in the beginning."""
        self.policy = lambda _: Fault.NONE
        self.choice = None
        self.listeners.clear()
        self.limit_seconds = _LIMIT_SECONDS

    def quiet_seconds(self) -> float:
        """Give for how long nothing has been under way."""
        with self._lock:
            return 0.0 if self._busy else time.monotonic() - self._quiet_since

    def under_way(self) -> int:
        """Return how many deliveries are under way, those that wait to be tried again included."""
        with self._lock:
            return self._busy

    def push(self, function: str, path: str, headers: dict[str, str], body: bytes) -> int:
        """Deliver a Pub/Sub message and give the function's status."""
        delivery = Delivery(function, path, headers, body)
        with self.working():
            status = self._deliver(delivery)
        if status in _OK:
            self.acknowledged.add(delivery.message_id)
        return status

    def change(self, function: str, headers: dict[str, str], body: bytes) -> None:
        """Take a change from the Firestore emulator, and deliver it until it is taken."""
        if self._forgetting:
            self._forgotten_at = time.monotonic()
            return
        delivery = Delivery(function, "/", headers, base64.b64decode(body))
        for listener in self.listeners:
            listener.changed(delivery)
        working = self.working()
        working.__enter__()
        with self._lock:
            if function not in self._pools:
                self._pools[function] = ThreadPoolExecutor(_AT_ONCE * len(self.addresses[function]))
            pool = self._pools[function]
        pool.submit(self._until_taken, delivery, working)

    def _until_taken(self, delivery: Delivery, working: _Working) -> None:
        wait = _FIRST_WAIT_SECONDS
        try:
            while self._deliver(delivery) not in _OK:
                self._count(delivery.function, "retried")
                if self._closing.wait(wait):
                    return
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
        finally:
            working.__exit__(None, None, None)

    def _deliver(self, delivery: Delivery) -> int:
        fault = self.policy(delivery)
        if fault is Fault.LOST_BEFORE:
            return 503
        status = self._call(delivery)
        if fault is Fault.DUPLICATE:
            status = self._call(delivery)
        return 503 if fault is Fault.LOST_AFTER else status

    def _call(self, delivery: Delivery) -> int:
        address = self._next(delivery.function)
        if address is None:
            return 503
        self._count(delivery.function, "delivered")
        for listener in self.listeners:
            listener.handed_over(delivery, address)
        status = self._request(delivery, address)
        for listener in self.listeners:
            listener.answered(delivery, address, status)
        return status

    def _next(self, function: str) -> Address | None:
        # As Cloud Run does, a request waits for an instance that is starting. Refusing at once
        # would also be more than the Pub/Sub emulator takes: it forgets messages then.
        deadline = time.monotonic() + self.limit_seconds
        while time.monotonic() < deadline:
            with self._lock:
                if found := [address for address in self.addresses[function] if address.open]:
                    if self.choice:
                        return self.choice(found)
                    self._turns[function] += 1
                    return found[self._turns[function] % len(found)]
            time.sleep(_LOOK_SECONDS)
        return None

    def _request(self, delivery: Delivery, address: Address) -> int:
        try:
            answer = self._http.request(
                "POST",
                address.url + delivery.path,
                body=delivery.body,
                headers=delivery.headers,
                timeout=self.limit_seconds,
                retries=False,
            )
        except urllib3.exceptions.HTTPError as error:
            self._count(delivery.function, "unanswered")
            self.last_failure[delivery.function] = repr(error)
            return 503
        if answer.status not in _OK:
            self._count(delivery.function, "failed")
            self.last_failure[delivery.function] = answer.data.decode(errors="replace")[:500]
        else:
            with self._lock:
                self.taken += 1
        return answer.status

    def _count(self, function: str, what: str) -> None:
        with self._lock:
            self.counts[function, what] += 1

    def working(self) -> _Working:
        """Give what keeps the router from being quiet as long as it is entered."""
        return _Working(self)


class _Working:
    """Something is under way as long as this is entered."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def __enter__(self) -> None:
        with self._router._lock:
            self._router._busy += 1

    def __exit__(self, *_: object) -> None:
        with self._router._lock:
            self._router._busy -= 1
            self._router._quiet_since = time.monotonic()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512


def _handler(router: Router) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            url = urlsplit(self.path)
            headers = {k: v for k, v in self.headers.items() if k.lower() in _passed_on(k)}
            if url.path.startswith("/functions/projects/"):
                router.change(url.path.rpartition("/")[2], headers, body)
                status = 200
            else:
                (function,) = parse_qs(url.query)["function"]
                status = router.push(function, url.path, headers, body)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def _passed_on(name: str) -> set[str]:
    lower = name.lower()
    return {lower} if lower.startswith("ce-") or lower == "content-type" else set()
