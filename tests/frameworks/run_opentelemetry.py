"""Spans by the conventions of GenAI, written here and by ADK, beside what an exporter gets."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from firestate.adapters.opentelemetry import FirestateSpans
from firestate.errors import EmergencyStopError
from tests.frameworks.story import Story, stop_all, stored

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
def doing(tracer: Tracer, operation: str, name: str, *, late: bool = False) -> Iterator[Span]:
    """Give a span as instrumentations make it: with its attributes, or with those set later."""
    kind = "tool" if operation == "execute_tool" else "agent"
    attributes = {"gen_ai.operation.name": operation, f"gen_ai.{kind}.name": name}
    given = None if late else attributes
    with tracer.start_as_current_span(f"{operation} {name}", attributes=given) as span:
        if late:
            span.set_attributes(attributes)
        yield span


def told(spans: Sequence[ReadableSpan], status: str = "terminated") -> Story:
    """Read the exported spans: the same story, if nothing was left out or made up."""
    story, errors = Story(), set()
    by_id = {span.context.span_id: span for span in spans}
    for span in spans:  # in the order in which they ended: the innermost first
        given = dict(span.attributes or {})
        operation, name = given.get("gen_ai.operation.name"), given.get("gen_ai.agent.name")
        around, above = None, span
        while above.parent is not None and around is None:
            above = by_id[above.parent.span_id]
            if above.attributes["gen_ai.operation.name"] == "invoke_agent":
                around = above.attributes["gen_ai.agent.name"]
        failed = span.status.status_code is StatusCode.ERROR
        if operation == "invoke_agent":
            story.agents[name] = "error" if failed else status
            if around is not None:
                story.handoffs[around, name, not failed] += 1
        elif operation == "create_agent":
            story.agents.setdefault(name, status)
            story.spawns[around, name] += 1
        elif operation == "execute_tool":
            outcome = "failed" if failed else "completed"
            story.tools[around, given["gen_ai.tool.name"], outcome] += 1
        if failed and (raised := span.events[-1].attributes["exception.message"]) not in errors:
            errors.add(raised)
            who = name if operation == "invoke_agent" else around
            story.errors[who, span.events[-1].attributes["exception.type"]] += 1
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
