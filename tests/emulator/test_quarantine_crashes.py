"""Keeping, replaying and dropping, where a process ends or another one comes in between."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from google.cloud import firestore

from firestate.audit.message_outcomes import MessageOutcomes
from firestate.errors import ConflictError
from firestate.ingest.refusal import quarantine_id
from firestate.operations.quarantined_messages import drop_quarantined, read_quarantined
from firestate.operations.republish_quarantined import republish_quarantined
from firestate.pipeline.dead_letter import keep_dead_letter
from firestate.pipeline.deliveries import Delivery
from firestate.stores.firestore import FirestoreStore
from firestate.stores.protocol import Query, Update
from tests.emulator.quarantine_fixtures import (
    BAD,
    BAD_ID,
    GOOD,
    GOOD_ID,
    LARGE,
    LARGE_ID,
    DirectPublisher,
    dead_letter_in,
    kept,
)
from tests.harness import NOW, Crash, CrashingStore, Pipeline, everything

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate.client.outgoing import Outgoing
    from firestate.stores.protocol import Store


@pytest.fixture
def fresh_store(firestore_host: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_host)
    return lambda: FirestoreStore(firestore.Client(project=f"demo-{uuid.uuid4().hex[:12]}"))


def no_part_without_document(store: Store) -> None:
    documents = {each.path for each in store.query(Query("quarantine"))}
    owners = {
        each.path.rpartition("/parts/")[0] for each in store.query(Query("parts", group=True))
    }
    assert owners == documents


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("message", [BAD, LARGE], ids=["small", "large"])
def test_any_crash_while_keeping(fresh_store: Any, message: Outgoing, *, after: bool) -> None:
    """The redelivery keeps it whole; at no moment is there a document without its bytes."""
    counting = CrashingStore(fresh_store())
    Pipeline(counting).send(message)
    own_id = quarantine_id(message.topic, message.data)
    for at in range(counting.calls):
        store = fresh_store()
        crashing = CrashingStore(store, at, after=after)
        delivery = Delivery(message.topic, message.data)
        with pytest.raises(Crash):
            keep_dead_letter(crashing, delivery, NOW)
        left = read_quarantined(store, own_id)  # raises where bytes are missing
        assert left is None or left.data == message.data
        keep_dead_letter(store, delivery, NOW)
        assert kept(store, own_id).data == message.data
        assert drop_quarantined(store, own_id)
        assert everything(store) == {}


@pytest.mark.usefixtures("own_turns")
def test_dropped_while_a_large_message_is_kept(store: FirestoreStore) -> None:
    """Two deliveries and a drop between the commits of one: it is made anew, whole."""
    other = Pipeline(store)

    class Dropping(CrashingStore):
        """Before the commit of the document, all is kept by another delivery, and dropped."""

        def commit(self, writes: Any) -> Any:
            if any(isinstance(write, Update) for write in writes) and not done:
                done.append(1)
                other.send(LARGE)
                assert drop_quarantined(store, LARGE_ID)
            return store.commit(writes)

    done: list[int] = []
    Pipeline(Dropping(store)).send(LARGE)
    assert done
    assert kept(store, LARGE_ID).data == LARGE.data


def replay_once(store: Any, crash: str = "") -> tuple[DirectPublisher, int]:
    """Replay until it does not crash; give what was published."""
    inner = getattr(store, "_store", store)
    publisher = DirectPublisher(Pipeline(inner), crash)
    crashes = 0
    while True:
        try:
            assert republish_quarantined(store, publisher, GOOD_ID, NOW)
        except Crash:
            crashes += 1
            # Never neither: a message that was not published has not been marked.
            assert publisher.sent or kept(inner, GOOD_ID).document.waiting
        else:
            return publisher, crashes


def test_any_crash_while_replaying(fresh_store: Any) -> None:
    """The next replay ends it: published at least once, with one effect, and marked."""
    undisturbed = CrashingStore(dead_letter_in(fresh_store()))
    replay_once(undisturbed)
    assert undisturbed.calls == 4
    points = [(at, after, "") for at in range(4) for after in (False, True)]
    for at, after, crash in [*points, (-1, False, "publish"), (-1, False, "flush")]:
        store = dead_letter_in(fresh_store())
        publisher, crashes = replay_once(CrashingStore(store, at, after=after), crash)
        assert crashes == 1, (at, after, crash)
        assert {message.data for message in publisher.sent} == {GOOD.data}
        document = kept(store, GOOD_ID).document
        assert not document.waiting, (at, after, crash)
        assert document.deliveries == 1
        pipeline = publisher.pipeline
        pipeline.settle()
        pipeline.fold()
        assert pipeline.audit().findings == []
        stored = store.read("system_state/global_config")
        assert stored is not None
        assert stored.data["total_agents_spawned"] == 1
        assert +MessageOutcomes(store).count([GOOD]) == {"stored": 1}


def test_any_crash_while_dropping(fresh_store: Any) -> None:
    """All of it is there, or none; the next try ends it."""
    counting = CrashingStore(dead_letter_in(fresh_store()))
    assert drop_quarantined(counting, GOOD_ID)
    assert (counting.calls, len(counting.commits)) == (3, 1)
    for at in range(3):
        for after in (False, True):
            store = dead_letter_in(fresh_store())
            with pytest.raises(Crash):
                drop_quarantined(CrashingStore(store, at, after=after), GOOD_ID)
            no_part_without_document(store)
            assert drop_quarantined(store, GOOD_ID) is not (at == 2 and after)
            assert everything(store) == {}


def test_a_lost_race_is_run_again(fresh_store: Any) -> None:
    """A commit that is refused says nothing: keeping, marking and dropping are decided anew."""
    store = fresh_store()
    delivery = Delivery(GOOD.topic, GOOD.data)
    keep_dead_letter(CrashingStore(store, 2, fault=ConflictError), delivery, NOW)
    assert replay_once(CrashingStore(store, 3, fault=ConflictError))[1] == 0
    assert kept(store, GOOD_ID).document.replays == 1
    assert drop_quarantined(CrashingStore(store, 2, fault=ConflictError), GOOD_ID)
    assert read_quarantined(store, GOOD_ID) is None


@pytest.mark.usefixtures("own_turns")
def test_refused_again_while_it_is_dropped(store: FirestoreStore) -> None:
    """A redelivery that comes first is dropped with it; one that comes after makes it anew."""
    pipeline = Pipeline(store)
    pipeline.send(BAD)

    class Refusing(CrashingStore):
        """Before the first commit the same message is refused again."""

        def commit(self, writes: Any) -> Any:
            if not done:
                done.append(1)
                pipeline.send(BAD)
            return store.commit(writes)

    done: list[int] = []
    assert drop_quarantined(Refusing(store), BAD_ID)
    assert everything(store) == {}
    pipeline.send(BAD)
    assert kept(store).document.deliveries == 1
    assert not drop_quarantined(store, "0" * 40)


def test_dropped_while_it_is_replayed(store: FirestoreStore) -> None:
    """There is nothing left to mark."""

    class Dropping(DirectPublisher):
        def flush(self) -> int:
            drop_quarantined(store, GOOD_ID)
            return super().flush()

    dead_letter_in(store)
    assert republish_quarantined(store, Dropping(Pipeline(store)), GOOD_ID, NOW)
    assert read_quarantined(store, GOOD_ID) is None
    assert not republish_quarantined(store, DirectPublisher(Pipeline(store)), GOOD_ID, NOW)
