"""What an agent does to others, recorded as coordination events."""

from __future__ import annotations

import secrets
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from firestate.agents.desk import now
from firestate.schema.enums import CoordinationEventType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firestate.agents.desk import Desk
    from firestate.schema.ids import Identity
    from firestate.schema.models import CoordinationEvent


def new_id() -> str:
    """Give an id for an event or a session: one of its own, and in the order of time."""
    return f"{time.time_ns() // 1000:016x}-{secrets.token_hex(4)}"


@dataclass(slots=True)
class HandOver:
    """A hand-over under way: what is put here goes into its event."""

    context: dict[str, Any]
    task_context: dict[str, Any]


class Partners:
    """An agent as the source of events; part of Agent."""

    _desk: Desk
    identity: Identity

    def record(
        self,
        event_type: str,
        target: Partners | tuple[str, str] | None = None,
        *,
        success: bool = True,
        context: Mapping[str, Any] | None = None,
        task_context: Mapping[str, Any] | None = None,
        error_message: str | None = None,
        duration_seconds: float | None = None,
    ) -> CoordinationEvent:
        """Record an event; it is on the disk when the call returns, and never changes.

        `target` is an Agent, or its (type, id). `context["error_type"]` is counted by its word.
        Raises InvalidMessageError or OutboxError, and then nothing is recorded.
        """
        return self._desk.put_event(
            self._event(
                event_type,
                target,
                context=context or {},
                task_context=task_context or {},
                success=success,
                error_message=error_message,
                duration_seconds=duration_seconds,
            )
        )

    def _event(
        self,
        event_type: str,
        target: Partners | tuple[str, str] | None,
        **details: Any,  # noqa: ANN401 - fields of an event
    ) -> dict[str, Any]:
        target_type, target_id = _name(target)
        return {
            "event_id": new_id(),
            "event_type": event_type,
            "timestamp": now(),
            "source_agent_id": self.identity.agent_id,
            "source_agent_type": self.identity.agent_type,
            "session_id": self.identity.session_id,
            "target_agent_id": target_id,
            "target_agent_type": target_type,
            "context": {},
            "task_context": {},
            "success": True,
            **details,
        }

    def handed_off(
        self,
        target: Partners | tuple[str, str],
        **details: Any,  # noqa: ANN401 - those of `record`
    ) -> CoordinationEvent:
        """Record that work was handed over; details as for `record`."""
        return self.record(CoordinationEventType.HANDOFF, target, **details)

    def collaborated(
        self,
        target: Partners | tuple[str, str],
        **details: Any,  # noqa: ANN401 - those of `record`
    ) -> CoordinationEvent:
        """Record that two agents worked together; details as for `record`."""
        return self.record(CoordinationEventType.COLLABORATION, target, **details)

    def spawned(
        self,
        target: Partners | tuple[str, str],
        **details: Any,  # noqa: ANN401 - those of `record`
    ) -> CoordinationEvent:
        """Record that this agent has made another; `StateManager.spawn` does so by itself."""
        return self.record(CoordinationEventType.SPAWN, target, **details)

    def ended(
        self,
        target: Partners | tuple[str, str] | None = None,
        **details: Any,  # noqa: ANN401 - those of `record`
    ) -> CoordinationEvent:
        """Record that an agent, this one if no other is named, has ended."""
        return self.record(CoordinationEventType.TERMINATION, target or self, **details)

    def failed(
        self,
        error: BaseException | str,
        target: Partners | tuple[str, str] | None = None,
        *,
        context: Mapping[str, Any] | None = None,
        **details: Any,  # noqa: ANN401 - those of `record`
    ) -> CoordinationEvent:
        """Record an error: an exception, whose type is counted, or a text."""
        kind = {"error_type": type(error).__name__} if isinstance(error, BaseException) else {}
        return self.record(
            CoordinationEventType.ERROR,
            target,
            success=False,
            error_message=_text(error),
            context={**kind, **(context or {})},
            **details,
        )

    @contextmanager
    def handoff(
        self,
        target: Partners | tuple[str, str],
        *,
        context: Mapping[str, Any] | None = None,
        task_context: Mapping[str, Any] | None = None,
    ) -> Iterator[HandOver]:
        """Time a hand-over: recorded with the block's end, as failed if it raises.

        The error goes on to the caller; its type is counted.
        """
        under_way = HandOver(dict(context or {}), dict(task_context or {}))
        started = time.monotonic()
        try:
            yield under_way
        except BaseException as error:
            self.handed_off(
                target,
                success=False,
                error_message=_text(error),
                context={"error_type": type(error).__name__, **under_way.context},
                task_context=under_way.task_context,
                duration_seconds=time.monotonic() - started,
            )
            raise
        self.handed_off(
            target,
            context=under_way.context,
            task_context=under_way.task_context,
            duration_seconds=time.monotonic() - started,
        )


def _name(
    target: Partners | tuple[str, str] | None,
) -> tuple[str | None, str | None]:
    if target is None:
        return None, None
    if isinstance(target, Partners):
        return target.identity.agent_type, target.identity.agent_id
    return target


_MOST_TEXT = 10_000


def _text(error: BaseException | str) -> str:
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return text.encode("utf-8", "backslashreplace").decode()[:_MOST_TEXT]
