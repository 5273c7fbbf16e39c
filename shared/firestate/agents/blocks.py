"""`with agent.task(...)` and `with agent.handoff(...)`: what a block does, and how it ended.

Recording never defeats the work: the exception that leaves a block is the user's own. Where what
came of it cannot be recorded, that is logged, and noted at the user's exception.

They are classes, and no generators: a signal that arrives while a generator is being left finds it
half-way, and what it holds is never given back.
"""

from __future__ import annotations

import logging
import time
import warnings
from contextlib import ContextDecorator, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from firestate.agents.state.cancellation import is_cancellation
from firestate.agents.state.clock import now
from firestate.agents.state.recorded_text import error_text
from firestate.errors import FirestateError
from firestate.schema.values import time_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_LOG = logging.getLogger("firestate.agents")


class Recording(Protocol):
    """What a block needs of the agent that it is of."""

    def begin_block(
        self, task_id: str, kind: str, details: Mapping[str, Any], started_at: str
    ) -> None:
        """Begin a task, and cut what cannot be recorded whole."""
        ...

    def end_block(
        self,
        task_id: str,
        status: str,
        details: Mapping[str, Any],
        started_at: str,
        *,
        only_running: bool = False,
    ) -> None:
        """End the task that began then, and cut what cannot be recorded whole."""
        ...

    def hand_over(
        self,
        target: Any,  # noqa: ANN401 - an Agent, or its (type, id)
        *,
        context: Mapping[str, Any],
        task_context: Mapping[str, Any],
        **details: Any,  # noqa: ANN401 - those of `record`
    ) -> object:
        """Record a hand-over, and cut what cannot be recorded whole."""
        ...


@dataclass(slots=True)
class Handoff:
    """A hand-over under way: what is put here goes into its event."""

    context: dict[str, Any]
    task_context: dict[str, Any]


class _Entered:
    """Beside a block that was entered: nothing runs when it goes.

    What a signal raises in a `__del__` is lost, such as Ctrl-C: so a block has none of its own.
    """

    def __init__(self, what: str) -> None:
        """Say what kind of block it is of."""
        self.what = what


class _NotEntered(_Entered):
    """Beside a block that was made: it warns when it goes, as nothing of the block is recorded."""

    def __del__(self) -> None:
        """Warn that the block was not entered."""
        message = f"{self.what} was not begun: it is used as `with agent.{self.what}: ...`"
        warnings.warn(message, RuntimeWarning, stacklevel=2, source=self)


class _Block(ContextDecorator):
    """A block that is timed; one that is never entered warns."""

    def __init__(self, what: str) -> None:
        """Say what kind of block it is, as it is written."""
        self._entry = _Entered(what)
        self._entry.__class__ = _NotEntered  # once it can say what it is
        self._started = 0.0

    @property
    def what(self) -> str:
        """What kind of block it is, as it is written."""
        return self._entry.what

    def _enter(self) -> None:
        self._entry.__class__ = _Entered
        self._started = time.monotonic()

    def _seconds(self) -> float:
        return round(time.monotonic() - self._started, 6)  # a clock tells no more

    def _could_not(self, error: BaseException | None, trouble: FirestateError) -> None:
        """Say that the end could not be recorded; raise that where the block itself went well."""
        if error is None:
            raise trouble
        _LOG.error("the end of %s could not be recorded: %s", self.what, trouble)
        with suppress(Exception):  # an exception may be frozen
            error.add_note(f"Firestate could not record the end of {self.what}: {trouble}")


class TaskBlock(_Block):
    """A task as long as a block runs; entered, it is the map of the task's notes."""

    def __init__(
        self, agent: Recording, task_id: str, kind: str, details: Mapping[str, Any]
    ) -> None:
        """Begin nothing yet."""
        super().__init__(f"task({task_id!r:.60}, {kind!r:.60})")
        self._agent = agent
        self._task_id = task_id
        self._kind = kind
        self._details = details
        self._notes: dict[str, Any] = {}
        self._started_at = ""

    def _recreate_cm(self) -> Self:
        """Return another one: as a decorator, it is a task for each call."""
        self._enter()
        return type(self)(self._agent, self._task_id, self._kind, self._details)

    def __enter__(self) -> dict[str, Any]:
        """Begin the task."""
        self._enter()
        self._notes = {}
        self._started_at = time_text(now())
        try:
            self._agent.begin_block(self._task_id, self._kind, self._details, self._started_at)
        except FirestateError:
            raise
        except BaseException:
            # A signal, perhaps after it was kept: the block does not run, so it does not either.
            self._end_if_it_runs("cancelled", {})
            raise
        return self._notes

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it as completed, failed or cancelled."""
        status, told = "completed", {}
        if error is not None:
            status = "cancelled" if is_cancellation(error) else "failed"
            told = {"error": error_text(error), "error_type": type(error).__name__}
        details = {"duration_seconds": self._seconds(), **told, **self._notes}
        try:
            self._agent.end_block(self._task_id, status, details, self._started_at)
        except FirestateError as trouble:
            self._could_not(error, trouble)
        except BaseException:
            # A signal broke it off, before it was kept or after: a task that still runs is ended.
            self._end_if_it_runs(status, details)
            raise

    def _end_if_it_runs(self, status: str, details: Mapping[str, Any]) -> None:
        try:
            self._agent.end_block(
                self._task_id, status, details, self._started_at, only_running=True
            )
        except FirestateError as trouble:
            _LOG.error("the end of %s could not be recorded: %s", self.what, trouble)


class HandoffBlock(_Block):
    """A hand-over as long as a block runs; recorded with its end."""

    def __init__(
        self,
        agent: Recording,
        target: Any,  # noqa: ANN401 - an Agent, or its (type, id)
        context: Mapping[str, Any] | None,
        task_context: Mapping[str, Any] | None,
    ) -> None:
        """Begin nothing yet."""
        super().__init__(f"handoff({getattr(target, 'identity', target)!r:.60})")
        self._agent = agent
        self._target = target
        self._context = context
        self._task_context = task_context
        self._under_way = Handoff({}, {})

    def _recreate_cm(self) -> Self:
        """Return another one: as a decorator, it is a hand-over for each call."""
        self._enter()
        return type(self)(self._agent, self._target, self._context, self._task_context)

    def __enter__(self) -> Handoff:
        """Begin to time it."""
        self._enter()
        self._under_way = Handoff(dict(self._context or {}), dict(self._task_context or {}))
        return self._under_way

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Record it as a success, failed or cancelled."""
        outcome: dict[str, Any] = {}
        context = dict(self._under_way.context)
        if error is not None:
            cancelled = is_cancellation(error)
            outcome = {"success": False, "cancelled": cancelled, "error_message": error_text(error)}
            context = {"error_type": type(error).__name__, **context}
        try:
            self._agent.hand_over(
                self._target,
                context=context,
                task_context=self._under_way.task_context,
                duration_seconds=self._seconds(),
                **outcome,
            )
        except FirestateError as trouble:
            self._could_not(error, trouble)
