"""What each kind of message costs in billed operations, beside what it may cost.

Measured by the counter at the gRPC layer, one message at a time, with as many agents stored as
asked for. `BUDGETS` is the table that the design promises.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from google.cloud import firestore

from firestate.counters.contribution import contribution_of
from firestate.counters.ledger import difference, new_row, shard_of
from firestate.counters.sums import added
from firestate.derive.memory import memory_document
from firestate.derive.memory_events import EventsPart
from firestate.derive.memory_rows import fold_rows
from firestate.ingest.states import decide_state
from firestate.pipeline.roll_up import RollUp
from firestate.pipeline.sweep import sweep
from firestate.schema.ids import shard_path
from firestate.schema.messages import StateMessage
from firestate.stores.firestore import FirestoreStore
from firestate.stores.protocol import Add, Create
from tests.harness import Pipeline, event_message, state_message, task
from tests.load.grpc_counter import Billed, GrpcCounter

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate.counters.sums import Counts
    from firestate.stores.protocol import Write

BUDGETS = {
    "heartbeat: ingest": Billed(reads=1, writes=1),
    "heartbeat: derive": Billed(reads=1),
    "changed state: ingest": Billed(reads=1, writes=1),
    "changed state: derive": Billed(reads=2, writes=3),
    "heartbeat, marked id: ingest": Billed(reads=2, writes=1),
    "heartbeat, marked id: derive": Billed(reads=1),
    "changed state, marked id: ingest": Billed(reads=2, writes=1),
    "changed state, marked id: derive": Billed(reads=2, writes=3),
    "late state, marked id": Billed(reads=2),
    "event: ingest": Billed(writes=1),
    "event: derive": Billed(reads=1, writes=3),
    "duplicate state": Billed(reads=1),
    "late state": Billed(reads=1),
    "duplicate event": Billed(reads=1, refused=1),
    "same trigger again: state": Billed(reads=1),
    "same trigger again: event": Billed(reads=1),
    "roll-up": Billed(reads=9, writes=1),
    "merged wake": Billed(),
}
"""Billed operations by kind. The event's trigger that comes again is allowed one read, where the
design says one refused write: its memory tells that it is counted, before anything is refused. A
state with a marked id (schema/ids) is looked for at the path of earlier releases as well."""

_NOW = datetime.now(UTC)
_SESSIONS = 1_000
_BATCH = 150


@dataclass(frozen=True, slots=True)
class Cost:
    """What one kind of message cost, beside its budget."""

    kind: str
    billed: Billed

    @property
    def within(self) -> bool:
        """Whether no operation is over budget; round trips are not billed."""
        budget = BUDGETS[self.kind]
        names = ("reads", "writes", "deletes", "refused")
        return all(getattr(self.billed, name) <= getattr(budget, name) for name in names)


def costs(upstream: str, project: str, agents: int) -> list[Cost]:
    """Store `agents` agents, then measure each kind of message once."""
    fill(FirestoreStore(firestore.Client(project=project)), agents)
    with GrpcCounter(upstream) as counter:
        client = firestore.Client(project=project)
        # The client reads its emulator from the environment; the counter is another one.
        client._emulator_host = counter.address
        pipeline = Pipeline(FirestoreStore(client))
        measured = [Cost(kind, billed) for kind, billed in _measured(pipeline, counter).items()]
        client.close()
    return measured


def _measured(pipeline: Pipeline, counter: GrpcCounter) -> dict[str, Billed]:
    results: dict[str, Billed] = {}

    def measure(kind: str, work: Callable[[], object]) -> None:
        before = counter.snapshot()
        work()
        results[kind] = counter.snapshot() - before

    def ingest_and_derive(kind: str, message: dict[str, object]) -> None:
        # `Pipeline.send` reads the document once more to make its trigger: not the function's cost.
        measure(f"{kind}: ingest", lambda: pipeline.send(message))
        measured = results[f"{kind}: ingest"]
        results[f"{kind}: ingest"] = measured - Billed(reads=1, round_trips=1)
        measure(f"{kind}: derive", lambda: pipeline.trigger(pipeline.triggers[-1]))

    pipeline.send(state_message(1))
    pipeline.settle()
    pipeline.send(event_message("first"))
    pipeline.settle()
    ingest_and_derive("changed state", state_message(2, status="busy", task_history=[task(1)]))
    ingest_and_derive("heartbeat", state_message(3, status="busy", task_history=[task(1)]))
    measure("same trigger again: state", lambda: pipeline.trigger(pipeline.triggers[-1]))
    measure(
        "duplicate state",
        lambda: pipeline.send(state_message(3, status="busy", task_history=[task(1)])),
    )
    measure("late state", lambda: pipeline.send(state_message(1)))
    marked: dict[str, Any] = {"agent_id": "red_team", "session_id": "lead_7"}
    pipeline.send(state_message(1, **marked))
    pipeline.settle()
    busy: dict[str, Any] = marked | {"status": "busy", "task_history": [task(1)]}
    ingest_and_derive("changed state, marked id", state_message(2, **busy))
    ingest_and_derive("heartbeat, marked id", state_message(3, **busy))
    measure("late state, marked id", lambda: pipeline.send(state_message(1, **marked)))
    ingest_and_derive("event", event_message("e1"))
    created = pipeline.triggers[-1]
    measure("same trigger again: event", lambda: pipeline.trigger(created))
    measure("duplicate event", lambda: pipeline.send(event_message("e1")))
    results["duplicate event"] -= Billed(reads=1, round_trips=1)
    for number in range(40):  # a counter in every shard
        pipeline.store.commit([Add(shard_path(number % 8), {"tasks": {"completed": 0}})])
    roll_up = RollUp(pipeline.store)
    roll_up.fold()
    pipeline.send(event_message("e2"))
    pipeline.settle()
    changed_at = pipeline.store.commit([Add(shard_path(0), {"tasks": {"completed": 0}})])
    measure("roll-up", lambda: roll_up.wake(changed_at))
    measure("merged wake", lambda: roll_up.wake(changed_at))
    return results


def idle_costs(upstream: str, project: str, agents: int) -> dict[str, Billed]:
    """Store `agents` agents, then measure a sweep without and with its audit, in a new process.

    That is what the schedule costs where nobody publishes: no trigger follows from it.
    """
    fill(FirestoreStore(firestore.Client(project=project)), agents)
    measured = {}
    with GrpcCounter(upstream) as counter:
        client = firestore.Client(project=project)
        client._emulator_host = counter.address
        store = FirestoreStore(client)
        for name, minute in {"sweep": 30, "sweep with audit": 0}.items():
            before = counter.snapshot()
            sweep(store, RollUp(store), _NOW.replace(minute=minute))
            measured[name] = counter.snapshot() - before
        client.close()
    return measured


def fill(store: FirestoreStore, agents: int) -> None:
    """Store so many agents, each with its row, its memory and its share of the counters."""
    shards: dict[int, Counts] = {}
    writes: list[Write] = []
    for number in range(agents):
        body = state_message(
            1,
            agent_id=f"agent-{number}",
            session_id=f"session-{number % _SESSIONS}",
            status="active",
            task_history=[task(n) for n in range(5)],
            memory_context={f"m{n}": {"type": "fact", "text": "x" * 100} for n in range(5)},
        )
        message = StateMessage.model_validate(body)
        creation = decide_state(None, message, _NOW).write
        assert isinstance(creation, Create)
        contribution = contribution_of(creation.data)
        identity = message.identity
        row = new_row(None, identity, creation.data["counted_version"], _NOW, contribution)
        memory = memory_document(
            identity.agent_type, identity.agent_id, fold_rows([row]), EventsPart()
        )
        writes += [
            creation,
            Create(identity.row_path, row),
            Create(identity.memory_path, memory),
        ]
        shard = shard_of(identity.session_id)
        shards[shard] = added(shards.get(shard, {}), difference(identity, None, row))
    for batch in _batched(writes, _BATCH):
        store.commit(batch)
    store.commit([Add(shard_path(shard), counts) for shard, counts in shards.items()])


def _batched(writes: list[Write], size: int) -> list[list[Write]]:
    return [writes[start : start + size] for start in range(0, len(writes), size)]
