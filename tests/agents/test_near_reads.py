"""The local engine as a backend: what it has been sent is stored, and unchanged it is not read."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from firestate.agents.backends.document_watch import Change, Watch
from firestate.agents.backends.local import LocalBackend
from firestate.agents.reading.answers import Lookup, read_request
from firestate.agents.reading.store_reader import StoreReader
from firestate.outbox.entries import NewEntry
from firestate.outbox.file import Outbox
from firestate.queries import CURRENT_STATUSES, LOOK_UP_AGENTS
from firestate.schema.messages import STATE_TOPIC
from firestate.stores.protocol import Add
from tests.agents.outbox_fixtures import PLENTY
from tests.harness import event_message, state_message

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = "agent_states/Developer_a_1_s1"
ALL = Lookup(LOOK_UP_AGENTS, {"status": CURRENT_STATUSES}, limit=9)


@pytest.fixture
def backend() -> Iterator[LocalBackend]:
    backend = LocalBackend(None)
    yield backend
    backend.close()


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    with closing(Outbox(None, most_bytes=PLENTY)) as outbox:
        yield outbox


def put(outbox: Outbox, revision: int = 1) -> None:
    data = json.dumps(state_message(revision)).encode()
    outbox.put(NewEntry(PATH, "a", STATE_TOPIC, data, (1, revision)))


def send(backend: LocalBackend, outbox: Outbox) -> None:
    for each, data in outbox.data(outbox.waiting(9)).items():
        backend.send(each.topic, [data], "w")
        outbox.confirm([each])


def test_what_was_sent_does_not_wait(outbox: Outbox) -> None:
    """It is kept for far stores, and is no part of what waits; a change makes it wait again."""
    put(outbox)
    event = json.dumps(event_message("e1")).encode()
    outbox.put(NewEntry("coordination/e1", "a", "t", event))
    for snapshots in (True, False):
        assert len(outbox.newest(snapshots=snapshots, waiting=True)) == 1
    outbox.confirm(outbox.waiting(9))
    for snapshots in (True, False):
        assert outbox.newest(snapshots=snapshots, waiting=True) == {}
        assert len(outbox.newest(snapshots=snapshots)) == 1
    change = json.dumps({"set": {"current_task": "t"}}).encode()
    assert outbox.put(NewEntry(PATH, "a", "t", change, (1, 2), is_change=True))
    (data,) = outbox.newest(snapshots=True, waiting=True).values()
    assert json.loads(data)["state"]["current_task"] == "t"


def test_what_is_sent_while_a_read_is_under_way(
    backend: LocalBackend, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found, whether it is sent before the store is read or after."""
    put(outbox)
    reader = StoreReader(backend, outbox, patience_seconds=30.0)
    store = backend.store

    def sent_first() -> Any:
        send(backend, outbox)
        return store()

    monkeypatch.setattr(backend, "store", sent_first)
    find = read_request(ALL, lambda found: [each["revision"] for each in found])
    assert reader.ask(find).value == [1]
    assert reader.ask(find).value == [1]
    put(outbox, 2)
    monkeypatch.undo()
    assert reader.ask(find).value == [2]
    reader.close()


def test_a_watch_reads_nothing_where_nothing_was_written(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for the last commit, and reads on a change of that alone."""
    backend._closing = True  # its own thread is not to look
    told: list[Change] = []
    watch = Watch("things/a", told.append)
    looked = []
    look = backend._look

    def counted(each: Watch) -> None:
        looked.append(each)
        look(each)

    monkeypatch.setattr(backend, "_look", counted)
    store = backend.engine.store
    store.commit([Add("things/a", {"n": 1})])
    for _ in range(3):
        backend._look_if_changed(1, watch)
    assert (len(looked), len(told)) == (1, 1)
    store.commit([Add("things/a", {"n": 1})])
    for _ in range(3):
        backend._look_if_changed(1, watch)
    assert (len(looked), len(told)) == (2, 2)
