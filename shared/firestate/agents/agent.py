"""One agent in one session, as a process that runs it holds it.

Processes and threads of one folder share a session: each has a handle, and all save to one row of
the outbox. Another folder that takes the session up fences all of them off.

Memory follows the disk. A call is a change of the state: it is put to the outbox on condition that
what it was made from is the newest there, and made again from what is the newest where it is not.
So it does not matter where the call before was interrupted, nor whether another thread, or a signal
handler in the middle of this very call, has saved meanwhile: no lock is held anywhere.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    Protocol,
    Self,
    TypeAlias,
    TypeVar,
    Unpack,
)

from pydantic_core import from_json

from firestate.agents.blocks import HandoffBlock, TaskBlock
from firestate.agents.state.carry_over import merge_carried, parent_in
from firestate.agents.state.changes import CHANGEABLE
from firestate.agents.state.clock import CLOCK, now
from firestate.agents.state.draft import Draft, Room, is_nearly_full
from firestate.agents.state.encoded_state import EncodedState, Part
from firestate.agents.state.generated_ids import new_id
from firestate.agents.state.history_trimming import is_open
from firestate.agents.state.json_values import to_json_values
from firestate.agents.state.late_work import (
    going_on,
    is_merged,
    is_merged_apart,
    keep_own_keys,
    merge_apart,
    merge_below,
    merge_late,
    rising,
    with_short_bases,
)
from firestate.agents.state.message_encoding import checked_state
from firestate.agents.state.recorded_text import error_text, in_short, recordable
from firestate.agents.state.wrong_times import is_same_time, put_body_right
from firestate.counters.task_history import ENDED
from firestate.errors import (
    ConflictError,
    FencedError,
    FieldProblem,
    InvalidMessageError,
    OutboxError,
    TerminatedError,
    UnavailableError,
    UnknownSessionError,
)
from firestate.forking import ForkSafe
from firestate.limits import EARLIEST_ARRIVAL, MAX_CHILDREN, MAX_ID_BYTES
from firestate.queries import WORKING_STATUSES
from firestate.schema.enums import AgentStatus, CoordinationEventType, TaskStatus
from firestate.schema.ids import Identity, checked_ids
from firestate.schema.messages import Order
from firestate.schema.models import AgentState
from firestate.schema.serialization import from_document
from firestate.schema.take_over import ADOPTS, RESUMED_AS, ended_with, taken_along
from firestate.schema.times import time_in
from firestate.schema.values import time_text
from firestate.worker import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from firestate.agents.state.changes import Changes
    from firestate.agents.submitter import Submitter
    from firestate.outbox.entries import NewEntry
    from firestate.schema.models import CoordinationEvent

    Target: TypeAlias = "Agent | tuple[str, str]"
    """The other agent of an event: an Agent, or its (type, id)."""

    Former: TypeAlias = tuple[AgentState, dict[str, Any]]
    """A state that goes on in a new session, with its document."""

    Others: TypeAlias = "Callable[[], Sequence[NewEntry]]"
    """Makes what is put together with a state, all or nothing; asked for again with each try."""

T = TypeVar("T")

_LOG = logging.getLogger("firestate.agents")
_LOOK_SECONDS = 0.001
_MOST_ROUNDS = 200
CONTEXT = "collaboration_context"
_ALWAYS_FITS = frozenset({"status", "current_task", "task_status"})


def _no_others() -> Sequence[NewEntry]:
    return ()


NOTHING = Order(0, 0)
"""The order of a session of which nothing is there."""


class Past(NamedTuple):
    """What goes on in a new session: the former states, the newest first, and what ends them.

    `ends` raises ConflictError where one of them has moved since it was read.
    """

    states: list[AgentState]
    ends: Others


class Registry(Protocol):
    """Where a process keeps the agents that it runs: what an Agent needs of it."""

    def child_there(self, child: Identity, parent: Agent, seen: Order) -> Agent | None:
        """Return a child that is there already, held by this process from now on."""
        ...

    def seen(self, identity: Identity) -> Order:
        """Return the order of what this folder has of a session, before it is read."""
        ...

    def child_before(self, child: Identity, parent: Agent) -> list[Former]:
        """Return the newest session of a child that a resumed parent has had in its former one."""
        ...

    def carry(
        self, states: Sequence[AgentState], carry: Callable[[dict[str, Any]], Agent]
    ) -> Agent:
        """Carry on what former states had, as far as there is room for it."""
        ...

    def past(self, formers: Sequence[Former], session_id: str) -> Past:
        """Return the states that go on in a session, and what ends them."""
        ...

    def release_all(self, formers: Sequence[Former]) -> None:
        """Tell those of this process that go on as others."""
        ...

    def drafted(
        self,
        identity: Identity,
        *,
        seen: Order,
        **given: Any,  # noqa: ANN401 - fields of a state
    ) -> Agent:
        """Return a new session that is checked, and saved with what is put together with it."""
        ...

    def hold(self, agent: Agent) -> None:
        """Look after an agent that saves: learn whether it is fenced off."""
        ...

    def release(self, agent: Agent) -> None:
        """Hold an agent no more."""
        ...

    def stored(self, identity: Identity) -> Mapping[str, Any] | None:
        """Return the document of a session as it is stored; None where it cannot be read now."""
        ...

    def tell_parent(self, child: Identity, parent: Identity | None) -> None:
        """Let the parent know that a child has ended, if this process holds it."""
        ...


class _Memory(NamedTuple):
    """A state as it was saved last, and its order."""

    order: Order
    fields: EncodedState


class Agent(ForkSafe):
    """Made by `StateManager.agent`, `start`, `resume` and `take_up`. Any thread may call it.

    Each call that changes something saves it: it is on the disk when the call returns, and goes out
    in the background. Where the call raises an error of Firestate, nothing has changed. A call may
    be made from a signal handler, a `__del__` or a callback, in the middle of any other; one that
    was broken off has saved all or nothing.
    """

    def __init__(
        self, submitter: Submitter, registry: Registry, state: AgentState, *, order: Order
    ) -> None:
        """Hold `state`, which was saved as `order`; with revision 0 nothing is saved yet."""
        super().__init__()
        self._submitter = submitter
        self._registry = registry
        self._saved: dict[Order, EncodedState] = {order: EncodedState.of(state)}
        """The state as it was saved last, by its order; revision 0: nothing is saved yet."""
        self._putting: dict[tuple[Order, object], EncodedState | None] = {}
        """What calls are about to put, None for a tombstone; what one that was interrupted has put
        is known by it, also when the outbox has forgotten its bytes."""
        self._fenced = False
        self._deleted = False
        self._is_next_whole = False
        """Whether a change would have nothing to follow in the outbox."""
        self._turn = Turn()
        self._on_fenced: dict[int, Callable[[Agent], None]] = {}
        self._on_nearly_full: list[Callable[[Agent], None]] = []
        self._is_nearly_full = False
        self._living: set[Identity] = set()
        self._begun: set[tuple[str, str]] = set()
        """The tasks that this process has begun and not ended, by their id and start."""
        self._moves = len(CLOCK.moves)
        """How often the clock had been corrected when its times were put right last."""
        self._ended: set[Identity] = set()
        """Of the children that this process has spawned, those that live, and those that ended
        and may still be listed."""
        self.identity = Identity(state.agent_type, state.agent_id, state.session_id)
        self.fresh = True
        """Whether it has all that was stored of it: False until that could be read."""
        self.is_held = False
        """Whether this process looks after it: from its first save until it ends."""
        self.seen = NOTHING
        """What was there of the session when it was found not to exist, for its first save."""
        self.is_above = False
        """Whether its epoch is known to stand above what is stored of its session."""
        self.replaces = False
        """Whether it was begun in place of whatever is stored of its session."""

    def after_fork(self) -> None:
        """Share the session with the parent; of an outbox in memory the child has none."""
        self._fenced = self._fenced or self._submitter.outbox.path is None

    @property
    def state(self) -> AgentState:
        """The state as it was saved last."""
        self._follow()
        return self._memory.fields.state()

    @property
    def _memory(self) -> _Memory:
        while True:
            saved = list(self._saved)
            order = saved[0] if len(saved) == 1 else max(saved)
            # Another thread may have saved a later one, and let this one go.
            if (fields := self._saved.get(order)) is not None:
                return _Memory(order, fields)

    @property
    def epoch(self) -> int:
        """The epoch that this folder writes in."""
        return self._memory.order.epoch

    @property
    def fenced(self) -> bool:
        """Whether another folder has taken up this session, or it goes on as another one."""
        self._follow()
        return self._fenced or self.goes_on_as is not None

    @property
    def is_deleted(self) -> bool:
        """Whether the session was deleted, as far as this handle knows."""
        return self._deleted

    @property
    def goes_on_as(self) -> str | None:
        """The session in which the agent has been resumed, as far as this handle knows."""
        session_id = self._memory.fields[CONTEXT].get(RESUMED_AS)
        return session_id if isinstance(session_id, str) else None

    @property
    def resumed_from(self) -> str | None:
        """The session that the agent has gone on from, if it has."""
        session_id = self._memory.fields[CONTEXT].get("resumed_from")
        return session_id if isinstance(session_id, str) else None

    def on_fenced(self, listener: Callable[[Agent], None]) -> None:
        """Call `listener`, on a thread of ours, when this session is taken up elsewhere.

        That is by another folder, or by a `resume` in this process.
        """
        self._on_fenced[id(listener)] = listener
        if self._fenced:
            self._tell_fenced()

    def on_nearly_full(self, listener: Callable[[Agent], None]) -> None:
        """Call `listener`, on a thread of ours, when the state takes four fifths of what it may.

        Once, and again if it has shrunk in between. That is at 720,000 of 900,000 bytes, as
        Firestore counts them; past 852,000 `remember` and its like are refused, while tasks, and
        all that ends something, still work. What helps is `forget`.
        """
        self._on_nearly_full.append(listener)
        if self._is_nearly_full:
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
        # Once: an iterator is used up by it, and the change may have to be made again.
        plain = to_json_values(changes)
        short = len(str(plain.get("current_task"))) <= MAX_ID_BYTES
        room = Room.END if short and plain.keys() <= _ALWAYS_FITS else Room.GROW

        def change(draft: Draft) -> None:
            changed = plain
            if isinstance(context := plain.get(CONTEXT), dict):
                changed = {**plain, CONTEXT: keep_own_keys(context, draft[CONTEXT])}
            draft.set(changed, plain=True)

        saved = self._save(change, room, listed=plain)
        if saved["status"] == AgentStatus.TERMINATED:
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
        """Set one entry of the memory context; its `type` and `importance` are counted.

        Raises InvalidMessageError, code `size`, once the state takes 852,000 bytes in Firestore.
        """
        ((name, taken),) = to_json_values({"memory_context": {key: value}})[
            "memory_context"
        ].items()
        own = self._own(taken)
        self._save(lambda draft: draft.remember(name, own))
        return self

    def forget(self, key: str) -> Self:
        """Remove one entry of the memory context, if it is there."""
        self._save(lambda draft: draft.forget(key), Room.END)
        return self

    def measure(self, **metrics: float) -> Self:
        """Set entries of the performance metrics."""
        name = "performance_metrics"
        self._save(lambda draft: draft.set({name: draft[name] | metrics}))
        return self

    def begin_task(self, task_id: str, kind: str, **details: Any) -> Self:  # noqa: ANN401 - the user's own
        """Put a task into the history as in progress; the agent is busy with it.

        Raises TerminatedError where the agent has ended in this session.
        """
        return self._begin(task_id, kind, details, time_text(now()))

    def _begin(self, task_id: str, kind: str, details: Mapping[str, Any], started_at: str) -> Self:
        known = {"task_id": task_id, "kind": kind, "status": TaskStatus.IN_PROGRESS}
        known |= {"session_id": self.identity.session_id, "started_at": started_at}
        entry = Part.of(to_json_values({**details, **known}))

        def begin(draft: Draft) -> None:
            if draft["status"] == AgentStatus.TERMINATED:
                raise TerminatedError(self.identity.state_path)
            draft.set_history([*draft.history, entry])
            draft.set(
                {
                    "status": AgentStatus.BUSY.value,
                    "current_task": task_id,
                    "task_status": TaskStatus.IN_PROGRESS.value,
                }
            )

        self._begun.add((task_id, started_at))
        self._save(begin, Room.BEGIN)
        return self

    def end_task(self, task_id: str, status: str = "completed", **details: Any) -> Self:  # noqa: ANN401 - the user's own
        """Say how a task ended: completed, failed or cancelled; once it has, it counts.

        One that was never begun is put into the history as it is. An exception as `error` is kept
        as its text, of 4,000 bytes at most; by its type, or by the word in `error_type`, a failed
        task is counted.
        """
        error = details.get("error")
        if isinstance(error, BaseException):
            details = {"error_type": type(error).__name__, **details, "error": error_text(error)}
        return self._end(task_id, status, to_json_values(details))

    def task(self, task_id: str, kind: str, **details: Any) -> TaskBlock:  # noqa: ANN401 - the user's own
        """Time a task: it completes with the block, or fails with what the block raises.

        A block that is broken off, by a cancellation, by Ctrl-C, by an emergency stop, by a reader
        that leaves, ends it as cancelled: that is neither a try nor a failure. What is put into the
        map that the block gets is kept in the history's entry; what cannot be kept whole is cut.

        >>> with agent.task("t1", "code", tool="editor") as notes:  # doctest: +SKIP
        ...     notes["lines"] = 120
        """
        return TaskBlock(self, task_id, kind, details)

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

    def hand_over(
        self,
        target: Target,
        *,
        context: Mapping[str, Any],
        task_context: Mapping[str, Any],
        **details: Any,  # noqa: ANN401 - those of `record`
    ) -> CoordinationEvent:
        """Record a hand-over like `handed_off`, and cut what cannot be recorded whole."""
        maps = {"context": recordable(context), "task_context": recordable(task_context)}
        try:
            return self.handed_off(target, **maps, **details)
        except InvalidMessageError:
            cut = {name: in_short(value) for name, value in maps.items()}
            return self.handed_off(target, **cut, **details)

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
            error_message=error_text(error),
            context={**kind, **(context or {})},
            **details,
        )

    def handoff(
        self,
        target: Target,
        *,
        context: Mapping[str, Any] | None = None,
        task_context: Mapping[str, Any] | None = None,
    ) -> HandoffBlock:
        """Time a hand-over: recorded with the block's end, as failed if it raises.

        The error goes on to the caller; its type is counted. A block that is broken off, as in
        `task`, is recorded as cancelled. Without a `with` nothing is recorded, and a warning says
        so: `handed_off` records a hand-over at once.
        """
        return HandoffBlock(self, target, context, task_context)

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
        knows, with its next save; `StateManager.children` finds all. One of this id that is in the
        session already is taken up: a warning in the log says so, `given` is not looked at, and no
        event is recorded. Where this agent was resumed, a child that it still lists is resumed as
        well: it takes along what it had. Raises EmergencyStopError while all agents are to stop:
        then nothing is made.
        """
        self._submitter.controls.check()
        self._check()
        session = self.identity.session_id if session_id is None else session_id
        identity = Identity.of(agent_type, agent_id, session)
        event = self._event(CoordinationEventType.SPAWN, identity[:2], context=context or {})
        spawned = self._submitter.event_entry(event)
        parent = {f"parent_{name}": value for name, value in self.identity._asdict().items()}
        while True:
            seen = self._registry.seen(identity)
            if (there := self._registry.child_there(identity, self, seen)) is not None:
                what = "%s is there already: it was taken up, not spawned"
                _LOG.warning(what, identity.state_path)
                self._list_child(identity)
                return there
            formers = self._registry.child_before(identity, self)

            def attempt() -> Agent | None:
                try:
                    past = self._registry.past(formers, session)  # noqa: B023 - called in this round
                    return self._registry.carry(past.states, partial(make, past))
                except ConflictError:
                    return None

            def make(past: Past, taken: dict[str, Any]) -> Agent:
                fields = {**taken, **given, **parent}
                child = self._registry.drafted(identity, seen=seen, **fields)  # noqa: B023 - as above
                # The child, the event and the place in the list are one: all are kept, or none.
                others = lambda: (*child.first_entries(), *past.ends(), spawned)  # noqa: E731 - short
                self._list_child(identity, others)
                return child

            child = self._submitter.retry_exclusively(attempt)
            if child is not None:
                child.saved_first()
                self._registry.release_all(formers)
                return child

    def _list_child(self, child: Identity, others: Others = _no_others) -> None:
        """Save a child in the list of children, together with `others`."""
        self._living.add(child)
        self._ended.discard(child)
        saved = self._save(lambda _: None, Room.BEGIN, new_child=child.agent_id, others=others)
        # Of those that are listed no more nobody asks: an agent may spawn for years.
        listed = set(saved["child_agent_ids"])
        self._living -= {each for each in self._living.copy() if each.agent_id not in listed}

    def release(self) -> None:
        """Hold it no more, in a process that goes on: its state stays as it was saved."""
        self._registry.release(self)

    def delete(self) -> None:
        """Delete the state of this session; that it was spawned stays counted."""
        if not self._deleted:
            self._until_put(self._put_tombstone)
        self._registry.release(self)
        self._registry.tell_parent(self.identity, self._parent())

    def _put_tombstone(self) -> bool:
        self._check()
        memory = self._memory
        order = Order(memory.order.epoch, memory.order.revision + 1)
        tombstone = self._submitter.tombstone_entry(self.identity, order)
        return self._put(order, None, tombstone) or self._catch_up(memory)

    @property
    def is_usable(self) -> bool:
        """Whether it can go on: it has not ended, and is neither fenced off nor deleted."""
        if self.fenced or self._deleted:
            return False
        return bool(self._memory.fields["status"] != AgentStatus.TERMINATED)

    def lists(self, child: Identity) -> bool:
        """Whether it lists a child of that id."""
        return child.agent_id in self._memory.fields["child_agent_ids"]

    def child_ended(self, child: Identity) -> None:
        """Take a child off the list of children, with the next save."""
        self._living.discard(child)
        self._ended.add(child)

    def carry_on(self, taken: Mapping[str, Any], others: Others = _no_others) -> None:
        """Take along what a former session had, below what this one has by now, and save.

        `others` are kept together with that, or nothing is.
        """

        def carry(draft: Draft) -> None:
            draft.set(merge_carried(taken, draft), whole=True)

        self._save(carry, Room.END, whole=True, others=others, active=False)
        self.fresh = True

    def replace(self, state: AgentState) -> Self:
        """Save a whole state, with the times that it names."""
        new = EncodedState.of(state)
        fields = {name: new[name] for name in new.names}
        edit = lambda draft: draft.set(fields)  # noqa: E731 - short
        self._save(edit, whole=True, active=False, listed=fields, when_resumed=True)
        return self

    def fence(self) -> None:
        """Take it that another process has this session now."""
        self._fenced = True
        self._tell_fenced()

    def _tell_fenced(self) -> None:
        for key in list(self._on_fenced):
            # Taken out by one thread alone, so that it is told once.
            if (listener := self._on_fenced.pop(key, None)) is not None:
                self._submitter.callbacks.call(listener, self)

    def rise_above(self, epoch: int, *, replaces: bool = False) -> None:
        """Begin above `epoch`, which was stored before this process began, and save anew.

        Where it `replaces` what is stored there, nothing of that is kept.
        """

        def attempt() -> bool:
            memory = self._memory
            fields = memory.fields if replaces else self._risen(memory)
            return self._put_above(epoch, memory, fields)

        self._until_put(attempt)
        self.is_above = True

    def _put_above(self, epoch: int, memory: _Memory, fields: EncodedState) -> bool:
        """Put fields above an epoch, unless others have saved since `memory`, which is read then.

        A later epoch alone would take the place of what they have saved.
        """
        new = Order(self._submitter.new_epoch(self.identity, epoch), memory.order.revision + 1)
        expected = self._submitter.expected_entry(self.identity, memory.order)
        return self._put(new, fields, expected, self._whole(fields, new)) or self._catch_up(memory)

    def _risen(self, memory: _Memory) -> EncodedState:
        """Return the state with a note of where it has stood until now."""
        plain = memory.fields.state().model_dump(mode="json")
        context = rising(plain[CONTEXT], plain, memory.order, self._submitter.writer)
        for noted in (context, with_short_bases(context)):
            draft = Draft(memory.fields, self.identity.session_id)
            draft.room = Room.END
            try:
                draft.set({CONTEXT: noted})
                return draft.finished()
            except InvalidMessageError:  # no room for it
                continue
        return memory.fields

    def first_entries(self) -> tuple[NewEntry, ...]:
        """Return what is put for its first save, together with something else.

        Raises ConflictError where somebody has begun it since it was found not to exist.
        """
        order, fields = self._memory
        if self._registry.seen(self.identity) > self.seen:
            raise ConflictError(self.identity.state_path)
        expected = self._submitter.expected_entry(self.identity, self.seen)
        entries = (expected, self._whole(fields, Order(order.epoch, 1)))
        if self.fresh:
            return entries
        return (*entries, self._submitter.held_back_entry(self.identity))

    def save_first(self, others: Others) -> bool:
        """Begin the session, together with `others`: all is kept, or nothing is.

        Returns False where somebody else has begun it, or one of `others` is not what is there.
        """
        try:
            entries = (*self.first_entries(), *others())
        except ConflictError:
            return False
        order, fields = self._memory
        if not self._put(Order(order.epoch, 1), fields, *entries):
            return False
        self._registry.hold(self)
        return True

    def live(self) -> None:
        """Save that it is alive, also where it had ended, or had been resumed as another one."""
        self._save(_revive, Room.END, when_resumed=True)

    def take(self) -> bool:
        """Save a session that was another folder's, as alive.

        Returns False where this folder has saved it since `seen`, and nothing is done.
        """
        order, former = self._memory
        draft = Draft(former, self.identity.session_id)
        draft.room = Room.END
        _revive(draft)
        draft.set_active(time_text(now()))
        fields, order = draft.finished(), Order(order.epoch, 1)
        expected = self._submitter.expected_entry(self.identity, self.seen)
        if not self._put(order, fields, expected, self._whole(fields, order)):
            return False
        self._registry.hold(self)
        self._warn_of_size(fields)
        return True

    def take_again(self, seen: Order) -> bool:
        """Save a session that was adopted, above what was sent; False where it moved on here."""
        order, former = self._memory
        draft = Draft(former, self.identity.session_id)
        draft.room = Room.END
        rest = {key: value for key, value in draft[CONTEXT].items() if key != ADOPTS}
        draft.set({CONTEXT: rest})
        fields, new = draft.finished(), Order(order.epoch, order.revision + 1)
        expected = self._submitter.expected_entry(self.identity, seen)
        if not self._put(new, fields, expected, self._whole(fields, new)):
            return False
        self._registry.hold(self)
        return True

    def merge_unsaved(self, late: Mapping[str, Any], order: Order) -> None:
        """Merge what was saved meanwhile, before it is saved for the first time."""
        former = self._memory
        draft = Draft(former.fields, self.identity.session_id)
        draft.room = Room.END
        merge_late(draft, late, order)
        self._saved[former.order] = draft.finished()

    def renew(self, before: datetime) -> None:
        """Save that it is at work, where it is and nobody has said so since `before`."""
        if self._memory.fields["status"] not in WORKING_STATUSES:
            return  # where another process has it at work, that one renews it
        self._follow()
        fields = self._memory.fields
        active_at = time_in(fields["last_active"])
        if fields["status"] in WORKING_STATUSES and (active_at is None or active_at < before):
            self.save()

    def rest(self) -> None:
        """Leave it idle, unless it has ended or a task of another process is under way."""
        self._follow()
        if self._memory.fields["status"] not in WORKING_STATUSES or self.fenced:
            return

        def idle(draft: Draft) -> None:
            own = self.identity.session_id
            for entry in (part.plain for part in draft.history):
                runs = entry.get("status") == TaskStatus.IN_PROGRESS and is_open(entry, own)
                if runs and not self._begun_here(entry):
                    return
            if draft["status"] in WORKING_STATUSES:
                draft.set({"status": AgentStatus.IDLE.value})

        self._save(idle, Room.END)

    def merge_stored(self, stored: Mapping[str, Any], order: Order) -> None:
        """Go on from a state that was stored, as `order`, when this session began unread; once.

        What this handle has saved by now comes on top of it. `stored` is plain.
        """

        def attempt() -> bool:
            memory = self._memory
            if order.epoch in taken_along(memory.fields[CONTEXT]):
                # A former process was killed before it could say that this is done.
                self.merge(stored, order)
                return True
            fields = self._above(memory.fields, stored, order)
            return self._put_above(order.epoch, memory, fields)

        self._until_put(attempt)

    def _above(self, own: EncodedState, stored: Mapping[str, Any], order: Order) -> EncodedState:
        """Return a state on top of a stored one, with its memory as far as there is room."""
        for memory in (True, False):
            draft = Draft(own, self.identity.session_id)
            draft.room = Room.END
            try:
                merge_below(draft, stored, order, self._submitter.writer, memory=memory)
                return draft.finished()
            except InvalidMessageError as error:
                if error.code != "size" or not memory:
                    raise
                _LOG.error(
                    "%s has no room for what was remembered before it could be read: that is left",
                    self.identity.state_path,
                )
        raise AssertionError  # not reached: the last try returns or raises

    def merge_apart(
        self,
        base: Mapping[str, Any] | None,
        own: Mapping[str, Any],
        name: str,
        epoch: int,
        *,
        is_base_lost: bool = False,
    ) -> None:
        """Merge what this folder has saved apart from what it holds; once.

        Both are plain, and begun from `base`, if that is known; the name tells what was saved apart
        from all else that was. It goes on above the epoch of that, which all handles follow.
        """

        def attempt() -> bool:
            memory = self._memory
            if is_merged_apart(memory.fields[CONTEXT], name):
                return True
            merge = partial(merge_apart, base=base, own=own, name=name, is_base_lost=is_base_lost)
            fields = self._with_apart(memory, merge)
            return self._put_above(max(epoch, memory.order.epoch), memory, fields)

        self._until_put(attempt)

    def _with_apart(self, there: _Memory, merge: Callable[..., None]) -> EncodedState:
        """Return a state with what was saved apart, with its memory as far as there is room."""
        for memory in (True, False):
            draft = Draft(self._risen(there), self.identity.session_id)
            draft.room = Room.END
            try:
                merge(draft, memory=memory)
                return draft.finished()
            except InvalidMessageError as error:
                if error.code != "size" or not memory:
                    raise
                path = self.identity.state_path
                _LOG.warning("%s has no room for the memory that was saved apart", path)
        raise AssertionError  # not reached: the last try returns or raises

    def merge(self, late: Mapping[str, Any], order: Order) -> None:
        """Merge what a former holder has saved, as `order`, after it was taken over; once.

        `late` is that state, plain. Where there is no room for its memory, its tasks are taken.
        """
        for memory in (True, False):
            edit = partial(merge_late, late=late, order=order, memory=memory)
            try:
                self._save(edit, Room.END, active=False, when_resumed=True)
            except InvalidMessageError as error:
                if error.code != "size" or not memory:
                    raise
                _LOG.warning(
                    "%s has no room for the memory that its former holder has saved late",
                    self.identity.state_path,
                )
            else:
                return

    def has_merged(self, order: Order) -> bool:
        """Whether its state holds what a former holder has saved as `order`."""
        return is_merged(self._memory.fields[CONTEXT], order)

    def resumed_elsewhere(self) -> None:
        """Take it that this process goes on with the agent in another session."""
        self._follow()
        self._tell_fenced()

    def saved_first(self) -> None:
        """Take it that `first_entries` were put."""
        order, fields = self._memory
        self._saved[Order(order.epoch, max(order.revision, 1))] = fields
        self._registry.hold(self)

    def _save(
        self,
        edit: Callable[[Draft], None],
        room: Room = Room.GROW,
        *,
        listed: Mapping[str, Any] | None = None,
        new_child: str | None = None,
        others: Others = _no_others,
        whole: bool = False,
        active: bool = True,
        when_resumed: bool = False,
    ) -> EncodedState:
        """Put a change of the state, and `others` with it; make both again where a state has moved.

        A compare-and-set on (epoch, revision) decides in the outbox. Where it misses, another
        thread has saved, a signal handler in the middle of this call, or a call that was
        interrupted after its put: the newest state is read, and the edit made on that.
        """
        turn = self._turn.take()
        try:
            fields = self._until_put(
                partial(
                    self._applied,
                    edit,
                    room,
                    listed=listed,
                    new_child=new_child,
                    others=others,
                    whole=whole,
                    active=active,
                    when_resumed=when_resumed,
                )
            )
        finally:
            self._turn.give(turn)
        if not self.is_held and fields["status"] != AgentStatus.TERMINATED:
            self._registry.hold(self)
        self._warn_of_size(fields)
        return fields

    def _applied(
        self,
        edit: Callable[[Draft], None],
        room: Room,
        *,
        listed: Mapping[str, Any] | None,
        new_child: str | None,
        others: Others,
        whole: bool,
        active: bool,
        when_resumed: bool,
    ) -> EncodedState | None:
        """Put a change of the state; None where others have saved, and that is read by now."""
        self._check()
        memory = self._memory
        goes_on_as = self.goes_on_as
        if goes_on_as is not None and not when_resumed:
            raise FencedError(self.identity.state_path, goes_on_as=goes_on_as)
        moves = len(CLOCK.moves)
        former = self._in_time(memory.fields)
        draft = Draft(former, self.identity.session_id)
        draft.room = room
        # Of a session that has ended with a former holder's state. From here on it is more than
        # that, and what is stored as this order may be a later state of that one.
        was_ended = ended_with(former[CONTEXT], memory.order) is not None
        if was_ended:
            plain = former.state().model_dump(mode="json")
            context = going_on(plain[CONTEXT], plain, memory.order)
            full = is_nearly_full(former)
            draft.set({CONTEXT: with_short_bases(context) if full else context})
        edit(draft)
        ended: set[Identity] = set()
        if listed is None or "child_agent_ids" not in listed:
            ended = self._ended.copy()  # children end in threads of their own
            if ended or new_child is not None:
                draft.set({"child_agent_ids": self._children(draft, ended, new_child)})
        if active and goes_on_as is None:  # else it is active in that session
            draft.set_active(time_text(now()))
        fields = draft.finished()
        order = Order(memory.order.epoch, memory.order.revision + 1)
        whole = whole or self._is_next_whole
        if whole or was_ended or former is not memory.fields or memory.order.revision == 0:
            entry = self._whole(fields, order)
        else:
            entry = self._submitter.change_entry(self.identity, draft.change(), order)
        if self._put(order, fields, entry, *others()):
            self._moves = moves
            self._is_next_whole = False
            self._ended -= ended
            return fields
        self._catch_up(memory)
        return None

    def _until_put(self, attempt: Callable[[], T | None]) -> T:
        """Run an attempt until it has put; where it has not, it has read what others have saved.

        Beside others who save all the time, it would come too late time and again: they wait for it
        then. Raises OutboxError where they do not.
        """
        for _ in range(_MOST_ROUNDS):
            done = self._submitter.retry_exclusively(lambda: attempt() or attempt())
            if done:
                return done
        message = f"{self.identity.state_path} could not be saved: others saved it all the time"
        raise OutboxError(message)

    def _in_time(self, fields: EncodedState) -> EncodedState:
        """Return fields whose times are put right, once it is known that the clock was wrong."""
        if self._moves == len(CLOCK.moves):
            return fields
        plain = fields.state().model_dump(mode="json")
        return EncodedState.of(checked_state(plain)) if put_body_right(plain, CLOCK) else fields

    def _put(self, order: Order, fields: EncodedState | None, *entries: NewEntry) -> bool:
        """Put entries that make the state what is given; None: that delete it."""
        key = (order, object())
        self._putting[key] = fields
        if not self._submitter.put(*entries):
            self._putting.pop(key, None)
            return False
        if fields is None:
            self._deleted = True
        else:
            self._saved[order] = fields
        saved = list(self._saved)
        newest = max(saved)
        for each in saved:
            if each < newest:
                self._saved.pop(each, None)
        for put in list(self._putting):
            if put[0] <= newest or put is key:
                self._putting.pop(put, None)
        return True

    def _whole(self, fields: EncodedState, order: Order) -> NewEntry:
        return self._submitter.state_entry(self.identity, fields.body(), order)

    def _follow(self) -> None:
        """Have memory be what is on the disk, as far as that can be read."""
        if self._fenced or self._deleted:
            return
        try:
            head = self._submitter.outbox.head(self.identity.state_path)
            memory = self._memory
            if head is not None and head > memory.order:
                self._catch_up(memory)
        except (FencedError, OutboxError, UnavailableError, UnknownSessionError):
            return

    def _catch_up(self, seen: _Memory) -> Literal[False]:
        """Read the newest state of the session from the outbox; nothing was put.

        Raises FencedError where it is of somebody else, UnknownSessionError where it is deleted.
        """
        own = self._memory.order
        if own != seen.order:
            return False  # another thread, or a call in the middle of this one, has saved
        kept = self._submitter.outbox.state(self.identity.state_path)
        if kept is None or ((kept.epoch, kept.revision) <= own and kept.message is None):
            self._is_next_whole = True  # what a change would follow is not there any more
            return False
        order = Order(kept.epoch, kept.revision)
        if order <= own:
            self._is_next_whole = order != own
            return False
        if kept.message is not None:
            message = from_json(kept.message)
            if message["writer"] != self._submitter.writer:
                self._taken_away()
            state = message.get("state")
            fields = None if state is None else EncodedState.of(checked_state(state))
        else:
            found = self._forgotten(order)
            if found is None:
                return False
            fields, order = found
        if fields is None:
            self._deleted = True
            self._check()
        else:
            self._saved[order] = fields
            if self.goes_on_as is not None:
                self._registry.release(self)
                self._tell_fenced()
        self._is_next_whole = kept.message is None
        return False

    def _forgotten(self, order: Order) -> tuple[EncodedState | None, Order] | None:
        """Return the state that was put as `order`, or later, and forgotten since it was sent.

        None where that is to be looked for again. Raises UnavailableError where it cannot be read.
        """
        # A call of this process that was interrupted may have put it.
        for (put, _), fields in self._putting.copy().items():
            if put == order:
                return fields, order
        self._submitter.outbox.release_lock()
        time.sleep(_LOOK_SECONDS)
        if self._memory.order >= order:
            return None  # a call of another thread had put it, and has said so
        document = self._registry.stored(self.identity)
        if document is None or Order(document["epoch"], document["revision"]) < order:
            message = (
                f"{self.identity.state_path} was saved by another process of this folder, and "
                "what it has saved cannot be read now: try again later"
            )
            raise UnavailableError(message)
        if document["writer"] != self._submitter.writer:
            self._taken_away()
        stored = Order(document["epoch"], document["revision"])
        if document.get("deleted"):
            return None if self._deleted else (None, stored)
        return EncodedState.of(from_document(AgentState, document)), stored

    def _taken_away(self) -> None:
        self._registry.release(self)
        self.fence()
        self._check()

    def _warn_of_size(self, fields: EncodedState) -> None:
        before, self._is_nearly_full = self._is_nearly_full, is_nearly_full(fields)
        if before or not self._is_nearly_full:
            return
        _LOG.warning(
            "%s takes more than four fifths of what a state may: `forget` what is not needed",
            self.identity.state_path,
        )
        for listener in list(self._on_nearly_full):
            self._submitter.callbacks.call(listener, self)

    def _children(self, draft: Draft, ended: set[Identity], new: str | None) -> list[str]:
        """Return the children to be listed: the newest that have not ended, as far as is known."""
        living = {child.agent_id for child in self._living.copy()}
        gone = {child.agent_id for child in ended} - living
        listed = [each for each in draft["child_agent_ids"] if each not in gone]
        if new is not None:
            listed = [*(each for each in listed if each != new), new]
        return listed[-MAX_CHILDREN:]

    def _parent(self) -> Identity | None:
        fields = self._memory.fields
        return parent_in({f"parent_{n}": fields[f"parent_{n}"] for n in Identity._fields})

    def _check(self) -> None:
        if self._fenced:
            raise FencedError(self.identity.state_path, epoch=self._memory.order.epoch)
        if self._deleted:
            raise UnknownSessionError(f"{self.identity.state_path} was deleted")

    def _own(self, value: Any) -> Any:  # noqa: ANN401 - as it came
        """Name the session that made a memory, so that it counts there and nowhere else."""
        if isinstance(value, dict):
            return {"session_id": self.identity.session_id, **value}
        return value

    def begin_block(
        self, task_id: str, kind: str, details: Mapping[str, Any], started_at: str
    ) -> None:
        """Begin a task like `begin_task`, and cut what cannot be recorded whole."""
        notes = recordable(details)
        try:
            self._begin(task_id, kind, notes, started_at)
        except InvalidMessageError:
            self._begin(task_id, kind, in_short(notes), started_at)

    def end_block(
        self,
        task_id: str,
        status: str,
        details: Mapping[str, Any],
        started_at: str,
        *,
        only_running: bool = False,
    ) -> None:
        """End the task that began then like `end_task`, and cut what cannot be recorded whole.

        With `only_running`, one that does not run stays as it is.
        """
        notes = recordable(details)
        how: dict[str, Any] = {"only_running": only_running, "started_at": started_at}
        try:
            self._end(task_id, status, notes, **how)
        except InvalidMessageError:
            self._end(task_id, status, in_short(notes), **how)

    def _end(
        self,
        task_id: str,
        status: str,
        details: Mapping[str, Any],
        *,
        only_running: bool = False,
        started_at: str | None = None,
    ) -> Self:
        if status not in ENDED:
            message = f"a task ends as {', '.join(ENDED)}, not {status!r}"
            raise ValueError(message)
        own = self.identity.session_id
        end = {
            **details,
            **to_json_values({"task_id": task_id, "ended_at": now()}),
            "status": status,
            "session_id": own,
        }

        def ending(draft: Draft) -> None:
            history = list(draft.history)
            places = range(len(history) - 1, -1, -1)
            found = (n for n in places if self._runs(history[n].plain, task_id, started_at))
            place = next(found, None)
            if place is not None:
                self._begun.difference_update(self._begun_here(history[place].plain))
                history[place] = Part.of(_not_ahead({**history[place].plain, **end}))
            elif not only_running:
                history.append(Part.of(end))
            draft.set_history(history)
            if draft["current_task"] == task_id:
                after = self._after(task_id, status, history)
                if draft["status"] == AgentStatus.TERMINATED:
                    after.pop("status", None)  # what was under way does not bring it back
                draft.set(after)

        # What was under way when the agent was resumed elsewhere counts in the session it began in.
        self._save(ending, Room.END, when_resumed=True)
        return self

    def _after(self, task_id: str, status: str, history: list[Part]) -> dict[str, Any]:
        """Say what the agent does once its current task has ended: another that runs, if any."""
        own = self.identity.session_id
        for part in reversed(history):
            entry = part.plain
            if entry.get("status") == TaskStatus.IN_PROGRESS and is_open(entry, own):
                current = entry.get("task_id")
                if isinstance(current, str):
                    return {"current_task": current, "task_status": TaskStatus.IN_PROGRESS}
        return {"status": AgentStatus.ACTIVE, "current_task": task_id, "task_status": status}

    def _begun_here(self, entry: Mapping[str, Any]) -> set[tuple[str, str]]:
        """Return the task of an entry as this handle has begun it; nothing where it has not."""
        return {
            (task_id, at)
            for task_id, at in self._begun.copy()
            if task_id == entry.get("task_id") and is_same_time(at, entry.get("started_at"), CLOCK)
        }

    @staticmethod
    def _runs(entry: Mapping[str, Any], task_id: str, started_at: str | None) -> bool:
        return (
            entry.get("task_id") == task_id
            and entry.get("status") == TaskStatus.IN_PROGRESS
            and (started_at is None or is_same_time(started_at, entry.get("started_at"), CLOCK))
        )

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


def _revive(draft: Draft) -> None:
    if draft["status"] == AgentStatus.TERMINATED:
        draft.set({"status": AgentStatus.ACTIVE.value})
    context = draft[CONTEXT]
    if RESUMED_AS in context or ADOPTS in context:
        rest = {key: value for key, value in context.items() if key not in (RESUMED_AS, ADOPTS)}
        draft.set({CONTEXT: rest})


def _not_ahead(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry that ends, begun now if a clock that was wrong has said later."""
    started_at = time_in(entry.get("started_at"))
    if started_at is None or started_at <= now() + EARLIEST_ARRIVAL:
        return entry
    return {**entry, "started_at": entry["ended_at"]}
