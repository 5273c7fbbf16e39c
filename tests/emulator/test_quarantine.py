"""What was refused is kept to the byte, replayed and dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.cloud import firestore

from firestate.audit.message_outcomes import MessageOutcomes
from firestate.client.outgoing import outgoing
from firestate.errors import DamagedDocumentError
from firestate.ingest.refusal import parts, quarantine_id
from firestate.operations.quarantined_messages import drop_quarantined
from firestate.operations.republish_quarantined import republish_quarantined
from firestate.pipeline.dead_letter import keep_dead_letter
from firestate.pipeline.deliveries import Delivery
from firestate.pipeline.sweep import swept_figures
from firestate.schema.ids import part_path
from firestate.stores.firestore import FirestoreStore
from firestate.stores.protocol import Create, Remove, Update
from tests.harness import NOW, CrashingStore, Pipeline, everything, state_message

if TYPE_CHECKING:
    from firestate.stores.protocol import Store, Write

from tests.emulator.quarantine_fixtures import (
    BAD,
    BAD_ID,
    LARGE,
    LARGE_ID,
    DirectPublisher,
    kept,
)


def waiting(store: Store) -> int:
    return swept_figures(store, store.now())["quarantine_count"]


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
    publisher = DirectPublisher(pipeline)
    assert republish_quarantined(store, publisher, LARGE_ID, NOW)
    assert publisher.sent[0].data == LARGE.data
    assert drop_quarantined(store, LARGE_ID)
    assert everything(store) == {}


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
    publisher = DirectPublisher(pipeline)
    assert republish_quarantined(store, publisher, BAD_ID, NOW)
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
    publisher = DirectPublisher(
        Pipeline(FirestoreStore(firestore.Client(project="demo-elsewhere")))
    )
    assert republish_quarantined(store, publisher, BAD_ID, NOW)
    assert not kept(store).document.waiting
    assert waiting(store) == 0
    pipeline.send(BAD)
    assert kept(store).document.waiting


def test_a_message_of_the_future(store: FirestoreStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by this release, replayed after the upgrade: stored, and counted once."""
    pipeline = Pipeline(store)
    message = outgoing({"schema_version": 3, **state_message(1)})
    own_id = quarantine_id(message.topic, message.data)
    pipeline.send(message)
    assert kept(store, own_id).document.errors[0].field == "schema_version"
    assert +MessageOutcomes(store).count([message]) == {"quarantined": 1}

    def upgraded(raw: dict[str, Any]) -> dict[str, Any]:
        return {**raw, "schema_version": 2}

    monkeypatch.setattr("firestate.schema.messages.upgrade_message", upgraded)

    publisher = DirectPublisher(pipeline)
    for _ in range(2):
        assert republish_quarantined(store, publisher, own_id, NOW)
    pipeline.settle()
    pipeline.fold()
    assert pipeline.audit().findings == []
    stored = store.read("system_state/global_config")
    assert stored is not None
    assert stored.data["total_agents_spawned"] == 1
    document = kept(store, own_id).document
    assert (document.waiting, document.deliveries, document.replays) == (False, 1, 2)
    assert waiting(store) == 0
    assert +MessageOutcomes(store).count([message]) == {"stored": 1}


def test_a_replayed_message_that_is_nowhere(store: FirestoreStore) -> None:
    """It has not arrived, or its refusal has not: by its fate it is in quarantine still."""
    pipeline = Pipeline(store)
    good = outgoing(state_message(1))
    for message in (BAD, good):
        keep_dead_letter(store, Delivery(message.topic, message.data), NOW)
        publisher = DirectPublisher(
            Pipeline(FirestoreStore(firestore.Client(project="demo-elsewhere")))
        )
        republish_quarantined(store, publisher, quarantine_id(message.topic, message.data), NOW)
    assert +MessageOutcomes(store).count([BAD, good]) == {"quarantined": 2}
    pipeline.send(good)
    assert +MessageOutcomes(store).count([BAD, good]) == {"quarantined": 1, "stored": 1}


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
    publisher = DirectPublisher(Pipeline(store))
    with pytest.raises(DamagedDocumentError, match=document.path):
        republish_quarantined(store, publisher, BAD_ID, NOW)
    assert publisher.sent == []
    assert drop_quarantined(store, BAD_ID)
    assert everything(store) == {}
