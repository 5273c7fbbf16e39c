"""Trying again, logging, and reading what the platform hands over."""

from __future__ import annotations

import json
import threading
import traceback
from typing import Any

import pytest
from cloudevents.http import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from firestate.errors import ConflictError, ContentionError, UnavailableError, UnexpectedError
from firestate.ingest.outcomes import Outcome
from firestate.pipeline.deliveries import StepReport
from firestate.pipeline.handlers import delivered
from firestate.pipeline.logs import logged
from firestate.pipeline.retry import retry_on_conflict
from firestate.stores.firestore_event import changed_document
from tests.unit.strategies import json_values

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
EVENT = {"type": "google.cloud.pubsub.topic.v1.messagePublished", "source": "//pubsub"}


class Conflicts:
    """Something that is refused so many times before it succeeds."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.waits: list[float] = []

    def __call__(self) -> str:
        if self.left:
            self.left -= 1
            message = "agent_memory/x: was written by somebody else"
            raise ConflictError(message)
        return "done"

    def settle(self) -> str:
        return retry_on_conflict(
            "agent_memory/x", self, sleep=self.waits.append, uniform=lambda _, most: most
        )


@pytest.mark.parametrize("times", [0, 1, 11])
def test_a_conflict_is_tried_again(times: int) -> None:
    """After a wait that may grow with each try."""
    attempt = Conflicts(times)
    assert attempt.settle() == "done"
    assert attempt.waits == pytest.approx([0.1 * (n + 1) for n in range(times)])
    assert sum(attempt.waits) < 60 - 30, "below the function's timeout"


def test_too_many_conflicts_fail_the_delivery() -> None:
    """It says where, and Pub/Sub brings it again."""
    with pytest.raises(ContentionError, match="gave up after 12 tries: agent_memory/x"):
        Conflicts(12).settle()


def test_other_errors_are_not_tried_again() -> None:
    """Only who lost a race can win the next."""
    calls = []

    def attempt() -> None:
        calls.append(1)
        raise UnavailableError

    with pytest.raises(UnavailableError):
        retry_on_conflict("x", attempt)
    assert calls == [1]


def test_threads_take_turns_on_one_document() -> None:
    """No two are at the same path at once; nobody waits for another path."""
    inside = []
    most = []

    def attempt() -> None:
        inside.append(1)
        most.append(len(inside))
        threading.Event().wait(0.002)
        inside.pop()

    threads = [threading.Thread(target=retry_on_conflict, args=("x", attempt)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 8
    assert max(most) == 1
    nested = retry_on_conflict("a", lambda: retry_on_conflict("b", lambda: "no deadlock"))
    assert nested == "no deadlock"


def log_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    (line,) = capsys.readouterr().out.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_one_line_a_call(capsys: pytest.CaptureFixture[str]) -> None:
    """It has what Cloud Logging knows: severity, message, trace; and what was done, where."""
    report = StepReport(Outcome.STORED, "agent_states/x", "1.2")
    assert (
        logged("ingest_state", lambda: report, project="p", traceparent=TRACE, message_id="7")
        is report
    )
    line = log_line(capsys)
    assert line.pop("latency_ms") >= 0
    assert line == {
        "severity": "INFO",
        "message": "ingest_state: stored agent_states/x",
        "function": "ingest_state",
        "message_id": "7",
        "outcome": "stored",
        "document": "agent_states/x",
        "version": "1.2",
        "logging.googleapis.com/trace": f"projects/p/traces/{TRACE.split('-')[1]}",
        "logging.googleapis.com/spanId": TRACE.split("-")[2],
    }


@pytest.mark.parametrize("trace", ["", "rubbish", "00-1-2-3", TRACE + "\n"])
def test_a_trace_that_is_none_is_left_out(capsys: pytest.CaptureFixture[str], trace: str) -> None:
    """Attributes are what a publisher wrote: nothing of it goes on unchecked."""
    logged("f", lambda: StepReport(Outcome.MERGED), project="p", traceparent=trace)
    assert "logging.googleapis.com/trace" not in log_line(capsys)


def test_quarantine_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody should look."""
    logged("f", lambda: StepReport(Outcome.QUARANTINED, "quarantine/x", detail="schema"))
    line = log_line(capsys)
    assert line["severity"] == "WARNING"
    assert line["detail"] == "schema"


@pytest.mark.parametrize(
    ("error", "raised", "detail"),
    [
        (
            UnavailableError("agent_states/x: cannot be reached"),
            UnavailableError,
            "agent_states/x: cannot be reached",
        ),
        (ValueError("the secret payload"), UnexpectedError, "ValueError"),
    ],
)
def test_what_is_raised_is_logged_and_raised(
    capsys: pytest.CaptureFixture[str], error: Exception, raised: type[Exception], detail: str
) -> None:
    """Our own errors say what and where; the text of others might quote a payload."""

    def fail() -> StepReport:
        raise error

    with pytest.raises(raised) as caught:
        logged("f", fail)
    assert "payload" not in "".join(traceback.format_exception(caught.value))
    line = log_line(capsys)
    assert line["severity"] == "ERROR"
    assert line["detail"] == detail
    assert "payload" not in json.dumps(line)


def test_a_pubsub_message_is_unwrapped() -> None:
    """Its bytes and attributes as they were published."""
    body = {"message": {"data": "eyJ9", "attributes": {"a": "b"}, "messageId": "7"}}
    delivery = delivered("agent-state", CloudEvent(EVENT, body))
    assert delivery.data == b'{"}'
    assert delivery.attributes == {"a": "b"}
    assert delivery.message_id == "7"
    assert delivered("agent-state", CloudEvent(EVENT, {"message": {}})).data == b""


@given(json_values, st.binary(max_size=20))
def test_any_body_is_a_delivery(body: Any, raw: bytes) -> None:
    """What is no Pub/Sub message is kept as the bytes it is, and raises nothing."""
    message = {"data": body, "attributes": body, "messageId": body}
    for data in (raw, body, {"message": body}, {"message": message}):
        delivery = delivered("agent-state", CloudEvent(EVENT, data))
        assert isinstance(delivery.data, bytes)
        assert all(isinstance(value, str) for value in delivery.attributes.values())


def test_the_event_of_a_removal() -> None:
    """It has no document."""
    assert changed_document(b"") is None
