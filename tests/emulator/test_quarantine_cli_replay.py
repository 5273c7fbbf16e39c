"""`firestate quarantine replay` and `drop`, on an emulator."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

import pytest

from firestate.client.outgoing import Outgoing
from firestate.operations.quarantined_messages import read_quarantined
from firestate.schema.messages import STATE_TOPIC
from firestate.stores.protocol import Query, Update
from tests.emulator.quarantine_fixtures import (
    BAD,
    BAD_ID,
    GOOD,
    GOOD_ID,
    DirectPublisher,
    dead_letter_in,
    refuse,
)
from tests.harness import Pipeline, event_message, everything

if TYPE_CHECKING:
    from pathlib import Path

    from firestate.stores.firestore import FirestoreStore
    from tests.conftest import Run


@pytest.fixture
def publisher(store: FirestoreStore, monkeypatch: pytest.MonkeyPatch) -> DirectPublisher:
    """What is published is delivered at once."""
    direct = DirectPublisher(Pipeline(store))
    monkeypatch.setattr("firestate.cli.quarantine_commands.open_publisher", lambda *_: direct)
    return direct


def test_a_line_to_be_put_right_and_replayed(
    run: Run, store: FirestoreStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`show --as-line` gives what `firestate replay FILE` takes, to the byte; JSON does as well."""
    text = '{"state": "ä\u2028\x85 nonsense"}'
    (own_id,) = refuse(store, Outgoing(STATE_TOPIC, text.encode()))
    sent = DirectPublisher(Pipeline(store))
    monkeypatch.setattr("firestate.cli.replay.open_publisher", lambda *_: sent)
    for number, option in enumerate(("--as-line", "--json")):
        out = run("quarantine", "show", own_id, option)[1]
        path = tmp_path / f"{number}.jsonl"
        path.write_text(json.dumps(json.loads(out)) if option == "--json" else out)
        assert run("replay", str(path))[0] == 0
        assert sent.sent[-1].topic == STATE_TOPIC
        assert sent.sent[-1].data == text.encode()
    assert json.loads(run("quarantine", "list", "--json")[1])[0]["deliveries"] == 3


def test_replay_one(run: Run, store: FirestoreStore, publisher: DirectPublisher) -> None:
    """Of one message nobody is asked; it is stored, and waits no more."""
    dead_letter_in(store)
    code, out, _ = run("quarantine", "replay", GOOD_ID[:8])
    assert code == 0
    assert out.startswith("1 published.\n")
    assert "quarantine list" in out
    assert publisher.sent[0].data == GOOD.data
    assert run("quarantine", "list", "--json")[1] == "[]\n"
    (again,) = json.loads(run("quarantine", "list", "--all", "--json")[1])
    assert (again["waiting"], again["replays"]) == (False, 1)
    assert run("quarantine", "replay", "--all", "--yes")[1] == "0 published.\n"
    assert "replayed, and not refused since" in run("quarantine", "show", GOOD_ID)[1]


def test_many_are_asked_for(
    run: Run, store: FirestoreStore, publisher: DirectPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their number is told; without a yes nothing is done, with one all of it."""
    dead_letter_in(store)
    refuse(store, BAD, {"event": {}})
    for answer, told in (("n\n", "nothing was done"), ("", "Aborted")):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        code, out, err = run("quarantine", "replay", "--all")
        assert code == 1
        assert publisher.sent == []
        assert "3 messages: publish again?" in err
        assert told in out + err
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert run("quarantine", "replay", "--code", "schema")[0] == 0
    assert len(publisher.sent) == 2
    code, out, _ = run("quarantine", "replay", "--all", "--yes", "--json")
    assert json.loads(out) == {"published": 3, "gone": 0, "damaged": 0}
    assert {each.data for each in publisher.sent[2:]} >= {GOOD.data, BAD.data}
    assert len(json.loads(run("quarantine", "list", "--json")[1])) == 2


def test_a_damaged_one_stops_no_other(
    run: Run, store: FirestoreStore, publisher: DirectPublisher
) -> None:
    """It is named, and the exit code says that not all could be done."""
    refuse(store, BAD)
    dead_letter_in(store)
    (part,) = store.query(Query(f"quarantine/{BAD_ID}/parts"))
    store.commit([Update(part.path, part.token, {"data": b"forged"})])
    code, out, err = run("quarantine", "replay", "--all", "--yes")
    assert code == 3
    assert "1 published" in out
    assert f"quarantine/{BAD_ID}: its parts hold 6 bytes, it had 21" in err
    assert [each.data for each in publisher.sent] == [GOOD.data]


def test_drop(run: Run, store: FirestoreStore, publisher: DirectPublisher) -> None:
    """By id, what was replayed, or all; nothing is left of them."""
    del publisher
    dead_letter_in(store)
    ids = refuse(store, BAD, {"event": {}}, {"state": {}}, event_message("a/b"))
    assert run("quarantine", "drop", ids[1][:6])[:2] == (0, "1 dropped.\n")
    assert run("quarantine", "drop", ids[1])[0] == 1
    assert run("quarantine", "replay", GOOD_ID)[0] == 0
    assert run("quarantine", "drop", "--all", "--replayed", "--yes")[1] == "1 dropped.\n"
    assert read_quarantined(store, GOOD_ID) is None
    _, out, _ = run("quarantine", "drop", ids[0], ids[2], "--yes", "--json")
    assert json.loads(out) == {"dropped": 2, "gone": 0, "damaged": 0}
    assert run("quarantine", "drop", "--all", "--yes")[1] == "1 dropped.\n"
    assert not any(path.startswith("quarantine") for path in everything(store))
