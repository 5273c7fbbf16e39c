"""The agents that this process holds, and how it comes to hold one."""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic_core import from_json

from firestate.agents.agent import NOTHING, Agent, Past
from firestate.agents.backends.document_watch import Watch
from firestate.agents.reading.read_your_writes import state_document
from firestate.agents.reading.state_queries import (
    first_state,
    former_states,
    newest_states,
    read_as,
)
from firestate.agents.state.carry_over import PENDING, carry_over, ended_as
from firestate.agents.state.changes import new_fields
from firestate.agents.state.clock import now
from firestate.agents.state.draft import Draft, Room, fitting
from firestate.agents.state.encoded_state import EncodedState
from firestate.agents.state.generated_ids import new_id
from firestate.agents.state.json_values import to_json_values
from firestate.agents.state.late_work import keep_under_way, merge_late, with_base
from firestate.agents.state.message_encoding import checked_state
from firestate.errors import (
    ConflictError,
    DamagedDocumentError,
    FencedError,
    FirestateError,
    InvalidMessageError,
    UnknownSessionError,
)
from firestate.forking import ForkSafe
from firestate.limits import INT64_MAX
from firestate.queries import FENCED, WITH_LATE
from firestate.schema.ids import LATE, Identity
from firestate.schema.messages import Order
from firestate.schema.models import AgentState
from firestate.schema.serialization import to_document
from firestate.schema.take_over import ENDED_WITH, ended_with, note_of_end
from firestate.schema.times import check_times
from firestate.stored_states import identity_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from firestate.agents.agent import Former
    from firestate.agents.backends.backend import Backend
    from firestate.agents.backends.document_watch import Change
    from firestate.agents.reading.answers import Document
    from firestate.agents.reading.background_reads import BackgroundReads
    from firestate.agents.submitter import Submitter
    from firestate.outbox.entries import KeptState, NewEntry


T = TypeVar("T")


class _Continued(NamedTuple):
    """A state that is gone on with, and the order of what this folder has of it.

    `of_epoch` is that of the other folder whose state it is, where nothing was added to that.
    """

    state: AgentState
    seen: Order
    of_epoch: int | None = None


_MOST_FORMERS = 10
_FENCED_BEFORE = timedelta(days=1)
"""How far this machine's clock may be ahead of the store's, by which a take-over is dated."""

_LOG = logging.getLogger("firestate.agents")


class AgentRegistry(ForkSafe):
    """Holds agents, makes sure that each stands above what is stored, and learns who is fenced."""

    def __init__(
        self, submitter: Submitter, backend: Backend, background_reads: BackgroundReads
    ) -> None:
        """Hold none yet."""
        super().__init__()
        self._submitter = submitter
        self._backend = backend
        self._background_reads = background_reads
        self._on_first_held: Callable[[], None] = lambda: None
        backend.reading.on_change(lambda state: self._check_all() if state.open else None)
        self.after_fork()

    def after_fork(self) -> None:
        """Hold none: they are the parent's."""
        self._held: dict[Identity, Agent] = {}
        self._unread: set[Identity] = set()
        """Those that are to be read before they go out."""
        # Found is what was taken from this folder, or came late, since: watching costs next to
        # nothing. What was taken before is found where it is read.
        writer = self._submitter.writer
        since = now() - _FENCED_BEFORE
        fenced = FENCED.query({"fenced_writer": writer}, low=since)
        late = WITH_LATE.query({"late_writer": writer})
        self._watches = [Watch(query, self._changed) for query in (fenced, late)]
        self._is_watching = False

    def new(self, identity: Identity, **given: Any) -> Agent:  # noqa: ANN401 - fields of a state
        """Hold a new session, and save it."""
        agent = self.drafted(identity, **given)
        agent.replaces = True
        agent.save()
        self._check(agent)
        return agent

    def begin(
        self,
        identity: Identity,
        formers: Sequence[Former] = (),
        *,
        seen: Order = NOTHING,
        unread: bool = False,
        **given: Any,  # noqa: ANN401 - fields of a state
    ) -> Agent | None:
        """Hold a session that is not there yet, and takes along what `formers` had.

        The newest former comes first; they end. All of that is one: it is kept, or nothing is.
        One that is `unread`, since the store cannot be asked, is not sent before it has been read:
        where there is a session after all, it goes on from that. Returns None where somebody has
        begun the session since `seen`, or a former one has moved since it was read: then all is to
        be read again.
        """
        begun = partial(self._begun, identity, formers, seen=seen, unread=unread, **given)
        agent = self._submitter.retry_exclusively(begun)
        if agent is not None:
            self.release_all(formers)
            if unread:
                self._read_at_last(identity)
            else:
                self._check(agent)
        return agent and self._held.get(identity, agent)

    def _begun(
        self,
        identity: Identity,
        formers: Sequence[Former],
        *,
        seen: Order,
        unread: bool,
        **given: Any,  # noqa: ANN401 - fields of a state
    ) -> Agent | None:
        try:
            past = self.past(formers, identity.session_id)
        except ConflictError:
            return None

        def carried(taken: dict[str, Any]) -> Agent | None:
            agent = self.drafted(identity, seen=seen, **{**taken, **given})
            agent.fresh = not unread
            return agent if agent.save_first(past.ends) else None

        return self.carry(past.states, carried)

    def go_on_with_unread(self) -> None:
        """Read the sessions that this process, or a former one, has begun without reading them."""
        for document in self._submitter.outbox.held_back():
            kept = self._submitter.outbox.state(document)
            if kept is None or kept.message is None:
                self._submitter.outbox.let_go(document)
                continue
            message = from_json(kept.message)
            fields = message.get("state") or message["deleted"]
            self._read_at_last(Identity(*(fields[name] for name in Identity._fields)))

    def _read_at_last(self, identity: Identity) -> None:
        if identity not in self._unread:
            self._unread.add(identity)
            self._background_reads.add_stored(
                identity, lambda found: self._read_now(identity, found)
            )

    def _read_now(self, identity: Identity, stored: Document | None) -> None:
        """Let a session that has begun unread go out, on top of what is stored of it."""
        self._unread.discard(identity)
        outbox = self._submitter.outbox
        if identity.state_path not in outbox.held_back():
            return  # another process of the folder has done so
        # Its own of former days as well: the outbox forgets what was sent. What has begun unread is
        # of a later epoch, and has not gone out yet.
        is_earlier = stored is not None and stored["epoch"] < self.seen(identity).epoch
        if stored is not None and (is_earlier or not self.is_own(stored)):
            self._put_above(identity, stored)
        outbox.let_go(identity.state_path)
        if (agent := self._held.get(identity)) is not None:
            agent.fresh = agent.is_above = True

    def _put_above(self, identity: Identity, stored: Document) -> None:
        order = Order(stored["epoch"], stored["revision"])
        agent = self._held.get(identity) or self._kept(identity)
        (state,) = read_as(AgentState, [] if stored.get("deleted") else [stored]) or (None,)
        if state is None and not stored.get("deleted"):
            # Such as one of a later release: it is not to be written over.
            message = f"{identity.state_path} is stored in a form that cannot be read"
            raise DamagedDocumentError(message)
        if agent is None:  # it was deleted here
            seen = self.seen(identity)
            above = Order(self._submitter.new_epoch(identity, order.epoch), 1)
            expected = self._submitter.expected_entry(identity, seen)
            self._submitter.put(expected, self._submitter.tombstone_entry(identity, above))
        elif state is None:
            agent.rise_above(order.epoch)
        else:
            agent.merge_stored(state.model_dump(mode="json"), order)

    def put_again(self) -> None:
        """Put the states of the agents that are held: the outbox has lost them."""
        for agent in self.held():
            try:
                agent.rise_above(agent.epoch)
            except FirestateError as error:
                _LOG.error("%s cannot be put again: %s", agent.identity, error)

    def merge_apart(self, _: str, base: KeptState | None, newest: KeptState, name: str) -> None:
        """Merge what was saved beside the outbox while that was locked, and others wrote to it.

        A session that either of them has deleted is deleted.
        """
        message = from_json(newest.message or b"")
        fields = message.get("state") or message["deleted"]
        identity = Identity(*(fields[name] for name in Identity._fields))
        order = Order(newest.epoch, newest.revision)
        submitter = self._submitter
        while True:
            kept = submitter.outbox.state(identity.state_path)
            there = Order(0, 0) if kept is None else Order(kept.epoch, kept.revision)
            expected = submitter.expected_entry(identity, there)
            above = Order(submitter.new_epoch(identity, max(order, there).epoch), 1)
            if "state" not in message:
                entry = submitter.tombstone_entry(identity, above)
            elif kept is None or kept.message is None:
                # What others have saved is stored by now, and forgotten here: ours goes above it.
                body = EncodedState.of(checked_state(fields)).body()
                entry = submitter.state_entry(identity, body, above)
            elif (agent := self._kept(identity)) is not None:
                before = None if base is None or base.message is None else from_json(base.message)
                agent.merge_apart(
                    before and before.get("state"),
                    fields,
                    name,
                    order.epoch,
                    is_base_lost=base is not None and base.message is None,
                )
                return
            else:
                return
            if submitter.put(expected, entry):
                return

    def _kept(self, identity: Identity) -> Agent | None:
        """Return a handle on what the outbox keeps of a session; None where it is deleted."""
        kept = self._submitter.outbox.state(identity.state_path)
        fields = None if kept is None or kept.message is None else from_json(kept.message)
        if kept is None or fields is None or "state" not in fields:
            return None
        state = checked_state(fields["state"])
        return Agent(self._submitter, self, state, order=Order(kept.epoch, kept.revision))

    def drafted(
        self,
        identity: Identity,
        *,
        seen: Order = NOTHING,
        **given: Any,  # noqa: ANN401 - fields of a state
    ) -> Agent:
        """Return a new session that is checked, and saved with what is put together with it.

        `seen` is what was there of it when it was found not to exist.
        """
        fields = new_fields(**identity._asdict(), **to_json_values(given))
        time = now()
        whole = {"created_at": time, "last_updated": time, "last_active": time, **fields}
        state = checked_state(to_json_values(whole))
        check_times("state", to_document(state), time)
        order = Order(self._submitter.new_epoch(identity, seen.epoch), 0)
        agent = Agent(self._submitter, self, state, order=order)
        agent.seen = seen
        return agent

    def child_there(self, child: Identity, parent: Agent, seen: Order) -> Agent | None:
        """Return a child that is there already, held by this process from now on.

        The store is asked only where something on this machine tells of such a child: most ids are
        new, and a spawn costs no read.
        """
        held = self._held.get(child)
        if held is not None and held.is_usable:
            return held
        if seen == NOTHING and not parent.lists(child):
            return None
        found = self._background_reads.ask(child)
        if not found or found[0].get("deleted"):
            return None
        (state,) = read_as(AgentState, found[:1]) or (None,)
        return None if state is None else self.take_up(state, found[0])

    def child_before(self, child: Identity, parent: Agent) -> list[Former]:
        """Return the newest session of a child that a resumed parent has had in its former one.

        Nothing is read for a child that the parent does not list.
        """
        if parent.resumed_from is None or not parent.lists(child):
            return []
        found = self._background_reads.ask(newest_states(*child[:2], limit=_MOST_FORMERS))
        formers = former_states(found, child.session_id)
        return [each for each in formers if each[0].parent_agent_id == parent.identity.agent_id]

    def take_up(self, stored: AgentState, document: Document) -> Agent:
        """Hold a session as it is stored, and say that it is alive.

        One that this folder writes is shared with whoever has it here; one of another folder is
        taken from that. Raises InvalidMessageError where it holds times that are yet to come, which
        releases up to 0.1 have stored: nothing that such a session saves would be taken.
        """
        check_times("state", to_document(stored), now())
        identity = self.identity_of(stored)
        if identity.state_path in self._submitter.outbox.held_back():
            self._read_at_last(identity)  # whoever has begun it may have died
        agent = self._held.get(identity)
        is_ours = self.is_own(document) or (agent is not None and document["epoch"] <= agent.epoch)
        if agent is not None and is_ours and not agent.fenced and not agent.is_deleted:
            agent.live()
        elif self.is_own(document):
            order = Order(document["epoch"], document["revision"])
            agent = Agent(self._submitter, self, stored, order=order)
            agent.is_above = True
            agent.live()
        else:
            agent = self._taken(stored, document, identity)
        self._watch_stored(agent)
        return self._held.get(identity, agent)  # another thread may have been first

    def _taken(self, stored: AgentState, document: Document, identity: Identity) -> Agent:
        """Take a session from another folder, with what this one has saved of it before."""
        short = False
        while True:
            state, seen, _ = self._with_own(stored, document, short=short)
            if self.seen(identity) > seen and (own := self._kept(identity)) is not None:
                own.is_above = True
                own.live()  # another process of this folder was first
                return own
            order = Order(self._submitter.new_epoch(identity, document["epoch"]), 0)
            agent = Agent(self._submitter, self, state, order=order)
            agent.is_above, agent.seen = True, seen
            try:
                if agent.take():
                    return agent
            except InvalidMessageError as error:
                if error.code != "size" or short:
                    raise
                short = True

    def _with_own(
        self, stored: AgentState, document: Document, *, short: bool = False
    ) -> _Continued:
        """Return a state that is gone on with.

        One of another folder notes what is taken along of it. What this folder had saved before the
        other one took the session, and may not have been sent yet, is merged: it would be replaced.
        """
        order = Order(document["epoch"], document["revision"])
        ended = ended_with(stored.collaboration_context, order)
        if self.is_own(document):
            return _Continued(stored, order, ended)
        fields = stored.model_dump(mode="json")
        writer = self._submitter.writer
        fields["collaboration_context"] = with_base(fields, order, writer, short=short)
        state = checked_state(fields)
        identity = self.identity_of(stored)
        kept = self._submitter.outbox.state(identity.state_path)
        of_epoch = order.epoch if ended is None else ended
        if kept is None:
            return _Continued(state, NOTHING, of_epoch)
        seen = Order(kept.epoch, kept.revision)
        own = None if kept.message is None else from_json(kept.message).get("state")
        if own is None or seen == order:
            return _Continued(state, seen, of_epoch)
        if seen.epoch >= order.epoch:
            return _Continued(state, order)  # it has moved in this folder since it was read
        # What has ended comes first where there is no room for all: it was acknowledged.
        for memory, under_way in product((True, False), repeat=2):
            draft = Draft(EncodedState.of(state), identity.session_id)
            draft.room = Room.END
            try:
                merge_late(draft, own, seen, memory=memory)
                if under_way:
                    keep_under_way(draft, stored.collaboration_context, own, seen)
                return _Continued(draft.finished().state(), seen)
            except InvalidMessageError as error:
                _LOG.warning("%s has no room for what was saved here: %s", identity, error)
        return _Continued(state, seen, of_epoch)

    def _watch_stored(self, agent: Agent) -> None:
        """Learn what becomes of a session that others may have, or have had."""
        if not self._backend.is_near:
            self._check(agent)

    def complete_resume(self, agent: Agent, formers: Sequence[Former]) -> bool:
        """Let an agent that has begun without its past take that along now.

        Returns False where a former session has moved on since it was read.
        """

        def attempt() -> bool:
            try:
                past = self.past(formers, agent.identity.session_id)
                self.carry(past.states, lambda taken: agent.carry_on(taken, past.ends))
            except ConflictError:
                return False
            return True

        done = self._submitter.retry_exclusively(attempt)
        if done:
            self.release_all(formers)
        return done

    @staticmethod
    def carry(states: Sequence[AgentState], carry: Callable[[dict[str, Any]], T]) -> T:
        """Carry on what former states had; where that is too large, without the marks of them.

        Those are what the past takes more than it took before. Without them, what the agent knows
        counts once more in the new session: better than an agent that cannot go on.
        """
        try:
            return carry(carry_over(states))
        except InvalidMessageError as error:
            if error.code != "size":
                raise
            return carry(carry_over(states, marked=False))

    def past(self, formers: Sequence[Former], session_id: str) -> Past:
        """Return the states that go on in a session, and what ends them.

        They are the newest that this folder has, also where others have saved them since they were
        read. Raises ConflictError where one of them is to be read again.
        """
        newest = [self._newest_here(former) for former in formers]
        found = [(self._with_own(*former), former[1]) for former in newest]
        ended = []
        for (former, seen, of_epoch), document in found:
            old = self.identity_of(former)
            fields = ended_as(former, session_id, now())
            state = checked_state(_as_ended_with(fields, of_epoch, Order(INT64_MAX, INT64_MAX)))
            try:
                check_times("state", to_document(state), now())
                fitted = fitting(EncodedState.of(state), old.session_id)
                self._submitter.state_entry(old, fitted.body(), Order(0, 1))
            except InvalidMessageError as error:
                _LOG.warning("%s goes on as %s, and cannot be ended: %s", old, session_id, error)
                continue
            ended.append((old, fitted, of_epoch, seen, document))

        def entries() -> list[NewEntry]:
            made = []
            for old, fitted, of_epoch, seen, document in ended:
                if self.seen(old) > seen:
                    raise ConflictError(old.state_path)
                # What others of this folder have saved since it was read is not to be lost.
                made.append(self._submitter.expected_entry(old, seen))
                order = Order(seen.epoch, seen.revision + 1)
                if not self.is_own(document):
                    order = Order(self._submitter.new_epoch(old, document["epoch"]), 1)
                body = fitted.body()
                if of_epoch is not None:  # now its place is known
                    fields = _as_ended_with(fitted.state().model_dump(mode="json"), of_epoch, order)
                    body = EncodedState.of(checked_state(fields)).body()
                made.append(self._submitter.state_entry(old, body, order))
            return made

        return Past([continued.state for continued, _ in found], entries)

    def _newest_here(self, former: Former) -> Former:
        """Return a former session as others of this folder have saved it since it was read.

        Raises ConflictError where one of them has deleted it, or gone on with it.
        """
        state, document = former
        kept = self._submitter.outbox.state(self.identity_of(state).state_path)
        read = Order(document["epoch"], document["revision"])
        if kept is None or kept.message is None or Order(kept.epoch, kept.revision) <= read:
            return former
        newest = state_document(kept.message)
        found = first_state([newest]) if self.is_own(newest) else None
        if found is None or _goes_on_as(found) != _goes_on_as(state):
            raise ConflictError(self.identity_of(state).state_path)
        return found, newest

    def release_all(self, formers: Sequence[Former]) -> None:
        """Tell those of this process that go on as others."""
        for former, _ in formers:
            old = self.identity_of(former)
            if (held := self._held.get(old)) is not None:
                self._drop(held)
                held.resumed_elsewhere()

    def save(self, fields: Mapping[str, Any]) -> Agent:
        """Save a whole state of plain `fields`, of an agent that is held or is held from now on."""
        state = checked_state(fields)
        check_times("state", to_document(state), now())
        identity = self.identity_of(state)
        agent = self._held.get(identity)
        if agent is not None:
            return agent.replace(state)
        order = Order(self._submitter.new_epoch(identity), 0)
        agent = Agent(self._submitter, self, state, order=order)
        agent.replaces = True
        agent.replace(state)
        self._check(agent)
        return agent

    def on_first_held(self, listener: Callable[[], None]) -> None:
        """Call `listener` when the first agent is held, and perhaps again."""
        self._on_first_held = listener

    def held(self) -> list[Agent]:
        """Return the agents that this process holds."""
        return list(self._held.copy().values())

    def rest(self) -> None:
        """Leave the agents that this process holds idle, as far as that can be saved."""
        for agent in self.held():
            try:
                agent.rest()
            except FirestateError as error:
                _LOG.warning("%s stays as it is: %s", agent.identity.state_path, error)

    @staticmethod
    def identity_of(state: AgentState) -> Identity:
        """Return whose state it is."""
        return Identity(state.agent_type, state.agent_id, state.session_id)

    def take_adopted(self, agent: Agent, seen: Order, document: Document) -> Agent:
        """Save to a session that was adopted, with what this folder has saved of it since."""
        while not agent.take_again(seen):
            kept = self._submitter.outbox.state(agent.identity.state_path)
            if kept is not None and kept.message is not None:
                message = from_json(kept.message)
                if kept.epoch == document["epoch"] and "state" in message:
                    agent.merge_unsaved(message["state"], Order(kept.epoch, kept.revision))
            seen = self.seen(agent.identity)
        return agent

    def find(self, identity: Identity) -> Agent | None:
        """Return the agent that this process holds of a session, if it does."""
        return self._held.get(identity)

    def find_newest(self, agent_type: str, agent_id: str) -> Agent | None:
        """Return the agent that this process holds in the newest of its sessions that it runs."""
        found = [
            agent
            for identity, agent in self._held.copy().items()
            if identity[:2] == (agent_type, agent_id) and agent.is_usable
        ]
        return max(found, key=lambda agent: agent.epoch, default=None)

    def is_own(self, document: Document) -> bool:
        """Whether this folder has saved a document, as far as is known."""
        return bool(document["writer"] == self._submitter.writer)

    def reserve(self, agent_type: str, agent_id: str, former: str) -> Identity:
        """Return the session that follows `former`: the same for all who ask in this folder."""
        agent = f"{agent_type}_{agent_id}"
        outbox = self._submitter.outbox
        identity = Identity(agent_type, agent_id, outbox.reserve(agent, former, new_id()))
        kept = outbox.state(identity.state_path)
        if kept is not None and kept.message is not None and "deleted" in from_json(kept.message):
            own = outbox.reserve_anew(agent, former, identity.session_id, new_id())
            return identity._replace(session_id=own)
        return identity

    def seen(self, identity: Identity) -> Order:
        """Return the order of what this folder has of a session, before it is read."""
        return Order(*(self._submitter.outbox.head(identity.state_path) or (0, 0)))

    def stored(self, identity: Identity) -> Document | None:
        """Return the document of a session as it is stored; None where it cannot be read now."""
        return self._background_reads.ask_stored(identity)

    def release(self, agent: Agent) -> None:
        """Hold it no more."""
        self._drop(agent)

    def tell_parent(self, child: Identity, parent: Identity | None) -> None:
        """Let the parent know that a child has ended, if this process holds it.

        A parent that was resumed goes on in another session.
        """
        if parent is None:
            return
        for held in [each for each in self._held.copy() if each[:2] == parent[:2]]:
            if (agent := self._held.get(held)) is not None:
                agent.child_ended(child)

    def hold(self, agent: Agent) -> None:
        """Look after an agent that saves: learn whether it is fenced off.

        One handle of a session is looked after; others share what it saves.
        """
        held = self._held.setdefault(agent.identity, agent)
        if held is not agent:
            if not held.fenced and not held.is_deleted:
                return
            self._held[agent.identity] = agent
        agent.is_held = True
        if not self._is_watching:
            self._on_first_held()
            for watch in self._watches:
                self._backend.watch(watch)  # once more does no harm
            self._is_watching = True

    def _drop(self, agent: Agent) -> None:
        agent.is_held = False
        if self._held.get(agent.identity) is agent:
            self._held.pop(agent.identity, None)

    def _changed(self, change: Change) -> None:
        if change.data is None or (identity := identity_in(change.data)) is None:
            return
        stored = dict(change.data)
        if (agent := self._held.get(identity)) is not None:
            self._compare(agent, stored)
        elif stored["writer"] == stored.get("late_writer") == self._submitter.writer:
            # Nobody of this folder may hold it any more, and nobody else is told.
            for state in read_as(AgentState, [stored]):
                order = Order(stored["epoch"], stored["revision"])
                agent = Agent(self._submitter, self, state, order=order)
                agent.is_above = True
                self._read_late(agent, stored)

    def _compare(self, agent: Agent, stored: Document | None) -> None:
        """Hold an agent against what is stored of its session, as soon as that can be read.

        stored             agent                     it is
        nothing, its own   any                       above
        an earlier epoch   any                       above
        a later one        has been above before     fenced off: somebody has taken it up since
        a later one        is named as fenced there  the same
        a later one        has not been yet          behind a clock that is ahead: it rises above
        """
        writer = self._submitter.writer
        if stored is None or stored["writer"] == writer or (stored["epoch"] < agent.epoch):
            agent.is_above = True
            if stored is not None and stored["writer"] == writer:
                self._read_late(agent, stored)
        elif agent.is_above or stored.get("fenced_writer") == writer:
            _LOG.warning(
                "%s was taken up by %s: this process is fenced off",
                agent.identity.state_path,
                stored["writer"],
            )
            self._drop(agent)
            agent.fence()
        else:
            agent.rise_above(stored["epoch"], replaces=agent.replaces)

    def _read_late(self, agent: Agent, stored: Document) -> None:
        """Merge what former holders have saved late, as soon as that can be read."""
        waiting = stored.get("late") or {}
        for order in sorted(Order(int(epoch), revision) for epoch, revision in waiting.items()):
            if not agent.has_merged(order):
                path = f"{agent.identity.state_path}/{LATE}/{order.epoch}"
                self._background_reads.add(path, lambda found: self._merge_late(agent, found))

    @staticmethod
    def _merge_late(agent: Agent, found: list[Document]) -> None:
        for document, state in zip(found, read_as(AgentState, found), strict=False):
            order = Order(document["epoch"], document["revision"])
            was_held = agent.is_held
            try:
                agent.merge(state.model_dump(mode="json"), order)
            except (FencedError, UnknownSessionError):
                return  # whoever has taken the session since merges it, or has deleted it
            if not was_held:
                agent.release()
            _LOG.info("%s has merged what came late of its former holder", agent.identity)

    def _check_all(self) -> None:
        self.go_on_with_unread()
        # Of two that took it up one after the other while nothing could be read, the first is
        # the one that `fenced_writer` names now.
        for agent in list(self._held.values()):
            self._check(agent)

    def _check(self, agent: Agent) -> None:
        """Compare an agent with what is stored, as soon as that can be read."""
        self._background_reads.add_stored(
            agent.identity, lambda stored: self._compare(agent, stored)
        )


def _goes_on_as(state: AgentState) -> tuple[object, bool]:
    context = state.collaboration_context
    return context.get("resumed_as"), PENDING in context


def _as_ended_with(fields: dict[str, Any], epoch: int | None, order: Order) -> dict[str, Any]:
    """Return a state that ends at `order` with that of another folder; None: with its own."""
    if epoch is None:
        return fields
    context = {**fields["collaboration_context"], ENDED_WITH: note_of_end(epoch, order)}
    return {**fields, "collaboration_context": context}
