"""What a Publisher keeps of its messages, and what `flush` says of them."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import Future
from typing import Any

import pytest
from google.api_core import exceptions as gcp

from firestate.client.outgoing import Outgoing
from firestate.client.publisher import Publisher
from firestate.errors import UnavailableError

MESSAGE = Outgoing("agent-state", b"{}")


class PubSub:
    """Google's client; it keeps the futures that nobody has settled yet, and no others."""

    def __init__(self) -> None:
        self.open: list[Future[str]] = []

    def topic_path(self, project: str, topic: str) -> str:
        return f"projects/{project}/topics/{topic}"

    def publish(self, *_: Any, **__: Any) -> Future[str]:
        self.open.append(Future())
        return self.open[-1]

    def confirm(self, number: int) -> None:
        """Confirm the oldest."""
        for _ in range(number):
            self.open.pop(0).set_result("id")

    def fail(self, reason: str) -> None:
        """Refuse the oldest."""
        self.open.pop(0).set_exception(gcp.ServiceUnavailable(reason))


@pytest.fixture
def pubsub(monkeypatch: pytest.MonkeyPatch) -> PubSub:
    made = PubSub()
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.setattr("google.cloud.pubsub_v1.PublisherClient", lambda: made)
    return made


@pytest.fixture
def publisher(pubsub: PubSub) -> Publisher:
    assert not pubsub.open
    return Publisher("demo-x")


def published(publisher: Publisher, pubsub: PubSub, number: int) -> list[weakref.ref[Future[str]]]:
    """Publish, and return references that keep nothing alive."""
    for _ in range(number):
        publisher.publish(MESSAGE)
    return [weakref.ref(each) for each in pubsub.open[-number:]]


def alive(references: list[weakref.ref[Future[str]]]) -> int:
    gc.collect()
    return sum(each() is not None for each in references)


def test_what_is_confirmed_is_kept_no_more(publisher: Publisher, pubsub: PubSub) -> None:
    """Without any `flush`: a program may publish for years."""
    futures = published(publisher, pubsub, 100)
    pubsub.confirm(98)
    assert alive(futures) == 2
    pubsub.confirm(2)
    assert alive(futures) == 0


def test_of_what_fails_nothing_but_the_first_error_is_kept(
    publisher: Publisher, pubsub: PubSub
) -> None:
    """An outage of days does not fill the memory either."""
    futures = published(publisher, pubsub, 100)
    errors = []
    for number in range(100):
        error = gcp.ServiceUnavailable(f"away {number}")
        pubsub.open.pop(0).set_exception(error)
        errors.append(weakref.ref(error))
    del error
    assert alive(futures) == 0
    assert [each() is not None for each in errors] == [True] + [False] * 99
    with pytest.raises(UnavailableError, match="away 0"):
        publisher.flush()
    assert publisher.flush() == 0


def test_a_flush_counts_what_was_confirmed_before_it(publisher: Publisher, pubsub: PubSub) -> None:
    """Each message once, whenever it was confirmed."""
    published(publisher, pubsub, 3)
    pubsub.confirm(3)
    assert publisher.flush() == 3
    assert publisher.flush() == 0


def test_what_is_late_is_waited_for_by_the_next_flush(publisher: Publisher, pubsub: PubSub) -> None:
    """It is on its way still, and may fail yet."""
    futures = published(publisher, pubsub, 2)
    pubsub.confirm(1)
    with pytest.raises(UnavailableError, match="did not confirm all messages within 0 s"):
        publisher.flush(0)
    assert alive(futures) == 1
    pubsub.fail("away")
    with pytest.raises(UnavailableError, match="did not confirm a message: 503 away"):
        publisher.flush()
    assert alive(futures) == 0


def test_a_failure_is_told_while_others_are_on_their_way(
    publisher: Publisher, pubsub: PubSub
) -> None:
    """Nobody waits a minute to be told what is known."""
    published(publisher, pubsub, 2)
    pubsub.fail("away")
    with pytest.raises(UnavailableError, match="away"):
        publisher.flush()
    pubsub.confirm(1)
    assert publisher.flush() == 1


def test_a_failure_is_told_before_what_is_late(publisher: Publisher, pubsub: PubSub) -> None:
    """It says more than that something has not come."""
    published(publisher, pubsub, 2)
    pubsub.open.pop(1).set_exception(gcp.ServiceUnavailable("away"))
    with pytest.raises(UnavailableError, match="away"):
        publisher.flush(0)
    with pytest.raises(UnavailableError, match="within 0 s"):
        publisher.flush(0)


def test_an_error_that_nobody_thought_of_is_raised_as_it_is(
    publisher: Publisher, pubsub: PubSub
) -> None:
    """It is not taken for an outage, which would be tried again."""
    published(publisher, pubsub, 1)
    pubsub.open.pop(0).set_exception(ZeroDivisionError("of Google's"))
    with pytest.raises(ZeroDivisionError, match="of Google's"):
        publisher.flush()


def test_what_has_ended_when_it_is_handed_over_is_counted(
    publisher: Publisher, pubsub: PubSub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pub/Sub may be faster than this thread."""
    done: Future[str] = Future()
    done.set_result("id")
    monkeypatch.setattr(pubsub, "publish", lambda *_, **__: done)
    publisher.publish(MESSAGE)
    assert publisher.flush() == 1
