"""`firestate quarantine list` and `show`, on an emulator."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from firestate.client.outgoing import Outgoing
from firestate.operations.quarantined_messages import drop_quarantined, read_quarantined
from firestate.schema.messages import EVENT_TOPIC, STATE_TOPIC
from firestate.stores.protocol import Create, Remove, Update
from tests.emulator.quarantine_fixtures import (
    BAD,
    LARGE,
    LARGE_ID,
    refuse,
)
from tests.harness import NOW, state_message

if TYPE_CHECKING:
    from pathlib import Path

    from firestate.stores.firestore import FirestoreStore
    from tests.conftest import Run

EVIL = "\x1b[31m[red]x[/red]\u202e\x9b"


def test_an_empty_quarantine(run: Run) -> None:
    """It is shown as such, and an id that is not there is told."""
    assert run("quarantine", "list", "--json")[:2] == (0, "[]\n")
    assert "In quarantine (0)" in run("quarantine", "list")[1]
    for command in ("show", "replay", "drop"):
        code, out, err = run("quarantine", command, "abcdef")
        assert (code, out) == (1, "")
        assert "no message abcdef in quarantine" in err
    assert run("quarantine", "replay", "--all")[:2] == (0, "0 published.\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "abc"],
        ["show", "nothex-1"],
        ["show", "a" * 41],
        ["show", "a" * 40, "--raw", "--json"],
        ["replay"],
        ["replay", "abcdef", "--all"],
        ["drop", "--all", "--code", "schema"],
        ["list", "--limit", "0"],
    ],
)
def test_what_is_not_understood(run: Run, arguments: list[str]) -> None:
    """Exit code 2, and nothing is done."""
    code, out, err = run("quarantine", *arguments)
    assert (code, out) == (2, "")
    assert 0 < len(err) < 1_200


def test_list(run: Run, store: FirestoreStore) -> None:
    """The latest first, by code and topic, those that wait or all."""
    bad_event = {"event": {"event_id": "a/b"}}
    ids = []
    for minute, message in enumerate([BAD, bad_event, {"schema_version": 9, "state": {}}]):
        ids += refuse(store, message, now=NOW.replace(minute=minute))
    refuse(store, BAD, now=NOW.replace(minute=30))
    listed = json.loads(run("quarantine", "list", "--json")[1])
    assert [each["id"] for each in listed] == [ids[0], ids[2], ids[1]]
    assert listed[0]["deliveries"] == 2
    assert listed[0]["attributes"][0] == {"name": "googclient_x", "value": "1"}

    def found(*options: str) -> set[str]:
        return {each["id"] for each in json.loads(run("quarantine", "list", "--json", *options)[1])}

    assert found("--topic", EVENT_TOPIC) == {ids[1]}
    assert found("--code", "schema", "--topic", STATE_TOPIC) == {ids[0], ids[2]}
    assert found("--code", "late") == set()
    assert found("--limit", "1") == {ids[0]}
    document = read_quarantined(store, ids[0])
    assert document is not None
    store.commit([Update(document.stored.path, document.stored.token, {"waiting": False})])
    assert found() == {ids[1], ids[2]}
    assert found("--all") == set(ids)
    out = run("quarantine", "list", "--all")[1]
    (line,) = (line for line in out.splitlines() if line.startswith(ids[0][:12]))
    assert re.search(r"agent-state +schema +epoch: .* 21 +2 .* replayed", line)


def test_a_damaged_document_hides_no_other(run: Run, store: FirestoreStore) -> None:
    """It is named; the others are listed, and replayed."""
    bad, worse = refuse(store, BAD, {"state": 7})
    document = store.read(f"quarantine/{worse}")
    assert document is not None
    store.commit([Remove(document.path, document.token, [("topic",)])])
    code, out, err = run("quarantine", "list")
    assert code == 0
    assert bad[:12] in out
    assert f"quarantine/{worse} cannot be read: topic: Field required" in err
    assert run("quarantine", "show", worse[:10])[0] == 3


def test_show(run: Run, store: FirestoreStore) -> None:
    """Everything that is known, each problem, and the message with the lines at fault."""
    message = state_message(1, status="sleeping", memory_context={"a": [[1]], EVIL: 1})
    del message["state"]["agent_id"]
    (own_id,) = refuse(store, Outgoing(STATE_TOPIC, json.dumps(message).encode(), {"origin": EVIL}))
    code, out, _ = run("quarantine", "show", own_id[:6])
    assert code == 0
    assert own_id in out
    assert re.search(r"attribute origin +\\u001b\[31m\[red\]x\[/red\]\\u202e\\u009b", out)
    lines = out.splitlines()
    assert any(line.endswith('"status": "sleeping",  <-- ' + reason(lines)) for line in lines)
    assert any(re.search(r'"state": \{  <-- state.agent_id: Field required', x) for x in lines)
    assert any(re.search(r"\[  <-- is an array directly inside an array", x) for x in lines)
    assert all(line.isprintable() for line in lines)


def reason(lines: list[str]) -> str:
    """Give the reason that the table of problems has for the status."""
    (line,) = (line for line in lines if line.startswith("state.status"))
    return line.removeprefix("state.status").strip()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'{"a": 1,\n "b": tru}', "^  <-- Expecting value"),
        (b'{"a": "\xff"}', "^^  <-- byte 7: invalid start byte"),
        (b"", "^  <-- Expecting value"),
    ],
)
def test_show_what_is_no_json(run: Run, store: FirestoreStore, data: bytes, told: str) -> None:
    """The place is pointed at."""
    (own_id,) = refuse(store, Outgoing(STATE_TOPIC, data))
    assert told in run("quarantine", "show", own_id)[1]


def test_the_bytes_themselves(run: Run, store: FirestoreStore, tmp_path: Path) -> None:
    """9.9 MB of anything come out as they came in, on standard output and in a file."""
    refuse(store, LARGE)
    command = [sys.executable, "-c", "from firestate.cli import main; main()", "quarantine"]
    shown = subprocess.run([*command, "show", LARGE_ID, "--raw"], check=True, capture_output=True)
    assert shown.stdout == LARGE.data
    path = tmp_path / "message"
    assert run("quarantine", "show", LARGE_ID, "--output", str(path))[:2] == (0, "")
    assert path.read_bytes() == LARGE.data
    assert run("quarantine", "show", LARGE_ID, "--output", str(tmp_path))[0] == 3
    code, out, _ = run("quarantine", "show", LARGE_ID)
    assert code == 0
    assert len(out) < 5_000
    assert json.loads(run("quarantine", "show", LARGE_ID, "--json")[1])["raw_base64"]
    code, out, err = run("quarantine", "show", LARGE_ID, "--as-line")
    assert (code, out) == (1, "")
    assert "no UTF-8" in err


def test_a_short_id_that_begins_several(run: Run, store: FirestoreStore) -> None:
    """More digits are asked for; a path is taken as well."""
    own_id = refuse(store, BAD)[0]
    document = read_quarantined(store, own_id)
    assert document is not None
    twin = own_id[:6] + "0" * 34
    store.commit([Create(f"quarantine/{twin}", {**document.stored.data, "id": twin})])
    code, _, err = run("quarantine", "show", own_id[:6])
    assert code == 2
    assert "begins more than one id" in err
    assert run("quarantine", "show", f"quarantine/{own_id[:12]}")[0] == 0
    assert drop_quarantined(store, twin)
