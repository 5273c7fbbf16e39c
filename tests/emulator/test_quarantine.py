"""Keeping, replaying and dropping what was refused: at every crash point, and to the byte."""

from __future__ import annotations

import random
import uuid
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from google.cloud import firestore

from firestate.audit.fates import Fates
from firestate.client.outgoing import Outgoing, outgoing
from firestate.errors import ConflictError, DamagedDocumentError
from firestate.ingest.quarantine import parts, quarantine_id
from firestate.pipeline.dead_letter import keep_dead_letter
from firestate.pipeline.deliveries import Delivery
from firestate.pipeline.quarantined import drop, read_kept
from firestate.pipeline.sweep import swept_figures
from firestate.replay.quarantined import replay_quarantined
from firestate.schema.ids import part_path
from firestate.schema.messages import STATE_TOPIC
from firestate.stores.firestore import FirestoreStore
from firestate.stores.protocol import Create, Query, Remove, Update
from tests.emulator.harness import NOW, Crash, CrashingStore, Pipeline, everything, state_message

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate.pipeline.quarantined import Kept
    from firestate.stores.protocol import Store, Write

BAD = Outgoing(STATE_TOPIC, b'{"state": "nonsense"}', {"origin": "kept", "googclient_x": "1"})
BAD_ID = quarantine_id(BAD.topic, BAD.data)
LARGE = Outgoing(STATE_TOPIC, random.Random(7).randbytes(9_900_000))
LARGE_ID = quarantine_id(LARGE.topic, LARGE.data)


class Direct:
    """A publisher whose messages are delivered here and now; it can crash before or after."""

    def __init__(self, pipeline: Pipeline, crash: str = "") -> None:
        self.pipeline = pipeline
        self.crash = crash
        self.sent: list[Outgoing] = []

    def publish(self, message: Outgoing) -> None:
        """Hand over."""
        if self.crash == "publish":
            self.crash = ""
            raise Crash
        self.sent.append(message)
        self.pipeline.send(message)

    def flush(self) -> int:
        """Wait for nothing."""
        if self.crash == "flush":
            self.crash = ""
            raise Crash
        return len(self.sent)


@pytest.fixture
def fresh_store(firestore_host: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_host)
    return lambda: FirestoreStore(firestore.Client(project=f"demo-{uuid.uuid4().hex[:12]}"))


@pytest.fixture
def other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test does in the midst of a call, others do: they take no turns with this process."""
    monkeypatch.setattr("firestate.pipeline.contention._TURNS", [nullcontext()])


def kept(store: Store, own_id: str = BAD_ID) -> Kept:
    found = read_kept(store, own_id)
    assert found is not None
    return found


def waiting(store: Store) -> int:
    return swept_figures(store, store.now())["quarantine_count"]


def no_part_without_document(store: Store) -> None:
    documents = {each.path for each in store.query(Query("quarantine"))}
    owners = {
        each.path.rpartition("/parts/")[0] for each in store.query(Query("parts", group=True))
    }
    assert owners == documents


def test_a_small_message_is_kept_by_one_commit(store: FirestoreStore) -> None:
    """Document and bytes come at once: neither is ever there without the other."""
    counting = CrashingStore(store)
    Pipeline(counting).send(BAD)
    assert len(counting.commits) == 1
    found = kept(store)
    assert found.data == BAD.data
    assert {each.name: each.value for each in found.document.attributes} == BAD.attributes
    assert waiting(store) == 1


def test_a_large_message_comes_back_to_the_byte(store: FirestoreStore) -> None:
    """What Pub/Sub takes at most is kept; the same again raises the count alone."""
    pipeline = Pipeline(store)
    pipeline.send(LARGE)
    pipeline.send(LARGE)
    found = kept(store, LARGE_ID)
    assert found.data == LARGE.data
    assert (found.document.parts, found.document.deliveries) == (11, 2)
    publisher = Direct(pipeline)
    assert replay_quarantined(store, publisher, LARGE_ID, NOW)
    assert publisher.sent[0].data == LARGE.data
    assert drop(store, LARGE_ID)
    assert everything(store) == {}


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
        left = read_kept(store, own_id)  # raises where bytes are missing
        assert left is None or left.data == message.data
        keep_dead_letter(store, delivery, NOW)
        assert kept(store, own_id).data == message.data
        assert drop(store, own_id)
        assert everything(store) == {}


@pytest.mark.usefixtures("other_process")
def test_dropped_while_a_large_message_is_kept(store: FirestoreStore) -> None:
    """Two deliveries and a drop between the commits of one: it is made anew, whole."""
    other = Pipeline(store)

    class Dropping(CrashingStore):
        """Before the commit of the document, all is kept by another delivery, and dropped."""

        def commit(self, writes: Any) -> Any:
            if any(isinstance(write, Update) for write in writes) and not done:
                done.append(1)
                other.send(LARGE)
                assert drop(store, LARGE_ID)
            return store.commit(writes)

    done: list[int] = []
    Pipeline(Dropping(store)).send(LARGE)
    assert done
    assert kept(store, LARGE_ID).data == LARGE.data


def test_parts_that_somebody_left(store: FirestoreStore) -> None:
    """The console removes a document without its parts: then the message does not loop."""
    pipeline = Pipeline(store)
    pipeline.send(BAD)
    document = kept(store).stored
    store.commit([Remove(document.path, document.token)])
    pipeline.send(BAD)
    assert kept(store).data == BAD.data


def test_refused_again_after_a_replay(store: FirestoreStore) -> None:
    """It waits again, with every refusal and replay counted; dropped, it is gone whole."""
    pipeline = Pipeline(store)
    pipeline.send(BAD)
    publisher = Direct(pipeline)
    assert replay_quarantined(store, publisher, BAD_ID, NOW)
    (sent,) = publisher.sent
    assert (sent.topic, sent.data, sent.attributes) == (BAD.topic, BAD.data, {"origin": "kept"})
    document = kept(store).document
    assert (document.waiting, document.deliveries, document.replays) == (True, 2, 1)
    assert document.replayed_at == NOW
    assert waiting(store) == 1


def test_refused_after_the_replay_was_marked(store: FirestoreStore) -> None:
    """The refusal may come late: first it waits no longer, then it does again."""
    pipeline = Pipeline(store)
    pipeline.send(BAD)
    publisher = Direct(Pipeline(FirestoreStore(firestore.Client(project="demo-elsewhere"))))
    assert replay_quarantined(store, publisher, BAD_ID, NOW)
    assert not kept(store).document.waiting
    assert waiting(store) == 0
    pipeline.send(BAD)
    assert kept(store).document.waiting


def test_a_message_of_the_future(store: FirestoreStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by this release, replayed after the upgrade: stored, and counted once."""
    pipeline = Pipeline(store)
    message = outgoing({"schema_version": 2, **state_message(1)})
    own_id = quarantine_id(message.topic, message.data)
    pipeline.send(message)
    assert kept(store, own_id).document.errors[0].field == "schema_version"
    assert +Fates(store).count([message]) == {"quarantined": 1}

    def upgraded(raw: dict[str, Any]) -> dict[str, Any]:
        return {**raw, "schema_version": 1}

    monkeypatch.setattr("firestate.schema.messages.upgrade_message", upgraded)

    publisher = Direct(pipeline)
    for _ in range(2):
        assert replay_quarantined(store, publisher, own_id, NOW)
    pipeline.settle()
    pipeline.fold()
    assert pipeline.audit().findings == []
    stored = store.read("system_state/global_config")
    assert stored is not None
    assert stored.data["total_agents_spawned"] == 1
    document = kept(store, own_id).document
    assert (document.waiting, document.deliveries, document.replays) == (False, 1, 2)
    assert waiting(store) == 0
    assert +Fates(store).count([message]) == {"stored": 1}


def test_a_replayed_message_that_is_nowhere(store: FirestoreStore) -> None:
    """It has not arrived, or its refusal has not: by its fate it is in quarantine still."""
    pipeline = Pipeline(store)
    good = outgoing(state_message(1))
    for message in (BAD, good):
        keep_dead_letter(store, Delivery(message.topic, message.data), NOW)
        publisher = Direct(Pipeline(FirestoreStore(firestore.Client(project="demo-elsewhere"))))
        replay_quarantined(store, publisher, quarantine_id(message.topic, message.data), NOW)
    assert +Fates(store).count([BAD, good]) == {"quarantined": 2}
    pipeline.send(good)
    assert +Fates(store).count([BAD, good]) == {"quarantined": 1, "stored": 1}


def replay_once(store: Any, crash: str = "") -> tuple[Direct, int]:
    """Replay until it does not crash; give what was published."""
    inner = getattr(store, "_store", store)
    publisher = Direct(Pipeline(inner), crash)
    crashes = 0
    while True:
        try:
            assert replay_quarantined(store, publisher, GOOD_ID, NOW)
        except Crash:
            crashes += 1
        else:
            return publisher, crashes


GOOD = outgoing(state_message(1))
GOOD_ID = quarantine_id(GOOD.topic, GOOD.data)


def dead_letter_in(store: FirestoreStore) -> FirestoreStore:
    keep_dead_letter(store, Delivery(GOOD.topic, GOOD.data), NOW)
    return store


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
        assert +Fates(store).count([GOOD]) == {"stored": 1}


def test_any_crash_while_dropping(fresh_store: Any) -> None:
    """All of it is there, or none; the next try ends it."""
    counting = CrashingStore(dead_letter_in(fresh_store()))
    assert drop(counting, GOOD_ID)
    assert (counting.calls, len(counting.commits)) == (3, 1)
    for at in range(3):
        for after in (False, True):
            store = dead_letter_in(fresh_store())
            with pytest.raises(Crash):
                drop(CrashingStore(store, at, after=after), GOOD_ID)
            no_part_without_document(store)
            assert drop(store, GOOD_ID) is not (at == 2 and after)
            assert everything(store) == {}


def test_a_lost_race_is_run_again(fresh_store: Any) -> None:
    """A commit that is refused says nothing: keeping, marking and dropping are decided anew."""
    store = fresh_store()
    delivery = Delivery(GOOD.topic, GOOD.data)
    keep_dead_letter(CrashingStore(store, 2, fault=ConflictError), delivery, NOW)
    assert replay_once(CrashingStore(store, 3, fault=ConflictError))[1] == 0
    assert kept(store, GOOD_ID).document.replays == 1
    assert drop(CrashingStore(store, 2, fault=ConflictError), GOOD_ID)
    assert read_kept(store, GOOD_ID) is None


@pytest.mark.usefixtures("other_process")
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
    assert drop(Refusing(store), BAD_ID)
    assert everything(store) == {}
    pipeline.send(BAD)
    assert kept(store).document.deliveries == 1
    assert not drop(store, "0" * 40)


def test_dropped_while_it_is_replayed(store: FirestoreStore) -> None:
    """There is nothing left to mark."""

    class Dropping(Direct):
        def flush(self) -> int:
            drop(store, GOOD_ID)
            return super().flush()

    dead_letter_in(store)
    assert replay_quarantined(store, Dropping(Pipeline(store)), GOOD_ID, NOW)
    assert read_kept(store, GOOD_ID) is None
    assert not replay_quarantined(store, Direct(Pipeline(store)), GOOD_ID, NOW)


@pytest.mark.parametrize("damage", ["other bytes", "a part gone", "one more part", "no topic"])
def test_damage_is_named_and_not_published(store: FirestoreStore, damage: str) -> None:
    """Other bytes than those that came are never published; dropping goes all the same."""
    Pipeline(store).send(BAD)
    ((path, data),) = parts(BAD.topic, BAD.data)
    stored = store.read(path)
    document = kept(store).stored
    assert stored is not None
    harm: dict[str, list[Write]] = {
        "other bytes": [Update(path, stored.token, {"data": data[::-1]})],
        "a part gone": [Remove(path, stored.token)],
        "one more part": [Create(part_path(BAD_ID, 1), {"data": b"x"})],
        "no topic": [Remove(document.path, document.token, [("topic",)])],
    }
    store.commit(harm[damage])
    publisher = Direct(Pipeline(store))
    with pytest.raises(DamagedDocumentError, match=document.path):
        replay_quarantined(store, publisher, BAD_ID, NOW)
    assert publisher.sent == []
    assert drop(store, BAD_ID)
    assert everything(store) == {}
