"""States at the path of an earlier release: read, written, moved, wherever a process ends."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from firestate.agents.manager import StateManager
from firestate.audit.full import FullAudit
from firestate.audit.repair import audit_and_repair
from firestate.client.outgoing import outgoing
from firestate.ingest.outcomes import Outcome
from firestate.operations.rederive import rederive
from firestate.pipeline.deliveries import Delivery
from firestate.pipeline.ingest_state import ingest_state
from firestate.pipeline.roll_up import RollUp
from firestate.pipeline.state_moves import move_state
from firestate.queries import ALL_STATES, PARTS_OF_OLD
from firestate.schema.ids import Identity
from firestate.stored_states import read_state
from firestate.stores.protocol import Create, Remove, Update
from firestate.stores.sqlite import SqliteStore
from tests.harness import (
    NOW,
    Crash,
    CrashingStore,
    Pipeline,
    everything,
    state_message,
    task,
    tombstone_message,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate.stores.protocol import Store

RED = Identity("QA", "red_team", "lead_7")
"""Its id is QA_red_team_lead_7~8, and was QA_red_team_lead_7."""
SHORT = Identity("QA", "red", "team_lead_7")
"""Was stored under the same id: QA_red_team_lead_7~3 today."""
PLAIN = Identity("QA", "red_team_lead", "7")
"""Whose id is QA_red_team_lead_7 today."""
ODD = Identity("QA", "red_team", "lead_7~8")
"""Was stored under the id that is RED's today."""


def of(who: Identity, revision: int, epoch: int = 1, **changes: Any) -> dict[str, Any]:
    return state_message(revision, epoch, **who._asdict(), **changes)


def pipeline_with(
    *states: dict[str, Any], former: tuple[Identity, ...] = (RED,), store: Store | None = None
) -> Pipeline:
    """Return a store that holds states, some of them where an earlier release has put them."""
    pipeline = Pipeline(store or SqliteStore(None, ()))
    for each in states:
        pipeline.send(each)
    pipeline.settle()
    pipeline.fold()
    for who in former:
        put_back(pipeline.store, who)
    return pipeline


def put_back(store: Store, who: Identity) -> None:
    """Put a state where an earlier release would have it."""
    stored = store.read(who.state_path)
    assert stored is not None
    former = Create(who.former_state_path, stored.data)
    store.commit([former, Remove(stored.path, stored.token)])


def paths(store: Store) -> list[str]:
    return sorted(each.id for each in store.query(ALL_STATES.query()))


def findings(pipeline: Pipeline) -> list[Any]:
    pipeline.fold()
    return pipeline.audit().findings


def test_two_agents_whose_ids_join_alike_are_two() -> None:
    """Each has its document, its row and its reads."""
    pipeline = pipeline_with(of(RED, 1), of(SHORT, 1), of(PLAIN, 1), of(ODD, 1), former=())
    assert len(paths(pipeline.store)) == 4
    for who in (RED, SHORT, PLAIN, ODD):
        state = read_state(pipeline.store, who).state
        assert state is not None
        assert state.path == who.state_path
    assert findings(pipeline) == []


def test_a_state_of_the_former_form_is_written_where_it_is() -> None:
    """A message finds it by its identity; later states replace it, earlier ones do not."""
    pipeline = pipeline_with(of(RED, 5))
    assert pipeline.send(of(RED, 5)).outcome is Outcome.DUPLICATE
    assert pipeline.send(of(RED, 4)).outcome is Outcome.SUPERSEDED
    assert pipeline.send(of(RED, 6, status="busy")).outcome is Outcome.STORED
    pipeline.settle()
    assert paths(pipeline.store) == ["QA_red_team_lead_7"]
    assert findings(pipeline) == []


@pytest.mark.parametrize("newcomer", [SHORT, PLAIN])
def test_another_agent_finds_room(newcomer: Identity) -> None:
    """Whose id was the same is stored beside it; whose it is today has the other moved."""
    pipeline = pipeline_with(of(RED, 5))
    assert pipeline.send(of(newcomer, 1)).outcome is Outcome.STORED
    pipeline.settle()
    assert read_state(pipeline.store, newcomer).state is not None
    red = read_state(pipeline.store, RED).state
    assert red is not None
    assert red.data["revision"] == 5
    assert findings(pipeline) == []


def test_a_document_that_no_agent_wrote_is_not_moved() -> None:
    """Whose path it takes is refused with the reason, and kept."""
    store = SqliteStore(None, ())
    store.commit([Create(PLAIN.state_path, {"hand": "made"})])
    pipeline = Pipeline(store)
    report = pipeline.send(of(PLAIN, 1))
    assert (report.outcome, report.detail) == (Outcome.QUARANTINED, "identity")
    assert move_state(store, PLAIN.state_path).outcome is Outcome.IGNORED


def test_states_move_in_a_row() -> None:
    """Where one is in the way of the other, that one moves first."""
    pipeline = pipeline_with(of(RED, 5), of(ODD, 6), former=(RED, ODD))
    assert paths(pipeline.store) == ["QA_red_team_lead_7", "QA_red_team_lead_7~8"]
    outcomes = [each.outcome for each in rederive(pipeline.store, clock=lambda: NOW)]
    assert outcomes.count(Outcome.MOVED) == 2
    assert paths(pipeline.store) == ["QA_red_team_lead_7~8", "QA_red_team_lead_7~8~8"]
    for who, revision in ((RED, 5), (ODD, 6)):
        state = read_state(pipeline.store, who).state
        assert state is not None
        assert state.data["revision"] == revision
    assert findings(pipeline) == []


TWO: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (of(RED, 5), of(RED, 7, status="busy")),
    (of(RED, 7, status="busy"), of(RED, 5)),
    (of(RED, 7), tombstone_message(9, **RED._asdict())),
    (tombstone_message(9, **RED._asdict()), of(RED, 7)),
    (of(RED, 5), of(RED, 5)),
]
"""What each of two releases beside each other has stored of one session, at its own path."""


def both(former: dict[str, Any], own: dict[str, Any]) -> Pipeline:
    """Return a store as two releases leave it that run beside each other."""
    pipeline = pipeline_with(former)
    older = pipeline.store.read(RED.former_state_path)
    assert older is not None
    pipeline.store.commit([Remove(older.path, older.token)])
    pipeline.send(own)
    pipeline.store.commit([Create(older.path, older.data)])
    pipeline.settle()
    return pipeline


@pytest.mark.parametrize(("former", "own"), TWO)
def test_of_two_documents_the_later_is_the_state(
    former: dict[str, Any], own: dict[str, Any]
) -> None:
    """Reads find it, the audit counts it alone, and the move leaves it alone."""
    latest = max(former["revision"], own["revision"])
    pipeline = both(former, own)
    state = read_state(pipeline.store, RED).state
    assert state is not None
    assert state.data["revision"] == latest
    report = FullAudit(pipeline.store, timedelta(0)).run()
    assert [each for each in report.findings if each.kind != "global"] == []
    list(rederive(pipeline.store, clock=lambda: NOW))
    assert paths(pipeline.store) == ["QA_red_team_lead_7~8"]
    moved = read_state(pipeline.store, RED).state
    assert moved is not None
    assert moved.data["revision"] == latest
    assert findings(pipeline) == []


@pytest.mark.parametrize(("former", "own"), TWO)
def test_the_next_message_replaces_the_later_of_two_documents(
    former: dict[str, Any], own: dict[str, Any]
) -> None:
    """What is earlier than that changes nothing, at either path."""
    pipeline = both(former, own)
    latest = max(former["revision"], own["revision"])
    assert pipeline.send(of(RED, latest - 1)).outcome is Outcome.SUPERSEDED
    assert pipeline.send(of(RED, 20, status="busy")).outcome is Outcome.STORED
    pipeline.settle()
    state = read_state(pipeline.store, RED).state
    assert state is not None
    assert state.data["revision"] == 20
    list(rederive(pipeline.store, clock=lambda: NOW))
    assert paths(pipeline.store) == ["QA_red_team_lead_7~8"]
    assert findings(pipeline) == []


@pytest.mark.parametrize(("former", "own"), TWO)
def test_an_agents_look_ups_find_the_later_of_two_documents(
    former: dict[str, Any], own: dict[str, Any]
) -> None:
    """Once, and only if that is what was asked for: nobody deletes a session as long ended."""
    latest = max(former, own, key=lambda each: each["revision"])
    status = latest.get("state", {}).get("status")
    with StateManager.in_memory() as manager:
        backend: Any = manager._runtime.backend
        pipeline = both(former, own)
        for each in pipeline.store.query(ALL_STATES.query()):
            backend.engine.store.commit([Create(each.path, each.data)])
        found = manager.active(session_id=RED.session_id).value
        assert [each.status for each in found] == ([status] if status else [])
        newest = manager.load(RED.agent_type, RED.agent_id).value
        assert (newest and newest.status) == status


def with_parts(store: Store, count: int, size: int) -> None:
    for number in range(count):
        path = f"{RED.former_state_path}/legacy/abc-{number:04d}"
        store.commit([Create(path, {"data": bytes([number]) * size})])


@pytest.mark.parametrize("parts", [0, 1, 5])
def test_a_crash_at_any_call_of_a_move_loses_nothing(parts: int) -> None:
    """Called again it ends the same, with each part below the state, once."""

    def prepared() -> Pipeline:
        pipeline = pipeline_with(of(RED, 5, task_history=[task(1)]), of(SHORT, 2))
        with_parts(pipeline.store, parts, 1_000)
        return pipeline

    def run(store: Store) -> None:
        list(rederive(store, clock=lambda: NOW))

    undisturbed = CrashingStore(prepared().store)
    run(undisturbed)
    calls = undisturbed.calls
    expected = everything(undisturbed)
    names = [f"abc-{number:04d}" for number in range(parts)]
    for after in (False, True):
        for at in range(calls):
            store = CrashingStore(prepared().store, at, after=after)
            with pytest.raises(Crash):
                run(store)
            run(store)
            assert everything(store) == expected, (at, after)
            below = {
                who: sorted(p.id for p in store.query(PARTS_OF_OLD.query(under=who)))
                for who in (RED.state_path, RED.former_state_path)
            }
            assert below == {RED.state_path: names, RED.former_state_path: []}, (at, after)


class Meanwhile:
    """A store in which somebody else does something before one of the calls."""

    def __init__(self, store: Store, at: int, act: Callable[[], object]) -> None:
        self._store, self._at, self._act, self.calls = store, at, act, 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            number, self.calls = self.calls, self.calls + 1
            if number == self._at:
                self._act()
            return method(*args, **kwargs)

        return call


def test_a_message_and_a_move_meet_at_any_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever is first at each step, the later state is there once, and counted once."""
    # Threads of one process take turns. These are two processes, on the one thread of the test.
    monkeypatch.setattr("firestate.pipeline.retry._TURNS", [threading.RLock() for _ in range(64)])
    for at in range(12):
        pipeline = pipeline_with(of(RED, 5))
        store = pipeline.store

        def arrives(pipeline: Pipeline = pipeline) -> None:
            pipeline.send(of(RED, 6, status="busy"))

        list(rederive(cast("Store", Meanwhile(store, at, arrives)), clock=lambda: NOW))
        pipeline.send(of(RED, 6, status="busy"))
        pipeline.settle()
        list(rederive(store, clock=lambda: NOW))
        assert paths(store) == ["QA_red_team_lead_7~8"], at
        state = read_state(store, RED).state
        assert state is not None
        assert (state.data["revision"], state.data["status"]) == (6, "busy")
        assert findings(pipeline) == [], at

    for at in range(6):
        pipeline = pipeline_with(of(RED, 5))
        store = pipeline.store

        def moves(store: Store = store) -> None:
            move_state(store, RED.former_state_path)

        sent = outgoing(of(RED, 6, status="busy"))
        delivery = Delivery(sent.topic, sent.data, {})
        report = ingest_state(cast("Store", Meanwhile(store, at, moves)), delivery, NOW)
        assert report.outcome is Outcome.STORED, at
        state = read_state(store, RED).state
        assert state is not None
        assert state.data["revision"] == 6
        assert len(paths(store)) == 1, at


def test_messages_refused_for_another_document_are_released_once() -> None:
    """`rederive` ingests them in any order, whatever their age, and marks them."""
    pipeline = pipeline_with(of(RED, 5))
    store = pipeline.store
    store.commit([Create("agent_states/QA_red_team_lead_7~3", {"hand": "made"})])
    for revision in (2, 1, 3):
        report = pipeline.send(of(SHORT, revision))
        assert report.detail == "identity"
    blocker = store.read("agent_states/QA_red_team_lead_7~3")
    assert blocker is not None
    store.commit([Remove(blocker.path, blocker.token)])
    later = NOW + timedelta(days=40)
    outcomes = [each.outcome for each in rederive(store, clock=lambda: later)]
    assert outcomes.count(Outcome.RELEASED) == 3
    state = read_state(store, SHORT).state
    assert state is not None
    assert state.data["revision"] == 3
    again = [each.outcome for each in rederive(store, clock=lambda: later)]
    assert Outcome.RELEASED not in again


EDITS: list[tuple[dict[str, Any], list[str], set[str]]] = [
    ({"current_task": "by hand"}, [], {"current_task"}),
    ({"memory_context": {"m": 1}}, [], {"memory_context"}),
    ({"agent_config": {"model": 2}}, ["tools_enabled"], {"agent_config", "tools_enabled"}),
    ({"task_status": "failed"}, [], {"task_status"}),
]
"""Fields set, fields removed, and those that are found."""


@pytest.mark.parametrize(("edit", "removed", "found"), EDITS)
def test_a_field_edited_by_hand_is_drift_until_the_agent_writes_it_again(
    edit: dict[str, Any], removed: list[str], found: set[str]
) -> None:
    """The audit names it; after the repair the next snapshot writes it, whatever is in it."""
    fields: dict[str, Any] = {"current_task": "real", "agent_config": {"model": 1}}
    pipeline = pipeline_with(of(RED, 5, **fields), former=())
    store = pipeline.store
    agents = read_state(store, RED).state
    assert agents is not None
    store.commit([Update(agents.path, agents.token, edit, removed)])
    edited = [each for each in pipeline.audit().findings if each.kind == "state"]
    assert {each.field for each in edited} == found
    audit_and_repair(store, RollUp(store, interval_seconds=0), timedelta(0))
    assert pipeline.audit().findings == []
    # The same message again is a duplicate still; the next one puts everything right.
    assert pipeline.send(of(RED, 5, **fields)).outcome is Outcome.DUPLICATE
    pipeline.send(of(RED, 6, **fields))
    pipeline.settle()
    after = read_state(store, RED).state
    assert after is not None
    for name in ("current_task", "agent_config", "tools_enabled", "memory_context", "task_status"):
        assert after.data.get(name) == agents.data.get(name)
    assert findings(pipeline) == []


def test_an_id_edited_by_hand_is_put_back() -> None:
    """The path tells whose the document is; else its agent's next message would be refused."""
    pipeline = pipeline_with(of(RED, 5), former=())
    store = pipeline.store
    stored = store.read(RED.state_path)
    assert stored is not None
    store.commit([Update(stored.path, stored.token, {"agent_id": "blue"})])
    edited = {each.field for each in pipeline.audit().findings if each.kind == "state"}
    assert edited == {"agent_id", "identity"}
    audit_and_repair(store, RollUp(store, interval_seconds=0), timedelta(0))
    assert pipeline.audit().findings == []
    assert pipeline.send(of(RED, 6, status="busy")).outcome is Outcome.STORED
    pipeline.settle()
    assert findings(pipeline) == []


DAMAGE: list[dict[str, Any]] = [
    {"task_history": "none"},
    {"memory_context": 5},
    {"agent_type": 5},
    {"digests": None},
    {"contribution": "x"},
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_stops_nothing(damage: dict[str, Any]) -> None:
    """The audit names it and goes on; so does `rederive`, and the repair of what else is off."""
    pipeline = pipeline_with(of(RED, 5), of(SHORT, 1), former=())
    store = pipeline.store
    stored = store.read(RED.state_path)
    assert stored is not None
    store.commit([Update(stored.path, stored.token, damage)])
    found = pipeline.audit().findings
    assert {each.path for each in found if each.kind in ("state", "row")} == {RED.state_path}
    outcomes = [each.outcome for each in rederive(store, clock=lambda: NOW)]
    assert Outcome.UNCHANGED in outcomes
    roll_up = RollUp(store, interval_seconds=0)
    audit_and_repair(store, roll_up, timedelta(0))
    again = audit_and_repair(store, roll_up, timedelta(0))
    # What stays until its agent writes it is not said to be repaired.
    assert again.drift == 0 or again.repaired < again.drift


def test_a_damaged_message_in_quarantine_stops_nothing() -> None:
    """`rederive` says so, and releases the others."""
    pipeline = pipeline_with(of(RED, 5))
    store = pipeline.store
    store.commit([Create(SHORT.state_path, {"hand": "made"})])
    kept = [pipeline.send(of(SHORT, revision)).document for revision in (1, 2, 3)]
    blocker, part = store.read(SHORT.state_path), store.read(f"{kept[0]}/parts/0000")
    assert blocker is not None
    assert part is not None
    store.commit([Remove(blocker.path, blocker.token)])
    store.commit([Update(part.path, part.token, {"data": b"other"})])
    reports = list(rederive(store, clock=lambda: NOW))
    assert [each.outcome for each in reports].count(Outcome.RELEASED) == 2
    assert [each.document for each in reports if each.outcome is Outcome.IGNORED] == [kept[0]]


def test_ids_with_any_character_are_found() -> None:
    """Also with a NUL, at which SQLite's own functions cut a text."""
    who = Identity("QA", "a\0b_c", "d_e\0")
    pipeline = pipeline_with(of(who, 1), former=())
    assert pipeline.send(of(who, 2)).outcome is Outcome.STORED
    put_back(pipeline.store, who)
    assert pipeline.send(of(who, 3)).outcome is Outcome.STORED
    list(rederive(pipeline.store, clock=lambda: NOW))
    assert paths(pipeline.store) == [who.state_id]
    assert findings(pipeline) == []
