"""Asking the store without waiting for it: an answer comes from there, or from what is known."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from firestate.agents.backends.backend import NEAR_SECONDS
from firestate.agents.reading.answers import Document, Known, Lookup, ReadRequest
from firestate.agents.reading.read_your_writes import (
    event_document,
    in_order,
    is_later,
    matches_lookup,
    may_miss_documents,
    state_document,
    with_own_writes,
)
from firestate.errors import ConfigurationError, FirestateError, UnavailableError
from firestate.forking import ForkSafe
from firestate.lookup import look_up as looked_up
from firestate.schema.ids import EVENTS, STATES, Identity
from firestate.stored_states import identity_in, later_elsewhere, read_state
from firestate.worker import Worker

if TYPE_CHECKING:
    from firestate.agents.backends.backend import Backend
    from firestate.agents.reading.answers import Find, Question
    from firestate.outbox.file import Outbox
    from firestate.stores.protocol import Store
    from firestate.worker import Result

T = TypeVar("T")
Found = dict[str, Document]

_LOG = logging.getLogger("firestate.reader")
_THREADS = 4
_LEAST_LOOK_SECONDS, _LOOK_SECONDS = 0.001, 0.05
_DOCUMENTS_IN_A_PATIENCE, _MANY = 500, 1_000
_MOST_KNOWN = 500


class _Answer(NamedTuple):
    """What the store has told, and what lay over it; None where that is still to be looked at."""

    found: Found
    own: Found | None


class StoreReader(ForkSafe):
    """Asks for agents, from any thread; what it has read it remembers, up to 500 documents."""

    def __init__(self, engine: Backend, outbox: Outbox, *, patience_seconds: float) -> None:
        """Take where to read, and what lies over it.

        No read takes longer than the patience, and as much again for each 500 documents wanted.
        """
        super().__init__()
        self._engine = engine
        self._outbox = outbox
        self._patience_seconds = patience_seconds
        self._known: dict[str, Document] = {}
        self._worker = Worker("firestate-reader", threads=_THREADS)
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew: a thread of the parent may have held the lock."""
        self._lock = threading.RLock()

    def ask(self, question: Question[T]) -> T:
        """Ask the store, or, where it does not answer in time, what is known."""
        if isinstance(question, Known):
            return question.value
        asked = self._asked(question.find)
        deadline = time.monotonic() + self._patience_for(question.find)
        while asked is not None and not asked.wait(_LOOK_SECONDS):
            if self._given_up(deadline):
                break
        return self._answer(question, asked)

    async def ask_aio(self, question: Question[T]) -> T:
        """Do the same, and let other tasks run meanwhile."""
        if isinstance(question, Known):
            return question.value
        asked = self._asked(question.find)
        deadline = time.monotonic() + self._patience_for(question.find)
        pause = _LEAST_LOOK_SECONDS
        while asked is not None and not asked.is_done:
            if self._given_up(deadline):
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LOOK_SECONDS)
        return await asyncio.to_thread(self._answer, question, asked)

    def close(self) -> None:
        """Ask nothing more."""
        self._worker.close(0.0)

    def _asked(self, find: Find) -> Result[_Answer | None] | None:
        if not self._engine.is_near and self._engine.reading.is_lost:
            return None
        # On a thread of ours, near or far: a store holds locks.
        return self._worker.begin(lambda: self._read(find))

    def _patience_for(self, find: Find) -> float:
        if self._engine.is_near:
            return NEAR_SECONDS
        documents = (find.limit or _MANY) if isinstance(find, Lookup) else 1
        return self._patience_seconds * (1 + documents / _DOCUMENTS_IN_A_PATIENCE)

    def _given_up(self, deadline: float) -> bool:
        """Whether to wait no longer: the time is up, or somebody else has found the way closed."""
        if time.monotonic() >= deadline:
            self._engine.broken("a read took too long")
            return True
        if self._worker.is_closed:
            return True
        return not self._engine.is_near and self._engine.reading.is_lost

    def _read(self, find: Find) -> _Answer | None:
        own: Found | None = None
        try:
            if self._engine.is_near and isinstance(find, Lookup):
                # What was sent is stored: only what waits lies over it. Looked at before the store
                # is: what is sent in between is found in both, and never in neither.
                own = self._own(find, waiting=True)
            store = self._engine.store()
            if isinstance(find, Identity):
                state = read_state(store, find).state
                found = {} if state is None else {find.state_path: state.data}
            elif isinstance(find, str):
                one = store.read(find)
                found = {} if one is None else {find: one.data}
            else:
                found = self._looked_up(store, find, find.limit)
                over = self._own(find) if own is None else own
                if find.limit is not None and may_miss_documents(found, over, find):
                    found = self._looked_up(store, find, find.limit + len(over))
        except (UnavailableError, ConfigurationError) as error:
            # Away for now, or until somebody does what the error says.
            self._engine.broken(str(error))
            return None
        except FirestateError as error:
            if self._engine.is_near:
                self._engine.broken(str(error))
                return None
            # Not the network: a missing right, a missing index. Trying again would not help.
            _LOG.error("the store refuses a read: %s", error)
            return None
        except Exception:  # noqa: BLE001 - whatever it is: an agent goes on by what is known
            _LOG.exception("a read has failed")
            return None
        self._remember(found)
        return _Answer(found, own)

    def _looked_up(self, store: Store, find: Lookup, limit: int | None) -> Found:
        documents = list(
            looked_up(store, find.shapes, find.wanted, low=find.since, high=find.until, limit=limit)
        )
        if find.shapes[0].collection != STATES:
            return {each.path: each.data for each in documents}
        later = later_elsewhere(store, documents)
        found: Found = {}
        for each in documents:
            # By the path of today, wherever it lies: an agent's own writes go on top of it there.
            identity = identity_in(each.data)
            path = each.path if identity is None else identity.state_path
            if identity not in later:
                found[path] = each.data
            elif matches_lookup(later[identity].data, find):
                found[path] = later[identity].data
        return found

    def _remember(self, found: Found) -> None:
        # Others look it up without the lock, by single operations of a dict.
        with self._lock:
            for path, data in found.items():
                self._known.pop(path, None)
                self._known[path] = data
            for path in list(self._known)[: max(0, len(self._known) - _MOST_KNOWN)]:
                del self._known[path]

    def _answer(self, question: ReadRequest[T], asked: Result[_Answer | None] | None) -> T:
        answer = asked.result() if asked is not None and asked.is_done else None
        found, own = (None, None) if answer is None else answer
        find = question.find
        if not isinstance(find, Lookup):
            documents = self._one(find, found, stored=question.stored)
        else:
            base = self._known_of(find) if found is None else found
            over = self._own(find) if own is None else own
            documents = list(with_own_writes(base, over, find).values())
        return question.make(documents, found is not None)

    def _one(self, find: str | Identity, found: Found | None, *, stored: bool) -> list[Document]:
        path = find if isinstance(find, str) else find.state_path
        known = self._known.get(path) if found is None else found.get(path)
        if isinstance(find, Identity) and not stored:
            data = self._outbox.snapshot(path)
            if data is not None and is_later(own := state_document(data), known):
                return [own]
        return [known] if known is not None else []

    def _own(self, find: Lookup, *, waiting: bool = False) -> Found:
        collection = find.shapes[0].collection
        if collection == STATES:
            written = self._outbox.newest(snapshots=True, waiting=waiting)
            return {path: state_document(data) for path, data in written.items()}
        if collection == EVENTS:
            written = self._outbox.newest(snapshots=False, waiting=waiting)
            return {path: event_document(data) for path, data in written.items()}
        return {}

    def _known_of(self, find: Lookup) -> Found:
        prefix = f"{find.shapes[0].collection}/"
        known = [(p, d) for p, d in self._known.copy().items() if p.startswith(prefix)]
        fitting = [(path, data) for path, data in known if matches_lookup(data, find)]
        return dict(in_order(fitting, find))
