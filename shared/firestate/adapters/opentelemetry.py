"""OpenTelemetry: a span processor, for whatever traces by the semantic conventions of GenAI.

    provider.add_span_processor(FirestateSpans(manager))

`invoke_agent` is a run of the agent and, inside another agent's span, a hand-over to it;
`create_agent` there is a spawn; `execute_tool` is a tool of the agent whose span it is in. A span
that ends with an error is one; the same error in the spans around it is not another. The session is
`gen_ai.conversation.id`, of a span or of one around it, or else the trace's own.

An agent is seen to begin when its span starts or, where the operation is named later, when the
first span in it starts; by then the conversation must be named too. While the emergency stop is
set, EmergencyStopError comes out of that start.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from firestate.adapters.error_guard import log_errors
from firestate.adapters.failures import Failure
from firestate.adapters.recorder import Recorder
from firestate.errors import EmergencyStopError
from firestate.extras import required_extra
from firestate.schema.sanitize import sanitize_text

with required_extra("opentelemetry", __name__):
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
    from opentelemetry.trace import StatusCode, format_span_id, format_trace_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span

    from firestate.adapters.agent_run import AgentRun, Session
    from firestate.agents.manager import StateManager

_OPERATION = "gen_ai.operation.name"
_NANOSECONDS = 1e9
_CANCELLED = frozenset(
    {"CancelledError", "Cancelled", "GeneratorExit", "KeyboardInterrupt", "EmergencyStopError"}
)
"""Types of errors by which work is broken off; a span has their names alone."""


@dataclass(eq=False)
class _OpenSpan:
    """A span, while it is open or something in it is."""

    span: ReadableSpan
    above: _OpenSpan | None
    own: str
    """Of a trace, or of the part of it that is in this process."""
    session: Session | None = None
    run: AgentRun | None = None
    is_tool: bool = False
    errors: set[Failure] = field(default_factory=set)
    """Those that have been told of, here or in spans inside."""

    def get(self, name: str) -> str | None:
        """Give an attribute, as it is by now."""
        value = (self.span.attributes or {}).get(name)
        return None if value is None else str(value)

    def upwards(self) -> Iterator[_OpenSpan]:
        """Give it and those around it."""
        each: _OpenSpan | None = self
        while each is not None:
            yield each
            each = each.above

    def around(self) -> AgentRun | None:
        """Give the run of the agent whose span it is in."""
        return next((each.run for each in self.upwards() if each.run and each is not self), None)


class FirestateSpans(SpanProcessor):
    """Records agents from spans: add it to the tracer provider."""

    def __init__(self, manager: StateManager, session_id: str | None = None) -> None:
        """Record through `manager`; a session that is named here takes the conversations' place."""
        self._recorder = Recorder(manager, session_id, framework="opentelemetry")
        self.error_log = self._recorder.error_log
        self._open: dict[int, _OpenSpan] = {}

    @log_errors
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """See what begins, and what has begun around it."""
        context, parent = span.get_span_context(), span.parent
        if context is None:
            return
        with self._recorder.lock:
            above = None if parent is None else self._open.get(parent.span_id)
            own = f"{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}"
            seen = _OpenSpan(span, above, own if above is None else above.own)
            for each in reversed(list(seen.upwards())):
                self._begin(each)
            self._open[context.span_id] = seen

    @log_errors
    def on_end(self, span: ReadableSpan) -> None:
        """See how it ended."""
        context = span.get_span_context()
        with self._recorder.lock:
            seen = None if context is None else self._open.pop(context.span_id, None)
            if seen is None:
                return
            seen.span = span
            with suppress(EmergencyStopError):  # too late: it has been done
                self._begin(seen)
                self._end(seen, _failure(span) if seen.get(_OPERATION) else None)
            if seen.above is None:
                self._recorder.close(self._recorder.session(own=seen.own))

    def shutdown(self) -> None:
        """Do nothing: the StateManager is the user's."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Do nothing: what is recorded is on the disk already."""
        return True

    def _begin(self, seen: _OpenSpan) -> None:
        if seen.run is not None or seen.is_tool:
            return
        operation, around = seen.get(_OPERATION), seen.around()
        if operation == "invoke_agent":
            sources = [around.name] if around is not None else []
            session = self._session(seen)
            seen.run = self._recorder.begin(session, _name(seen), sources=sources)
        elif operation == "execute_tool" and around is not None:
            seen.is_tool = True
            around.begin_tool(_call(seen), seen.get("gen_ai.tool.name") or seen.span.name)
        elif operation == "create_agent" and seen.span.end_time is None:
            self._recorder.check()

    def _end(self, seen: _OpenSpan, failure: Failure | None) -> None:
        around, seconds = seen.around(), _seconds(seen.span)
        told = failure in seen.errors
        if seen.run is not None:
            if failure is None:
                seen.run.end(seconds=seconds)
            else:
                seen.run.fail(failure, told=told, seconds=seconds)
        elif seen.is_tool and around is not None:
            around.end_tool(_call(seen), failure, told=told, seconds=seconds)
        elif failure is not None:  # as of a model
            if around is not None and not told:
                around.record_error(failure)
        elif seen.get(_OPERATION) == "create_agent":
            parents = [around.name] if around is not None else []
            self._recorder.make(self._session(seen), _name(seen), parents)
        if seen.above is not None:
            seen.above.errors |= seen.errors | ({failure} if failure is not None else set())

    def _session(self, seen: _OpenSpan) -> Session:
        names = (each.get("gen_ai.conversation.id") for each in seen.upwards())
        name = next((each for each in names if each is not None), None)
        return self._recorder.session(name, own=seen.own)


def _name(seen: _OpenSpan) -> str:
    return seen.get("gen_ai.agent.name") or seen.get("gen_ai.agent.id") or seen.span.name


def _call(seen: _OpenSpan) -> str:
    context = seen.span.get_span_context()
    return "" if context is None else format_span_id(context.span_id)


def _seconds(span: ReadableSpan) -> float | None:
    if span.start_time is None or span.end_time is None:
        return None
    return max(0, span.end_time - span.start_time) / _NANOSECONDS


def _failure(span: ReadableSpan) -> Failure | None:
    """Read the error of a span, in the same words for all spans that one error has ended."""
    given = (span.attributes or {}).get("error.type")
    if span.status.status_code is not StatusCode.ERROR and given is None:
        return None
    raised: dict[str, Any] = {}
    for event in span.events:
        if event.name == "exception":
            raised = dict(event.attributes or {})
    kind = str(given or raised.get("exception.type") or "Error").rpartition(".")[2]
    text = raised.get("exception.message")
    message = span.status.description or kind if text is None else f"{kind}: {text}"
    return Failure(kind, sanitize_text(message), cancelled=kind in _CANCELLED)
