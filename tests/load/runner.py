"""The pipeline as near to production as one machine gets.

Pub/Sub emulator with push subscriptions, Firestore emulator with its triggers, a router that
tries again, and the real functions in processes of their own under functions-framework with 8
threads each. Which functions there are, and what triggers them, is read from functions.yaml.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml
from google.cloud import firestore, pubsub_v1  # type: ignore[attr-defined] # a namespace without types

from firestate.client.outgoing import Outgoing
from firestate.schema.messages import EVENT_TOPIC, STATE_TOPIC
from firestate.stores.firestore import FirestoreStore
from tests.load.connections import connect_trigger, subscribe
from tests.load.grpc_counter import GrpcCounter
from tests.load.instances import Instance, Instances
from tests.load.router import Router
from tools.emulators import firestore_emulator, pubsub_emulator
from tools.processes import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from concurrent.futures import Future

    from tests.load.deliveries import Address

PROJECT = "demo-firestate"
FUNCTIONS = Path(__file__).parents[2] / "functions"
_THREADS = 8
_QUIET_SECONDS = 1.0
_PATIENCE_SECONDS = 60.0


@dataclass
class Runner:
    """A running pipeline."""

    store: FirestoreStore
    router: Router
    firestore_host: str
    pubsub_host: str
    counter: GrpcCounter | None
    sent: list[Future[str]] = field(default_factory=list)
    publisher: Any = None
    functions: Instances | None = None

    @property
    def instances(self) -> dict[str, list[Instance]]:
        """The processes of each function of functions.yaml."""
        assert self.functions is not None
        return self.functions.started

    def use(self, numbers: Mapping[str, int]) -> None:
        """Have so many processes of these functions take deliveries, and one of all others."""
        assert self.functions is not None
        self.functions.use(numbers)
        for name, listed in self.instances.items():
            wanted = listed[: numbers.get(name, 1)]
            self.router.connect(name, [instance.address for instance in wanted])

    def publish(self, messages: Iterable[Outgoing]) -> None:
        """Publish as fast as it goes; returns when Pub/Sub has them all."""
        for message in messages:
            path = self.publisher.topic_path(PROJECT, message.topic)
            self.sent.append(self.publisher.publish(path, message.data, **message.attributes))
        for future in self.sent:
            future.result(timeout=60)

    def instance(self, address: Address) -> Instance:
        """Give the instance that listens there."""
        return self.instances[address.function][address.number]

    def wait_quiet(self, timeout_seconds: float) -> None:
        """Wait until each message is acknowledged and no trigger is under way, as `wait_for`."""
        self.wait_for(self.is_quiet, timeout_seconds)

    def wait_for(self, holds: Callable[[], object], patience_seconds: float) -> None:
        """Wait until something holds, however long that takes, while deliveries are taken.

        TimeoutError where none was taken for so many seconds.
        """
        taken, since = self.router.taken, time.monotonic()
        while not holds():
            if self.router.taken != taken:
                taken, since = self.router.taken, time.monotonic()
            if time.monotonic() > since + patience_seconds:
                message = (
                    f"no delivery was taken for {patience_seconds} s: "
                    f"{len(self._unacknowledged())} of {len(self.sent)} unacknowledged, "
                    f"{dict(self.router.counts)}, {self.router.last_failure}"
                )
                raise TimeoutError(message)
            time.sleep(0.05)

    def is_quiet(self) -> bool:
        """Whether each message is acknowledged and no trigger is under way."""
        return not self._unacknowledged() and self.router.quiet_seconds() > _QUIET_SECONDS

    def empty(self) -> None:
        """Take away all that is stored, when all that was sent has come to rest."""
        # What others have published is not known here: it is before these in Pub/Sub.
        self.publish([Outgoing(STATE_TOPIC, b" "), Outgoing(EVENT_TOPIC, b" ")])
        self.wait_quiet(_PATIENCE_SECONDS)
        self.sent.clear()
        with self.router.forgetting():
            httpx.delete(
                f"http://{self.firestore_host}/emulator/v1/projects/{PROJECT}"
                "/databases/(default)/documents",
                timeout=_PATIENCE_SECONDS,
            ).raise_for_status()

    def _unacknowledged(self) -> set[str]:
        return {future.result() for future in self.sent} - self.router.acknowledged


@contextlib.contextmanager
def runner(
    logs: Path,
    *,
    count: bool = False,
    instances: Mapping[str, int] | None = None,
    dead_letters: bool = False,
) -> Iterator[Runner]:
    """Run the pipeline; what its processes write goes to the folder `logs`.

    With `count` a proxy counts what the functions ask of Firestore. `instances` says of which
    functions there is more than one process. With `dead_letters` a message that has failed five
    times goes to its topic's dead-letter topic.
    """
    endpoints = yaml.safe_load((FUNCTIONS / "functions.yaml").read_text())["endpoints"]
    with contextlib.ExitStack() as stack:
        router = stack.enter_context(Router())
        host = stack.enter_context(firestore_emulator(functions_emulator=router.address))
        topics = stack.enter_context(pubsub_emulator())
        counter = stack.enter_context(GrpcCounter(host)) if count else None
        environment = {
            "FIRESTORE_EMULATOR_HOST": counter.address if counter else host,
            "PUBSUB_EMULATOR_HOST": topics,
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "WORKERS": "1",
            "THREADS": str(_THREADS),
        }
        with _environment(FIRESTORE_EMULATOR_HOST=host, PUBSUB_EMULATOR_HOST=topics):
            client = firestore.Client(project=PROJECT)
            stack.callback(client.close)
            running = Runner(FirestoreStore(client), router, host, topics, counter)
            running.publisher = pubsub_v1.PublisherClient()
            subscriber = pubsub_v1.SubscriberClient()
        run = stack.enter_context(Run())
        running.functions = Instances(
            run, endpoints, source=FUNCTIONS / "main.py", environment=environment, logs=logs
        )
        running.use(instances or {})
        for name, endpoint in endpoints.items():
            filters = endpoint.get("eventTrigger", {}).get("eventFilters", {})
            if "topic" in filters:
                push = f"http://{router.address}/projects/{PROJECT}/topics/{filters['topic']}"
                subscribe(
                    PROJECT,
                    filters["topic"],
                    name,
                    f"{push}?function={name}",
                    (running.publisher, subscriber),
                    dead_letters=dead_letters,
                )
            elif filters:
                connect_trigger(PROJECT, host, name, endpoint["eventTrigger"])
        subscriber.close()
        yield running


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
