"""A folder with more broken files than whole ones: each is told, and all that is whole arrives."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from firestate.audit.full import FullAudit
from firestate.migration.apply.record_decision import RecordOutcome
from firestate.migration.formats.decoding import Unreadable
from firestate.migration.formats.detection import open_json
from firestate.migration.formats.records import Record
from firestate.migration.verify.comparison import Result
from firestate.queries import ALL_EVENTS, ALL_STATES
from tests.migration.damage import KINDS, LINKS, Damaged, make

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from firestate.local.engine import LocalEngine
    from firestate.migration.plan.plan_file import PlanLine
    from tests.conftest import Run
    from tests.migration.conftest import Move

_PLACE = re.compile(r"line [1-9]\d* column [1-9]\d*")


@pytest.fixture(scope="module", params=[1, 2, 3])
def damaged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Damaged:
    """A folder for each of some seeds."""
    return make(tmp_path_factory.mktemp("damaged"), request.param)


def refused(lines: list[PlanLine]) -> dict[str, list[PlanLine]]:
    """Give the refusals by their files."""
    found: dict[str, list[PlanLine]] = {}
    for line in lines:
        if line.outcome == "refused":
            found.setdefault(line.source, []).append(line)
    return found


def test_each_broken_file_is_named_with_its_place(damaged: Damaged, move: Move) -> None:
    """The place is the parser's own, or where the damage is known to be."""
    assert len(damaged.places) + len(damaged.cuts) == 300
    assert len(damaged.places) > 250 + len(LINKS)
    told = refused(move(damaged.folder).plan())
    for name, places in damaged.places.items():
        found = [line.place for line in told.get(name, [])]
        if places == [""]:  # of binary content any place will do
            assert len(found) == 1, name
            assert _PLACE.fullmatch(found[0]), name
        else:
            assert found == places, name
    for lines in told.values():
        assert all(line.reason and line.advice for line in lines)
    assert not told.keys() & damaged.good.keys()


def test_what_stays_valid_counts_as_what_it_is(damaged: Damaged, move: Move) -> None:
    """A file with a byte flipped or some cut out is refused, or read, as any other."""
    told = refused(move(damaged.folder).plan())
    read = 0
    for name, data in damaged.cuts.items():
        found = [line.place for line in told.get(name, [])]
        try:
            json.loads(data)
            valid = True
        except json.JSONDecodeError as error:
            valid = False
            assert found == [f"line {error.lineno} column {error.colno}"]  # noqa: PT017 - not always raised
        except UnicodeDecodeError:
            valid = False
            assert len(found) == 1
        if valid:
            assert found == list(_places(name, data))
            read += 1
    assert 0 < read <= len(damaged.cuts)


def _places(name: str, data: bytes) -> Iterator[str]:
    """Give the places of what is refused in a file that is JSON."""
    try:
        opened = open_json(data, name.rpartition("/")[2], datetime(2025, 1, 4, tzinfo=UTC))
    except Unreadable as error:
        yield error.refusal.place
        return
    yield from (each.place for each in opened.records() if not isinstance(each, Record))


def test_all_that_is_whole_arrives(damaged: Damaged, move: Move, engine: LocalEngine) -> None:
    """As if the broken files were not there; what is stored is equal, the counters are right."""
    moving = move(damaged.folder)
    lines = moving.plan()
    tally = moving.apply()
    engine.settle()
    assert FullAudit(engine.store, timedelta(0)).run().drift == 0
    agents = {each.data["agent_id"] for each in engine.store.query(ALL_STATES.query())}
    events = {each.data["event_id"] for each in engine.store.query(ALL_EVENTS.query())}
    for name, ids in damaged.good.items():
        assert set(ids) <= agents | events, name
    assert {"e1", "e2", "e3"} <= agents
    assert {"v1", "v2"} <= events
    writes = sum(line.outcome == "write" for line in lines)
    assert tally.counts[RecordOutcome.WRITTEN] == writes
    found = moving.verify()
    assert found.well
    assert found.counts[Result.EQUAL] == writes
    assert found.counts[Result.REFUSED] == tally.counts[RecordOutcome.REFUSED] == sum(
        line.outcome == "refused" for line in lines
    )  # fmt: skip
    moving.undo()
    engine.settle()
    assert FullAudit(engine.store, timedelta(0)).run().drift == 0


def test_every_kind_of_damage_is_there(damaged: Damaged) -> None:
    """Many times, and a seed makes the same folder again."""
    for kind in KINDS:
        ending = ".pkl" if kind.__name__ == "_pickled" else f"{kind.__name__}.json"
        assert sum(name.endswith(ending) for name in damaged.places) > 10, ending


def test_a_seed_makes_the_same_folder(tmp_path: Path) -> None:
    """So that what was found once can be found again."""
    one, other = make(tmp_path / "1", 7, damaged=60), make(tmp_path / "2", 7, damaged=60)
    assert (one.places, one.good, one.cuts) == (other.places, other.good, other.cuts)


def test_the_command_says_that_not_all_is_well(
    damaged: Damaged, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It exits 1, on a dry run and after it has applied and verified all the rest."""
    for name in list(os.environ):
        if "EMULATOR" in name or "PROJECT" in name or name.startswith("FIRESTATE"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("migrate", str(damaged.folder))
    assert code == 1
    assert "refused" in out
    options = ("--apply", "--verify", "--json", "--file", "new.db")
    code, out, _ = run("migrate", str(damaged.folder), *options)
    assert code == 1
    found = json.loads(out)
    assert found["verified"]["refused"] == found["applied"]["refused"]
    assert found["verified"].keys() == {"equal", "superseded", "refused", "reasons"}


def test_names_that_are_no_utf8(move: Move, engine: LocalEngine, run: Run, tmp_path: Path) -> None:
    """Files of other times, and keys with half of a surrogate pair, are read and shown."""
    old = tmp_path / "old"
    old.mkdir()
    state = b'{"agent_id": "a", "agent_type": "QA", "x\\ud800": 1, "memory": {"\\udfff": "y"}}'
    (old / os.fsdecode(b"caf\xe9.json")).write_bytes(state)
    (old / os.fsdecode(b"caf\xe9.copy.json")).write_bytes(state)
    (old / os.fsdecode(b"bad\xe9.json")).write_bytes(b"{")
    moving = move(old)
    assert [line.outcome for line in moving.plan()] == ["refused", "write", "copy"]
    assert moving.apply().counts[RecordOutcome.WRITTEN] == 1
    assert moving.verify().well
    engine.settle()
    for options in ((), ("--json",)):
        code, out, _ = run("migrate", str(old), "--work", str(tmp_path / "again"), *options)
        assert code == 1
        assert "bad" in out
