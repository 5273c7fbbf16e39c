"""One agent in one session, as the process that runs it holds it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self, Unpack

from firestate.agents.carrying import merged
from firestate.agents.changes import CHANGEABLE
from firestate.agents.desk import now
from firestate.agents.fields import Fields
from firestate.agents.history import Former, is_short, trimmed
from firestate.agents.keeping import Keeping
from firestate.agents.messages import checked_event
from firestate.agents.partners import Partners
from firestate.agents.tasks import Tasks
from firestate.agents.values import plain
from firestate.errors import (
    FencedError,
    FieldProblem,
    InvalidMessageError,
    UnknownSessionError,
)
from firestate.forking import ForkSafe
from firestate.schema.enums import AgentStatus, CoordinationEventType
from firestate.schema.ids import Identity
from firestate.schema.messages import Order
from firestate.schema.values import time_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from firestate.agents.changes import Changes
    from firestate.agents.desk import Desk
    from firestate.agents.roster import Roster
    from firestate.schema.models import AgentState


class Agent(Keeping, Tasks, Partners, ForkSafe):
    """Made by `StateManager.start`, `resume` and `take_up`. Any thread may call it.

    Each call that changes something saves the whole state: it is on the disk when the call returns,
    and goes out in the background. Where the call raises, nothing has changed.
    """

    def __init__(self, desk: Desk, roster: Roster, state: AgentState, *, epoch: int) -> None:
        """Hold `state` from `epoch` on; nothing is saved yet."""
        super().__init__()
        self._desk = desk
        self._roster = roster
        self._lock = threading.RLock()
        self._fields = Fields.of(state)
        self._order = Order(epoch, 0)
        self._fenced = False
        self._deleted = False
        self._on_fenced: list[Callable[[Agent], None]] = []
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
            self._desk.callbacks.call(listener, self)

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
        with self._lock:
            self._save(changes)
        return self

    def save(self) -> Self:
        """Save the state as it is: a heartbeat, which says that the agent is alive."""
        return self.update()

    def terminate(self) -> Self:
        """Save that the agent has ended in this session; its memory stays."""
        self.update(status=AgentStatus.TERMINATED)
        self._roster.let_go(self)
        return self

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

        Raises EmergencyStopError while all agents are to stop: then nothing is made.
        """
        self._desk.controls.check()
        self._check()
        event = self._event(CoordinationEventType.SPAWN, (agent_type, agent_id))
        checked_event(plain({**event, "context": context or {}}))
        child = self._roster.new(
            agent_type,
            agent_id,
            session_id or self.identity.session_id,
            **{**given, "parent_agent_id": self.identity.agent_id},
        )
        self.spawned(child, context=context)
        with self._lock:
            children = self._fields["child_agent_ids"]
            if agent_id not in children:
                self._save({"child_agent_ids": [*children, agent_id]})
        return child

    def release(self) -> None:
        """Hold it no more, in a process that goes on: its state stays as it was saved."""
        self._roster.let_go(self)

    def delete(self) -> None:
        """Delete the state of this session; that it was spawned stays counted."""
        with self._lock:
            self._check()
            order = Order(self._order.epoch, self._order.revision + 1)
            self._desk.put_tombstone(self.identity, order)
            self._order, self._deleted = order, True
        self._roster.let_go(self)

    def carry_on(self, taken: Mapping[str, Any]) -> None:
        """Take along what a former session had, below what this one has by now, and save."""
        with self._lock:
            self._save(merged(taken, self._fields), whole=True)
            self.fresh = True

    def replace(self, state: AgentState) -> Self:
        """Save a whole state, with the times that it names."""
        with self._lock:
            self._check()
            self._put(self._trimmed(Fields.of(state)))
        return self

    def fence(self) -> None:
        """Take it that another process has this session now."""
        with self._lock:
            listeners = [] if self._fenced else list(self._on_fenced)
            self._fenced = True
        for listener in listeners:
            self._desk.callbacks.call(listener, self)

    def rise_above(self, epoch: int) -> None:
        """Begin above `epoch`, which was stored before this process began, and save anew."""
        with self._lock:
            self._order = Order(self._desk.new_epoch(self.identity, epoch), self._order.revision)
            self._put(self._fields)
            self.is_above = True

    def _save(self, changes: Mapping[str, Any], *, whole: bool = False) -> None:
        self._check()
        checked: tuple[str, ...] = ()
        if not whole:
            time_now = time_text(now())
            changes = {**changes, "last_updated": time_now, "last_active": time_now}
            checked = ("last_updated", "last_active")
        fields = self._fields.changed(changes, checked=checked, whole=whole)
        if "task_history" in changes or "task_totals" in changes:
            fields = self._trimmed(fields)
        self._put(fields)

    def _trimmed(self, fields: Fields) -> Fields:
        if fields.raw("task_totals") == b"null" and is_short(fields.raw("task_history")):
            return fields
        former = Former(self._fields["task_history"], self._fields["task_totals"])
        history, session_id = fields["task_history"], self.identity.session_id
        changes = trimmed(history, fields["task_totals"], former, session_id)
        return fields.changed(changes, checked=changes)

    def _put(self, fields: Fields) -> None:
        order = Order(self._order.epoch, self._order.revision + 1)
        try:
            self._desk.put_state(self.identity, fields.body(), order)
        except FencedError:
            self.fence()
            raise
        self._order, self._fields = order, fields
        if not self.is_held:
            self._roster.hold(self)

    def _check(self) -> None:
        if self._fenced:
            raise FencedError(self.identity.state_path)
        if self._deleted:
            raise UnknownSessionError(f"{self.identity.state_path} was deleted")
