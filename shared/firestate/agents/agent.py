"""One agent in one session, as the process that runs it holds it."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias, Unpack

from firestate.agents.state.cancellation import is_cancellation
from firestate.agents.state.carry_over import merge_carried, parent_in
from firestate.agents.state.changes import CHANGEABLE
from firestate.agents.state.clock import now
from firestate.agents.state.encoded_state import EncodedState
from firestate.agents.state.generated_ids import new_id
from firestate.agents.state.history_trimming import Former, is_short, trimmed
from firestate.agents.state.json_values import to_json_values
from firestate.agents.state.message_encoding import checked_event
from firestate.counters.task_history import ENDED
from firestate.errors import (
    FencedError,
    FieldProblem,
    InvalidMessageError,
    UnknownSessionError,
)
from firestate.forking import ForkSafe
from firestate.limits import MAX_CHILDREN
from firestate.schema.enums import AgentStatus, CoordinationEventType, TaskStatus
from firestate.schema.ids import Identity, checked_ids
from firestate.schema.messages import Order
from firestate.schema.times import check_times, history_problems
from firestate.schema.values import time_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from firestate.agents.state.changes import Changes
    from firestate.agents.submitter import Submitter
    from firestate.schema.models import AgentState, CoordinationEvent

    Target: TypeAlias = "Agent | tuple[str, str]"
    """The other agent of an event: an Agent, or its (type, id)."""


class Registry(Protocol):
    """Where a process keeps the agents that it runs: what an Agent needs of it."""

    def new(self, identity: Identity, **given: Any) -> Agent:  # noqa: ANN401 - fields of a state
        """Hold a new session, and save it."""
        ...

    def hold(self, agent: Agent) -> None:
        """Look after an agent that saves: learn whether it is fenced off."""
        ...

    def release(self, agent: Agent) -> None:
        """Hold an agent no more."""
        ...

    def tell_parent(self, child: Identity, parent: Identity | None) -> None:
        """Let the parent know that a child has ended, if this process holds it."""
        ...


@dataclass(slots=True)
class Handoff:
    """A hand-over under way: what is put here goes into its event."""

    context: dict[str, Any]
    task_context: dict[str, Any]


class Agent(ForkSafe):
    """Made by `StateManager.start`, `resume` and `take_up`. Any thread may call it.

    Each call that changes something saves the whole state: it is on the disk when the call returns,
    and goes out in the background. Where the call raises, nothing has changed.
    """

    def __init__(
        self, submitter: Submitter, registry: Registry, state: AgentState, *, epoch: int
    ) -> None:
        """Hold `state` from `epoch` on; nothing is saved yet."""
        super().__init__()
        self._submitter = submitter
        self._registry = registry
        self._lock = threading.RLock()
        self._fields = EncodedState.of(state)
        self._order = Order(epoch, 0)
        self._fenced = False
        self._deleted = False
        self._on_fenced: list[Callable[[Agent], None]] = []
        self._living: set[Identity] = set()
        self._ended: set[Identity] = set()
        """Of the children that this process has spawned, those that live, and those that ended
        and may still be listed."""
        self.identity = Identity(state.agent_type, state.agent_id, state.session_id)
        self.fresh = True
        """Whether it has all that was stored of it: False until a resumed one could read that."""
        self.is_held = False
        """Whether this process looks after it: from its first save until it ends."""
        self.is_above = False
        """Whether its epoch is known to stand above what is stored of its session."""

    def after_fork(self) -> None:
        """In a child it is fenced off: the parent goes on with it, and two writers cannot."""
        self._lock = threading.RLock()
        self._fenced = True

    @property
    def state(self) -> AgentState:
        """The state as it was saved last."""
        return self._fields.state()

    @property
    def epoch(self) -> int:
        """The epoch that this process writes in."""
        return self._order.epoch

    @property
    def fenced(self) -> bool:
        """Whether another process has taken up this session."""
        return self._fenced

    def on_fenced(self, listener: Callable[[Agent], None]) -> None:
        """Call `listener`, on a thread of ours, when another process takes up this session."""
        with self._lock:
            self._on_fenced.append(listener)
            already = self._fenced
        if already:
            self._submitter.callbacks.call(listener, self)

    def update(self, **changes: Unpack[Changes]) -> Self:
        """Change fields of the state, and save it.

        `memory_context`, `performance_metrics`, ... are replaced as a whole; `remember`, `measure`
        and `task` change what is in them. Values are taken as Python has them: enums, UUIDs, times,
        sets, dataclasses, pydantic models. Raises InvalidMessageError for what Firestore would
        refuse or bend, with the field and, for one too large, its size; FencedError; OutboxError.
        """
        if not changes.keys() <= CHANGEABLE:
            unknown = sorted(changes.keys() - CHANGEABLE)
            problems = [FieldProblem(name, "is no field that an agent changes") for name in unknown]
            raise InvalidMessageError("schema", problems)
        if "parent_agent_id" in changes:  # another parent has another type and session
            changes = {"parent_agent_type": None, "parent_session_id": None, **changes}
        with self._lock:
            self._save(changes)
        if self._fields["status"] == AgentStatus.TERMINATED:
            self._registry.tell_parent(self.identity, self._parent())
        return self

    def save(self) -> Self:
        """Save the state as it is: a heartbeat, which says that the agent is alive."""
        return self.update()

    def terminate(self) -> Self:
        """Save that the agent has ended in this session; its memory stays."""
        self.update(status=AgentStatus.TERMINATED)
        self._registry.release(self)
        return self

    def remember(self, key: str, value: Any) -> Self:  # noqa: ANN401 - whatever the agent wants to keep
        """Set one entry of the memory context; its `type` and `importance` are counted."""
        taken = to_json_values({"memory_context": {key: value}})["memory_context"]
        own = {name: self._own(entry) for name, entry in taken.items()}
        with self._lock:
            memory = {**self._fields["memory_context"], **own}
            self._save({"memory_context": memory})
        return self

    def forget(self, key: str) -> Self:
        """Remove one entry of the memory context, if it is there."""
        with self._lock:
            memory = {k: v for k, v in self._fields["memory_context"].items() if k != key}
            self._save({"memory_context": memory})
        return self

    def measure(self, **metrics: float) -> Self:
        """Set entries of the performance metrics."""
        with self._lock:
            self._save({"performance_metrics": self._fields["performance_metrics"] | metrics})
        return self

    def begin_task(self, task_id: str, kind: str, **details: Any) -> Self:  # noqa: ANN401 - the user's own
        """Put a task into the history as in progress; the agent is busy with it."""
        entry = {
            **details,
            "task_id": task_id,
            "kind": kind,
            "status": TaskStatus.IN_PROGRESS,
            "session_id": self.identity.session_id,
            "started_at": now(),
        }
        with self._lock:
            self._save(
                {
                    "status": AgentStatus.BUSY.value,
                    "current_task": task_id,
                    "task_status": TaskStatus.IN_PROGRESS.value,
                    "task_history": [*self._fields["task_history"], to_json_values(entry)],
                }
            )
        return self

    def end_task(self, task_id: str, status: str = "completed", **details: Any) -> Self:  # noqa: ANN401 - the user's own
        """Say how a task ended: completed, failed or cancelled; once it has, it counts.

        One that was never begun is put into the history as it is. An exception as `error` is kept
        as its text; by its type, or by the word in `error_type`, a failed task is counted.
        """
        error = details.get("error")
        if isinstance(error, BaseException):
            details = {"error_type": type(error).__name__, **details, "error": _text(error)}
        return self._end(task_id, status, details)

    @contextmanager
    def task(self, task_id: str, kind: str, **details: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - the user's own
        """Time a task: it completes with the block, or fails with what the block raises.

        A block that is broken off, by a cancellation, by Ctrl-C, by a reader that leaves, ends it
        as cancelled: that is neither a try nor a failure. What is put into the map that the block
        gets is kept in the history's entry.
        """
        self.begin_task(task_id, kind, **details)
        more: dict[str, Any] = {}
        started = time.monotonic()
        try:
            yield more
        except BaseException as error:
            status = "cancelled" if is_cancellation(error) else "failed"
            kept = {"error": _text(error), "error_type": type(error).__name__, **more}
            self._end(task_id, status, {"duration_seconds": time.monotonic() - started, **kept})
            raise
        self._end(task_id, "completed", {"duration_seconds": time.monotonic() - started, **more})

    def record(
        self,
        event_type: str,
        target: Target | None = None,
        *,
        success: bool = True,
        cancelled: bool = False,
        context: Mapping[str, Any] | None = None,
        task_context: Mapping[str, Any] | None = None,
        error_message: str | None = None,
        duration_seconds: float | None = None,
    ) -> CoordinationEvent:
        """Record an event; it is on the disk when the call returns, and never changes.

        `target` is an Agent, or its (type, id). `context["error_type"]` is counted by its word.
        One that was `cancelled` counts neither as a success nor as a failure. Raises
        InvalidMessageError or OutboxError, and then nothing is recorded.
        """
        return self._submitter.put_event(
            self._event(
                event_type,
                target,
                context=context or {},
                task_context=task_context or {},
                success=success and not cancelled,
                cancelled=cancelled,
                error_message=error_message,
                duration_seconds=duration_seconds,
            )
        )

    def handed_off(
        self,
        target: Target,
        **details: Any,  # noqa: ANN401 - those of `record`
    ) -> CoordinationEvent:
        """Record that work was handed over; details as for `record`."""
        return self.record(CoordinationEventType.HANDOFF, target, **details)

    def collaborated(
        self,
        target: Target,
        **details: Any,  # noqa: ANN401 - those of `record`
    ) -> CoordinationEvent:
        """Record that two agents worked together; details as for `record`."""
        return self.record(CoordinationEventType.COLLABORATION, target, **details)

    def spawned(
        self,
        target: Target,
        **details: Any,  # noqa: ANN401 - those of `record`
    ) -> CoordinationEvent:
        """Record that this agent has made another; `spawn` does so by itself."""
        return self.record(CoordinationEventType.SPAWN, target, **details)

    def ended(
        self,
        target: Target | None = None,
        **details: Any,  # noqa: ANN401 - those of `record`
    ) -> CoordinationEvent:
        """Record that an agent, this one if no other is named, has ended."""
        return self.record(CoordinationEventType.TERMINATION, target or self, **details)

    def failed(
        self,
        error: BaseException | str,
        target: Target | None = None,
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
        target: Target,
        *,
        context: Mapping[str, Any] | None = None,
        task_context: Mapping[str, Any] | None = None,
    ) -> Iterator[Handoff]:
        """Time a hand-over: recorded with the block's end, as failed if it raises.

        The error goes on to the caller; its type is counted. A block that is broken off, as in
        `task`, is recorded as cancelled.
        """
        under_way = Handoff(dict(context or {}), dict(task_context or {}))
        started = time.monotonic()
        try:
            yield under_way
        except BaseException as error:
            self.handed_off(
                target,
                success=False,
                cancelled=is_cancellation(error),
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

    def spawn(
        self,
        agent_type: str,
        agent_id: str,
        *,
        session_id: str | None = None,
        context: Mapping[str, Any] | None = None,
        **given: Unpack[Changes],
    ) -> Agent:
        """Make another agent, a child of this one in its session, and record that.

        `child_agent_ids` lists the newest 100 children that have not ended, as far as this process
        knows, with its next save; `StateManager.children` finds all. Raises EmergencyStopError
        while all agents are to stop: then nothing is made.
        """
        self._submitter.controls.check()
        self._check()
        session = self.identity.session_id if session_id is None else session_id
        identity = Identity.of(agent_type, agent_id, session)
        event = self._event(CoordinationEventType.SPAWN, identity[:2])
        checked_event(to_json_values({**event, "context": context or {}}))
        parent = {f"parent_{name}": value for name, value in self.identity._asdict().items()}
        child = self._registry.new(identity, **{**given, **parent})
        self.spawned(child, context=context)
        with self._lock:
            self._living.add(identity)
            self._ended.discard(identity)
            self._save({}, spawned=identity.agent_id)
            # Of those that are listed no more nobody asks: an agent may spawn for years.
            listed = set(self._fields["child_agent_ids"])
            self._living -= {each for each in self._living.copy() if each.agent_id not in listed}
        return child

    def release(self) -> None:
        """Hold it no more, in a process that goes on: its state stays as it was saved."""
        self._registry.release(self)

    def delete(self) -> None:
        """Delete the state of this session; that it was spawned stays counted."""
        with self._lock:
            self._check()
            order = Order(self._order.epoch, self._order.revision + 1)
            self._submitter.put_tombstone(self.identity, order)
            self._order, self._deleted = order, True
        self._registry.release(self)
        self._registry.tell_parent(self.identity, self._parent())

    def child_ended(self, child: Identity) -> None:
        """Take a child off the list of children, with the next save."""
        self._living.discard(child)
        self._ended.add(child)

    def carry_on(self, taken: Mapping[str, Any]) -> None:
        """Take along what a former session had, below what this one has by now, and save."""
        with self._lock:
            self._save(merge_carried(taken, self._fields), whole=True)
            self.fresh = True

    def replace(self, state: AgentState) -> Self:
        """Save a whole state, with the times that it names."""
        with self._lock:
            self._check()
            self._put(self._trimmed(EncodedState.of(state)))
        return self

    def fence(self) -> None:
        """Take it that another process has this session now."""
        with self._lock:
            listeners = [] if self._fenced else list(self._on_fenced)
            self._fenced = True
        for listener in listeners:
            self._submitter.callbacks.call(listener, self)

    def rise_above(self, epoch: int) -> None:
        """Begin above `epoch`, which was stored before this process began, and save anew."""
        with self._lock:
            self._order = Order(
                self._submitter.new_epoch(self.identity, epoch), self._order.revision
            )
            self._put(self._fields)
            self.is_above = True

    def _save(
        self, changes: Mapping[str, Any], *, whole: bool = False, spawned: str | None = None
    ) -> None:
        self._check()
        checked: tuple[str, ...] = ()
        # A copy: children end in threads of their own.
        ended = set() if "child_agent_ids" in changes else self._ended.copy()
        if ended or spawned is not None:
            children = self._children(ended, spawned)
            changes = {**changes, "child_agent_ids": children}
        if not whole:
            time_now = time_text(now())
            changes = {**changes, "last_updated": time_now, "last_active": time_now}
            checked = ("last_updated", "last_active")
        fields = self._fields.changed(changes, checked=checked, whole=whole)
        if "task_history" in changes or "task_totals" in changes:
            self._check_times(changes, fields)
            fields = self._trimmed(fields)
        self._put(fields)
        self._ended -= ended

    def _children(self, ended: set[Identity], new: str | None) -> list[str]:
        """Return the children to be listed: the newest that have not ended, as far as is known."""
        living = {child.agent_id for child in self._living.copy()}
        gone = {child.agent_id for child in ended} - living
        listed = [each for each in self._fields["child_agent_ids"] if each not in gone]
        if new is not None:
            listed = [*(each for each in listed if each != new), new]
        return listed[-MAX_CHILDREN:]

    def _parent(self) -> Identity | None:
        return parent_in({f"parent_{n}": self._fields[f"parent_{n}"] for n in Identity._fields})

    def _check_times(self, changes: Mapping[str, Any], fields: EncodedState) -> None:
        """Refuse times that ingest would refuse, before anything is kept; only in what is new."""
        at = now()
        if "task_totals" in changes:
            check_times("state", {"task_totals": fields["task_totals"]}, at)
        known = {id(entry) for entry in self._fields["task_history"]}
        for index, entry in enumerate(changes.get("task_history", ())):
            if id(entry) in known:
                continue
            if problems := list(
                history_problems([entry], at, self.identity.session_id, first=index)
            ):
                raise InvalidMessageError("too_early", problems)

    def _trimmed(self, fields: EncodedState) -> EncodedState:
        if fields.raw("task_totals") == b"null" and is_short(fields.raw("task_history")):
            return fields
        former = Former(self._fields["task_history"], self._fields["task_totals"])
        history, session_id = fields["task_history"], self.identity.session_id
        changes = trimmed(history, fields["task_totals"], former, session_id)
        return fields.changed(changes, checked=changes)

    def _put(self, fields: EncodedState) -> None:
        order = Order(self._order.epoch, self._order.revision + 1)
        try:
            self._submitter.put_state(self.identity, fields.body(), order)
        except FencedError:
            self.fence()
            raise
        self._order, self._fields = order, fields
        if not self.is_held:
            self._registry.hold(self)

    def _check(self) -> None:
        if self._fenced:
            raise FencedError(self.identity.state_path)
        if self._deleted:
            raise UnknownSessionError(f"{self.identity.state_path} was deleted")

    def _own(self, value: Any) -> Any:  # noqa: ANN401 - as it came
        """Name the session that made a memory, so that it counts there and nowhere else."""
        if isinstance(value, dict):
            return {"session_id": self.identity.session_id, **value}
        return value

    def _end(self, task_id: str, status: str, details: Mapping[str, Any]) -> Self:
        if status not in ENDED:
            message = f"a task ends as {', '.join(ENDED)}, not {status!r}"
            raise ValueError(message)
        with self._lock:
            history = list(self._fields["task_history"])
            places = range(len(history) - 1, -1, -1)
            place = next((n for n in places if self._runs(history[n], task_id)), None)
            begun = history[place] if place is not None else {"task_id": task_id}
            ended = {
                **begun,
                **details,
                "task_id": task_id,
                "status": status,
                "session_id": self.identity.session_id,
                "ended_at": now(),
            }
            if place is None:
                history.append(to_json_values(ended))
            else:
                history[place] = to_json_values(ended)
            changes: dict[str, Any] = {"task_history": history}
            if self._fields["current_task"] == task_id:
                changes |= self._after(task_id, status, history)
            self._save(changes)
        return self

    def _after(self, task_id: str, status: str, history: list[Any]) -> dict[str, Any]:
        """Say what the agent does once its current task has ended: another that runs, if any."""
        own = self.identity.session_id
        for entry in reversed(history):
            if entry.get("session_id") == own and self._runs(entry, entry.get("task_id", "")):
                return {"current_task": entry["task_id"], "task_status": TaskStatus.IN_PROGRESS}
        return {"status": AgentStatus.ACTIVE, "current_task": task_id, "task_status": status}

    @staticmethod
    def _runs(entry: Mapping[str, Any], task_id: str) -> bool:
        return entry.get("task_id") == task_id and entry.get("status") == TaskStatus.IN_PROGRESS

    def _event(
        self,
        event_type: str,
        target: Target | None,
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


def _name(
    target: Target | None,
) -> tuple[str | None, str | None]:
    if target is None:
        return None, None
    if isinstance(target, Agent):
        return target.identity.agent_type, target.identity.agent_id
    if not _is_pair(target):
        reason = f"must be an Agent, or its (type, id), not {target!r:.60}"
        raise InvalidMessageError("schema", [FieldProblem("target", reason)])
    ids = checked_ids({"target_agent_type": target[0], "target_agent_id": target[1]})
    return ids["target_agent_type"], ids["target_agent_id"]


def _is_pair(target: object) -> bool:
    return isinstance(target, tuple | list) and len(target) == len(("type", "id"))


_MOST_TEXT = 10_000


def _text(error: BaseException | str) -> str:
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return text.encode("utf-8", "backslashreplace").decode()[:_MOST_TEXT]
