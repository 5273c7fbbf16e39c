"""Telling a folder which of its messages were refused, once each.

What an agent says is checked before it is kept, so a refusal is rare: a release that is older than
its agents, a clock that is wrong, two writers at one place. Then the message waits in quarantine,
and its agent goes on as if nothing were. So each process watches for what waits there of its own
folder. What was told is noted in the outbox: the next process tells what has come since.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from firestate.agents.backends.document_watch import Watch
from firestate.errors import FieldProblem, FirestateError, InvalidMessageError, OutboxError
from firestate.forking import ForkSafe
from firestate.queries import KEPT_OF_WRITER, PARTS_OF_KEPT
from firestate.schema.ids import Identity
from firestate.schema.messages import EventMessage
from firestate.schema.quarantine_document import QuarantineDocument
from firestate.schema.serialization import from_document
from firestate.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from firestate.agents.backends.backend import Backend
    from firestate.agents.backends.document_watch import Change
    from firestate.agents.callbacks import Callbacks
    from firestate.outbox.file import Outbox
    from firestate.stores.protocol import Query, Store


_LOG = logging.getLogger("firestate.refused")
_MOST = 1_000
_CLOSE_SECONDS = 1.0

_Key = tuple[str, int]
"""Which message, after how many replays: refused again by one, it is told again."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A message of this folder that waits in quarantine: what is wrong with it, and whose it is.

    `document` is where its state or event would be stored, or '' where that cannot be told.
    """

    path: str
    topic: str
    document: str
    code: str
    problems: tuple[FieldProblem, ...]
    at: datetime

    def __str__(self) -> str:
        """Say it in one line."""
        what = self.document or f"a message of {self.topic}"
        return f"{what} was refused ({self.code}: {'; '.join(map(str, self.problems))})"


class Refusals(ForkSafe):
    """Watches what waits in quarantine of this folder; tells of each once."""

    def __init__(self, outbox: Outbox, backend: Backend, callbacks: Callbacks) -> None:
        """Watch nothing yet."""
        super().__init__()
        self._outbox = outbox
        self._backend = backend
        self._callbacks = callbacks
        self._worker = Worker("firestate-refusals")
        self._listeners: list[Callable[[_Key, Refused], None]] = []
        self._watch: Watch | None = None
        self._told_before: set[_Key] = set()
        self._waiting: dict[str, _Key] = {}
        self._told: dict[_Key, Refused] = {}

    def after_fork(self) -> None:
        """Watch for another name where the child has one; else go on, as its backend does."""
        if self._outbox.path is None and self._watch is not None:
            self._watch.close()
            self._watch = None
            self._waiting, self._told = {}, {}

    def begin(self) -> None:
        """Watch from now on; once more does no harm."""
        if self._watch is not None:
            return
        with suppress(OutboxError):  # closed: then nothing is saved either
            self._told_before = self._outbox.told()
            watch = Watch(self._query(), self._changed)
            self._backend.watch(watch)
            # Afterwards: an interruption in between leaves two, which tell no more than one.
            self._watch = watch

    def on_refused(self, listener: Callable[[Refused], None]) -> None:
        """Call `listener` with each, also with those that this process was told of before."""
        heard: set[_Key] = set()

        def tell(key: _Key, refused: Refused) -> None:
            # On one thread, one after the other: so what is told twice is heard once.
            if key not in heard:
                heard.add(key)
                listener(refused)

        self._listeners.append(tell)
        for key, refused in self._told.copy().items():
            self._callbacks.call(tell, key, refused)
        self.begin()

    @property
    def waiting(self) -> int:
        """How many wait, as far as is known."""
        return len(self._waiting)

    def is_any_new(self, store: Store | None = None) -> bool:
        """Whether one waits of which this process is the first to be told; by a look into `store`.

        Without a store, as far as is known.
        """
        waiting = set(self._waiting.copy().values())
        if store is not None:
            waiting = {_key(each.path, each.data) for each in store.query(self._query())}
        return bool(waiting - self._told_before)

    def close(self) -> None:
        """Tell what is known by now, and no more."""
        if self._watch is not None:
            self._watch.close()
        self._worker.close(_CLOSE_SECONDS)

    def _query(self) -> Query:
        return KEPT_OF_WRITER.query({"writer": self._outbox.writer, "waiting": True}, limit=_MOST)

    def _changed(self, change: Change) -> None:
        if change.data is None:
            self._waiting.pop(change.path, None)
            return
        key = _key(change.path, change.data)
        self._waiting[change.path] = key
        if key not in self._told_before and key not in self._told:
            data = change.data
            # Its bytes are read, which takes a moment: others are told on this thread.
            self._worker.submit(lambda: self._tell(key, change.path, data))

    def _tell(self, key: _Key, path: str, data: Mapping[str, Any]) -> None:
        if key in self._told:
            return
        document = from_document(QuarantineDocument, data)
        refused = Refused(
            path,
            document.topic,
            self._document(path),
            document.code,
            tuple(FieldProblem(each.field, each.reason) for each in document.errors),
            document.last_seen,
        )
        self._told[key] = refused
        _LOG.error("%s; it waits in %s: see `firestate quarantine show`", refused, path)
        for listener in list(self._listeners):
            self._callbacks.call(listener, key, refused)
        # Last: what a process was killed over is told once more, rather than never.
        self._callbacks.call(self._note, key)

    def _note(self, key: _Key) -> None:
        with suppress(OutboxError):  # then the next process tells it once more
            self._outbox.note_told(key)

    def _document(self, path: str) -> str:
        """Return where a refused message would have been stored; '' where nobody can tell."""
        try:
            found = list(self._backend.store().query(PARTS_OF_KEPT.query(under=path)))
            parts = sorted(found, key=lambda part: part.path)
            return document_in(b"".join(part.data["data"] for part in parts))
        except FirestateError:
            return ""


def document_in(data: bytes) -> str:
    """Return the path of the state or event that a message is about; '' where that is unclear."""
    try:
        message = from_json(data)
        if "event" in message:
            return EventMessage.model_validate({"event": message["event"]}).path
        fields = message["state"] if "state" in message else message["deleted"]
        return Identity.of(*(fields[name] for name in Identity._fields)).state_path
    except (ValueError, KeyError, TypeError, InvalidMessageError):
        return ""


def _key(path: str, data: Mapping[str, Any]) -> _Key:
    return path.rpartition("/")[2], data.get("replays", 0)
