"""What a migration asks of Firestore, counted on the wire, and the command that people use."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from firestate.schema.ids import EVENTS, STATES
from firestate.stores.protocol import Query
from tests.load.grpc_counter import Billed, GrpcCounter
from tests.migration.migration_run import SAMPLES, old_event, old_state, written

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from firestate.stores.firestore import FirestoreStore
    from tests.conftest import Run


@pytest.fixture
def counter(
    store: FirestoreStore, firestore_host: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[GrpcCounter]:
    """Stand between the command and Firestore."""
    del store  # it sets the other variables
    with GrpcCounter(firestore_host) as counting:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", counting.address)
        yield counting


def test_a_dry_run_asks_nothing_and_a_second_apply_writes_nothing(
    counter: GrpcCounter, run: Run, store: FirestoreStore, tmp_path: Path
) -> None:
    """On all samples: the plan, an apply with its proof, the same once more, an undo."""
    work = ("--work", str(tmp_path / "work"))
    code, out, notes = run("migrate", str(SAMPLES), *work)
    assert counter.snapshot() == Billed()
    assert code == 1  # one file has no agent in it
    assert "letta/bare.af: agents: is empty" in out
    assert "Nothing was written" in notes
    code, out, _ = run("migrate", str(SAMPLES), *work, "--apply", "--verify", "--json")
    assert code == 1
    answer = json.loads(out)
    first = counter.snapshot()
    written_first = answer["applied"]["written"]
    assert first.writes >= written_first
    assert first.refused == 0
    assert answer["verified"].keys() <= {"equal", "superseded", "refused", "reasons"}
    again = run("migrate", str(SAMPLES), *work, "--apply")[1]
    assert f"there {written_first}" in again
    assert (counter.snapshot() - first).writes == 0
    code, out, _ = run("migrate", "undo", answer["receipt"])
    assert code == 0
    assert f"{written_first + 1} documents" in out  # and the controls
    for collection in (STATES, EVENTS):
        found = list(store.query(Query(collection)))
        assert [each.path for each in found if not each.data.get("deleted")] == []


def test_what_a_record_costs(counter: GrpcCounter, run: Run, tmp_path: Path) -> None:
    """A new state two reads and a write, a new event one of each; the report says so before."""
    states = [old_state(f"dev_{n}") for n in range(250)]
    events = [old_event(event_id=f"e{n}") for n in range(250)]
    old = written(tmp_path / "old", {"a.json": states, "log.json": events})
    work = ("--work", str(tmp_path / "work"))
    _, out, _ = run("migrate", str(old), *work, "--apply", "--json")
    spent = counter.snapshot()
    assert (spent.reads, spent.writes, spent.refused) == (750, 500, 0)
    report: dict[str, Any] = json.loads(out)["report"]
    counting = 2 * 250 + 250  # by the triggers, which are off here
    comparing = 500
    assert report["reads"] == spent.reads + counting + comparing
    assert report["writes"] == spent.writes + 3 * 500


def test_a_source_that_is_not_there(run: Run, counter: GrpcCounter) -> None:
    """It is told before anything is asked, with exit code 2."""
    code, _, notes = run("migrate", "nowhere")
    assert code == 2
    assert "there is no file or folder nowhere" in notes
    assert counter.snapshot() == Billed()


def test_an_emulator_that_is_away(
    run: Run, counter: GrpcCounter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is made all the same; the apply says what is missing, with exit code 3."""
    del counter
    monkeypatch.setitem(os.environ, "FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")
    old = written(tmp_path / "old", {"a.json": old_state()})
    code, _, notes = run("migrate", str(old), "--work", str(tmp_path / "work"), "--apply")
    assert code == 3
    assert "no emulator answers" in notes
