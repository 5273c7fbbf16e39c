"""The pipeline in one process, on a store that can crash at any call.

Deliveries and triggers are called as the deployed functions call them. A trigger brings the
document as it was after the write that fired it; one whose function raises is called again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from firestate.audit.full import FullAudit
from firestate.client.outgoing import Outgoing, outgoing
from firestate.pipeline.deliveries import Delivery, StepReport
from firestate.pipeline.derive_event import derive_event
from firestate.pipeline.derive_state import derive_state
from firestate.pipeline.ingest_event import ingest_event
from firestate.pipeline.ingest_state import ingest_state
from firestate.pipeline.roll_up import RollUp
from firestate.schema.ids import EVENTS, STATES
from firestate.schema.messages import STATE_TOPIC
from firestate.schema.values import time_text
from firestate.stores.protocol import Query, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from firestate.audit.findings import AuditReport
    from firestate.stores.protocol import Store, Write

NOW = datetime.now(UTC).replace(microsecond=0)


class Crash(BaseException):
    """The process ended here."""


class CrashingStore:
    """Passes calls on, and crashes before or after the one with the given number.

    Or, with another `fault`, raises that: once, and nothing was done.
    """

    def __init__(
        self,
        store: Store,
        at: int = -1,
        *,
        after: bool = False,
        fault: type[BaseException] = Crash,
    ) -> None:
        self._store = store
        self._at = at
        self._after = after
        self._fault = fault
        self.calls = 0
        self.commits: list[int] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            number, self.calls = self.calls, self.calls + 1
            if name == "commit":
                self.commits.append(number)
            if number == self._at and not self._after:
                raise self._fault
            try:
                return method(*args, **kwargs)
            finally:
                if number == self._at:  # also where the store itself has raised
                    raise Crash

        return call


@dataclass
class Pipeline:
    """Ingests messages and keeps the triggers that their writes fire, for later or never."""

    store: Store
    triggers: list[Stored] = field(default_factory=list)
    crashes: int = 0

    def send(self, message: Outgoing | dict[str, Any], now: datetime = NOW) -> StepReport:
        """Deliver a message until its function does not crash; note the triggers of its writes."""
        sent = outgoing(message) if isinstance(message, dict) else message
        delivery = Delivery(sent.topic, sent.data, sent.attributes)
        ingest = ingest_state if sent.topic == STATE_TOPIC else ingest_event
        watched = _Watching(self.store, self.triggers)
        return self._until_done(lambda: ingest(watched, delivery, now))

    def trigger(self, stored: Stored) -> StepReport:
        """Call the derive function for a write until it does not crash."""
        derive = derive_state if stored.path.startswith(STATES) else derive_event
        return self._until_done(lambda: derive(self.store, stored))

    def settle(self) -> None:
        """Call all the triggers noted so far."""
        while self.triggers:
            self.trigger(self.triggers.pop(0))

    def fold(self) -> StepReport:
        """Roll up, in a process of its own."""
        return self._until_done(lambda: RollUp(self.store, interval_seconds=0).fold())

    def audit(self) -> AuditReport:
        """Audit without any grace."""
        return FullAudit(self.store, timedelta(0)).run()

    def _until_done(self, work: Callable[[], StepReport]) -> StepReport:
        while True:
            try:
                return work()
            except Crash:
                self.crashes += 1


class _Watching:
    """Notes the documents of each commit that are of a collection with a trigger."""

    def __init__(self, store: Store, triggers: list[Stored]) -> None:
        self._store = store
        self._triggers = triggers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, writes: Sequence[Write]) -> datetime:
        try:
            return self._store.commit(writes)
        finally:
            # Also after a crash: if the write was done, its trigger fires.
            inner = getattr(self._store, "_store", self._store)
            for write in writes:
                if write.path.split("/")[0] in (STATES, EVENTS):
                    stored = inner.read(write.path)
                    if stored is not None:
                        self._triggers.append(stored)


def state_message(revision: int, epoch: int = 1, **changes: Any) -> dict[str, Any]:
    """Give a message with a whole state; `changes` are of the state's fields."""
    state = {
        "agent_id": "a_1",
        "agent_type": "Developer",
        "session_id": "s1",
        "status": "idle",
        "created_at": time_text(NOW),
        "last_updated": time_text(NOW + timedelta(seconds=revision)),
        "last_active": time_text(NOW + timedelta(seconds=revision)),
        "memory_context": {},
        "task_history": [],
        "performance_metrics": {},
        "agent_config": {},
        "tools_enabled": [],
    } | changes
    return {"epoch": epoch, "revision": revision, "writer": "w", "state": state}


def tombstone_message(revision: int, epoch: int = 1, **changes: Any) -> dict[str, Any]:
    """Give a message that deletes the state."""
    deleted = {
        "agent_id": "a_1",
        "agent_type": "Developer",
        "session_id": "s1",
        "deleted_at": time_text(NOW + timedelta(seconds=revision)),
    } | changes
    return {"epoch": epoch, "revision": revision, "writer": "w", "deleted": deleted}


def event_message(event_id: str, kind: str = "handoff", **changes: Any) -> dict[str, Any]:
    """Give a message with a coordination event."""
    event = {
        "event_id": event_id,
        "event_type": kind,
        "timestamp": time_text(NOW),
        "source_agent_id": "a_1",
        "source_agent_type": "Developer",
        "target_agent_id": "q",
        "target_agent_type": "QA",
        "context": {},
        "task_context": {},
        "success": True,
    } | changes
    return {"event": event}


def task(number: int, status: str = "completed", **changes: Any) -> dict[str, Any]:
    """Give an entry of a task history."""
    return {
        "task_id": f"t{number}",
        "kind": "code",
        "tool": "editor",
        "status": status,
        "duration_seconds": 1.5,
        "ended_at": time_text(NOW + timedelta(seconds=number)),
    } | changes


def everything(store: Store) -> dict[str, dict[str, Any]]:
    """Give what is stored, without times of the server and of folding."""
    found = {}
    for collection in (
        "agent_states",
        "coordination",
        "agent_memory",
        "system_state",
        "quarantine",
    ):
        for each in store.query(Query(collection)):
            found[each.path] = each.data
    for group in ("sessions", "shards", "parts"):
        for each in store.query(Query(group, group=True)):
            found[each.path] = each.data
    return {path: json.loads(json.dumps(_plain(data))) for path, data in found.items()}


_OF_THE_SERVER = ("folded_at", "last_updated", "swept_at", "expire_at", "deliveries", "changes")
"""Also how often a message came, and how often a memory was written: a retry may raise both."""


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        stamped = {"agents", "at"} == value.keys()
        return {
            key: _plain(item)
            for key, item in value.items()
            if key not in _OF_THE_SERVER and not (stamped and key == "at")
        }
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, datetime) else value
