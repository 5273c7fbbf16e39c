"""Spans by the conventions of GenAI, written here and by ADK, beside what an exporter gets."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.telemetry import tracing
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from firestate.adapters.opentelemetry import FirestateSpans
from firestate.errors import EmergencyStopError
from firestate.schema.sanitize import id_text
from tests.frameworks.recorded_actions import ALIKE, Story, check_alike, stop_all, stored
from tests.frameworks.run_adk import run, team

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Span, Tracer

    from firestate.agents.manager import StateManager


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(manager: StateManager, exporter: InMemorySpanExporter) -> Iterator[Tracer]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(FirestateSpans(manager))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider.get_tracer("tests")
    provider.shutdown()


@contextmanager
def doing(
    tracer: Tracer, operation: str, name: str, *, late: bool = False, chat: str = ""
) -> Iterator[Span]:
    """Give a span as instrumentations make it: with its attributes, or with those set later."""
    kind = "tool" if operation == "execute_tool" else "agent"
    attributes = {"gen_ai.operation.name": operation, f"gen_ai.{kind}.name": name}
    if chat:
        attributes["gen_ai.conversation.id"] = chat
    given = None if late else attributes
    with tracer.start_as_current_span(f"{operation} {name}", attributes=given) as span:
        if late:
            span.set_attributes(attributes)
        yield span


def said(span: ReadableSpan) -> dict[str, Any]:
    """Give its attributes, and those of the exception that it has recorded last."""
    raised: dict[str, Any] = {}
    for event in span.events:
        raised |= event.attributes or {}
    return {**(span.attributes or {}), **raised}


def around(span: ReadableSpan, spans: dict[int, ReadableSpan]) -> str:
    """Give the agent whose span it is in."""
    while span.parent is not None:
        span = spans[span.parent.span_id]
        if said(span)["gen_ai.operation.name"] == "invoke_agent":
            return str(said(span)["gen_ai.agent.name"])
    return ""


def told(spans: Sequence[ReadableSpan], status: str = "terminated") -> Story:
    """Read the exported spans: the same story, if nothing was left out or made up."""
    story, errors = Story(), set()
    by_id = {span.context.span_id: span for span in spans}
    for span in spans:  # in the order in which they ended: the innermost first
        given, above = said(span), around(span, by_id)
        operation, name = given["gen_ai.operation.name"], given.get("gen_ai.agent.name", "")
        failed = span.status.status_code is StatusCode.ERROR
        if operation == "invoke_agent":
            story.agents[name] = "error" if failed else status
            if above:
                story.handoffs[above, name, not failed] += 1
        elif operation == "create_agent":
            story.agents.setdefault(name, status)
            story.spawns[above, name] += 1
        elif operation == "execute_tool":
            outcome = "failed" if failed else "completed"
            story.tools[above, given["gen_ai.tool.name"], outcome] += 1
        if failed and given["exception.message"] not in errors:
            errors.add(given["exception.message"])
            who = name if operation == "invoke_agent" else above
            story.errors[who, given["exception.type"]] += 1
    return story


@pytest.mark.parametrize("late", [False, True])
def test_a_team(
    manager: StateManager, tracer: Tracer, exporter: InMemorySpanExporter, *, late: bool
) -> None:
    with doing(tracer, "invoke_agent", "lead", late=late):
        with doing(tracer, "create_agent", "writer", late=late):
            pass
        with doing(tracer, "invoke_agent", "writer", late=late):
            with doing(tracer, "chat", "model", late=late):
                pass
            with doing(tracer, "execute_tool", "look_up", late=late):
                pass
            with pytest.raises(LookupError), doing(tracer, "execute_tool", "look_up", late=late):
                raise LookupError("lost")
        with (
            pytest.raises(ConnectionError),
            doing(tracer, "invoke_agent", "editor", late=late),
            doing(tracer, "chat", "model", late=late),
        ):
            raise ConnectionError("no model")
    story = told(exporter.get_finished_spans())
    assert len(story.agents) == 3
    assert story.agents["editor"] == "error"
    assert stored(manager) == story


def test_a_conversation_goes_on(
    manager: StateManager, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    """It is the session, of all spans inside as well; its agents are idle in between."""
    for _ in range(2):
        with (
            doing(tracer, "invoke_agent", "lead", chat="chat/1"),
            doing(tracer, "invoke_agent", "writer"),
        ):
            pass
    assert stored(manager) == told(exporter.get_finished_spans(), "idle")
    state = manager.load("writer", "writer", id_text("chat/1")).value
    assert state is not None


def test_an_error_without_an_exception(manager: StateManager, tracer: Tracer) -> None:
    """As instrumentations tell of it that do not record exceptions."""
    with doing(tracer, "invoke_agent", "lead"), doing(tracer, "execute_tool", "fetch") as span:
        span.set_attribute("error.type", "timeout")
    found = stored(manager)
    assert found.tools == {("lead", "fetch", "failed"): 1}
    assert found.errors == {("lead", "timeout"): 1}
    assert found.agents == {"lead": "terminated"}


def test_what_is_no_agent(manager: StateManager, tracer: Tracer) -> None:
    """Other spans, tools outside of agents, and agents across them."""
    with tracer.start_as_current_span("GET /"), doing(tracer, "execute_tool", "look_up"):
        pass
    with (
        doing(tracer, "invoke_agent", "lead"),
        tracer.start_as_current_span("step"),
        doing(tracer, "invoke_agent", "writer"),
    ):
        pass
    found = stored(manager)
    assert found.handoffs == {("lead", "writer", True): 1}
    assert not found.tools


def test_agents_whose_ids_join_alike_are_recorded_apart(
    tracer: Tracer, manager: StateManager
) -> None:
    """In conversations."""
    for name, chat in ALIKE:
        with doing(tracer, "invoke_agent", name, chat=chat):
            pass
    check_alike(manager)


def test_the_emergency_stop(manager: StateManager, tracer: Tracer) -> None:
    with doing(tracer, "invoke_agent", "lead"):
        stop_all(manager)
        with (
            pytest.raises(EmergencyStopError, match="runaway costs"),
            doing(tracer, "invoke_agent", "writer"),
        ):
            pytest.fail("it has begun")
        for operation in ("execute_tool", "create_agent"):
            with pytest.raises(EmergencyStopError), doing(tracer, operation, "other"):
                pytest.fail("it has begun")
        with doing(tracer, "create_agent", "another", late=True):
            pass  # nobody knows before its end, which is no place to raise
    found = stored(manager)
    assert found.agents == {"lead": "terminated"}
    assert found.handoffs == {("lead", "writer", False): 1}
    assert not found.tools


def test_spans_of_a_framework(
    manager: StateManager, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ADK sets its attributes after the start, and names the session as the conversation."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(FirestateSpans(manager))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "tracer", provider.get_tracer("adk"))
    run(team(ConnectionError("no model")))
    spans = exporter.get_finished_spans()
    story = told(spans, "idle")
    assert story.agents == {"triage": "idle", "a_writer": "error"}
    assert stored(manager) == story
