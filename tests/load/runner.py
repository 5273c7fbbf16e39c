"""The pipeline as near to production as one machine gets.

Pub/Sub emulator with push subscriptions, Firestore emulator with its triggers, a router that
tries again, and the real functions in processes of their own under functions-framework with 8
threads each. Which functions there are, and what triggers them, is read from functions.yaml.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml
from google.api_core.exceptions import AlreadyExists
from google.cloud import firestore, pubsub_v1  # type: ignore[attr-defined] # a namespace without types
from google.protobuf.duration_pb2 import Duration

from firestate.stores.firestore import FirestoreStore
from tests.load.grpc_counter import GrpcCounter
from tests.load.router import Router
from tools.emulators import firestore_emulator, pubsub_emulator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from firestate.client.publisher import Outgoing

PROJECT = "demo-firestate"
FUNCTIONS = Path(__file__).parents[2] / "functions"
_THREADS = 8
_START_SECONDS = 60.0
_QUIET_SECONDS = 1.0


@dataclass
class Runner:
    """A running pipeline."""

    store: FirestoreStore
    router: Router
    firestore_host: str
    pubsub_host: str
    counter: GrpcCounter | None
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    sent: list[Future[str]] = field(default_factory=list)
    publisher: Any = None

    def publish(self, messages: Iterable[Outgoing]) -> None:
        """Publish as fast as it goes; returns when Pub/Sub has them all."""
        for message in messages:
            path = self.publisher.topic_path(PROJECT, message.topic)
            self.sent.append(self.publisher.publish(path, message.data, **message.attributes))
        for future in self.sent:
            future.result(timeout=60)

    def wait_quiet(self, timeout_seconds: float) -> None:
        """Wait until each message is acknowledged and no trigger is under way."""
        deadline = time.monotonic() + timeout_seconds
        wanted = {future.result() for future in self.sent}
        while not (
            wanted <= self.router.acknowledged and self.router.quiet_seconds() > _QUIET_SECONDS
        ):
            if time.monotonic() > deadline:
                message = (
                    f"not quiet after {timeout_seconds} s: "
                    f"{len(wanted - self.router.acknowledged)} of {len(wanted)} unacknowledged, "
                    f"{dict(self.router.counts)}, {self.router.last_failure}"
                )
                raise TimeoutError(message)
            time.sleep(0.05)

    def signal(self, function: str, number: signal.Signals) -> None:
        """Send a signal to a function's processes: SIGKILL, SIGSTOP, SIGCONT."""
        os.killpg(self.processes[function].pid, number)


@contextlib.contextmanager
def runner(logs: Path, *, count: bool = False) -> Iterator[Runner]:
    """Run the pipeline; with `count` a proxy counts what the functions ask of Firestore."""
    endpoints = yaml.safe_load((FUNCTIONS / "functions.yaml").read_text())["endpoints"]
    with contextlib.ExitStack() as stack:
        router = stack.enter_context(Router())
        host = stack.enter_context(firestore_emulator(functions_emulator=router.address))
        topics = stack.enter_context(pubsub_emulator())
        counter = stack.enter_context(GrpcCounter(host)) if count else None
        environment = {
            **os.environ,
            "FIRESTORE_EMULATOR_HOST": counter.address if counter else host,
            "PUBSUB_EMULATOR_HOST": topics,
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "WORKERS": "1",
            "THREADS": str(_THREADS),
        }
        with _environment(FIRESTORE_EMULATOR_HOST=host, PUBSUB_EMULATOR_HOST=topics):
            store = FirestoreStore(firestore.Client(project=PROJECT))
            running = Runner(store, router, host, topics, counter)
            running.publisher = pubsub_v1.PublisherClient()
            subscriber = pubsub_v1.SubscriberClient()
        stack.callback(_stop, running)
        for function in {endpoint["entryPoint"] for endpoint in endpoints.values()}:
            running.processes[function] = _start(function, environment, logs, router)
        for function in running.processes:
            _wait_for(router.functions[function], running.processes[function], logs / function)
        for name, endpoint in endpoints.items():
            if trigger := endpoint.get("eventTrigger"):
                _connect(name, endpoint["entryPoint"], trigger, running, subscriber)
        subscriber.close()
        yield running


def _start(
    function: str, environment: dict[str, str], logs: Path, router: Router
) -> subprocess.Popen[bytes]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    router.functions[function] = f"http://127.0.0.1:{port}"
    kind = "http" if function == "sweep" else "cloudevent"
    command = [str(Path(sys.executable).parent / "functions-framework"), "--target", function]
    command += ["--source", str(FUNCTIONS / "main.py"), "--signature-type", kind]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with (logs / function).open("wb") as log:
        return subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    host, _, port = url.removeprefix("http://").partition(":")
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
            return
        time.sleep(0.05)
    message = f"{log.name} did not start:\n{log.read_text()}"
    raise RuntimeError(message)


def _connect(
    name: str, function: str, trigger: dict[str, Any], running: Runner, subscriber: Any
) -> None:
    filters = trigger["eventFilters"]
    if topic := filters.get("topic"):
        path = running.publisher.topic_path(PROJECT, topic)
        with contextlib.suppress(AlreadyExists):
            running.publisher.create_topic(name=path)
        endpoint = f"http://{running.router.address}/projects/{PROJECT}/topics/{topic}"
        subscriber.create_subscription(
            request={
                "name": subscriber.subscription_path(PROJECT, name),
                "topic": path,
                "push_config": {"push_endpoint": f"{endpoint}?function={function}"},
                "ack_deadline_seconds": 60,
                "retry_policy": {
                    "minimum_backoff": Duration(nanos=100_000_000),
                    "maximum_backoff": Duration(seconds=1),
                },
            }
        )
        return
    running.router.triggers[name] = function
    pattern = trigger.get("eventFilterPathPatterns", {}).get("document")
    httpx.post(
        f"http://{running.firestore_host}/emulator/v1/projects/{PROJECT}/eventarcTrigger",
        timeout=_START_SECONDS,
        params={"eventarcTriggerId": name},
        json={
            "eventType": trigger["eventType"],
            "database": filters["database"],
            "namespace": filters["namespace"],
            "document": {
                "value": pattern or filters["document"],
                "matchType": "PATH_PATTERN" if pattern else "EXACT",
            },
        },
    ).raise_for_status()


def _stop(running: Runner) -> None:
    for process in running.processes.values():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    for process in running.processes.values():
        process.wait()


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
