"""The command `firestate migrate` on a file, without any emulator."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from firestate.migration.workdir import FolderWorkdir
from tests.migration.migration_run import old_event, old_state, written

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Run

FILE = ("--file", "state.db")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Two states, one of them older than another, and two events."""
    files = {
        "agent_dev.json": old_state(),
        "backup/agent_dev.json": old_state(last_updated="2025-01-01T00:00:00"),
        "logs/log.json": [old_event(), old_event(type="created")],
        "notes.txt": b"nothing for us",
    }
    return written(tmp_path / "old", files)


@pytest.mark.usefixtures("old")
def test_from_a_dry_run_to_an_undo(run: Run, tmp_path: Path) -> None:
    """Each step says what it did; the first leaves no trace but its plan."""
    code, out, notes = run("migrate", "old")
    assert code == 0
    assert "agent_states          1" in out
    assert "backup/agent_dev.json" in out
    assert ".txt 1" in out
    assert notes.rstrip().endswith("To carry it out: firestate migrate old --apply")
    assert not (tmp_path / "state.db").exists()
    code, out, _ = run("migrate", "old", "--apply", "--verify", *FILE)
    assert code == 0
    assert "Applied: written 3, superseded 1." in out
    assert "equal 3, superseded 1" in out
    assert run("audit", *FILE)[0] == 0
    _, out, _ = run("agents", *FILE, "--json")
    assert [agent["status"] for agent in json.loads(out)] == ["active"]
    assert len(json.loads(run("events", *FILE, "--json")[1])) == 2
    (receipt,) = (tmp_path / ".firestate" / "migration").glob("receipt-*.jsonl")
    code, out, _ = run("migrate", "undo", str(receipt), *FILE)
    assert code == 0
    assert "3 documents" in out
    assert json.loads(run("agents", *FILE, "--json")[1]) == []
    code, out, _ = run("migrate", "undo", str(receipt), *FILE)
    assert code == 0
    assert "Undone before, or gone: 3." in out


@pytest.mark.usefixtures("old")
def test_json_for_other_programs(run: Run) -> None:
    """One object with the report, the outcomes, the comparison and the receipt."""
    code, out, notes = run("migrate", "old", "--apply", "--verify", *FILE, "--json")
    assert (code, notes) == (0, "")
    answer = json.loads(out)
    assert answer["applied"] == {"written": 3, "superseded": 1, "reasons": []}
    assert answer["verified"] == {"equal": 3, "superseded": 1, "reasons": []}
    assert answer["report"]["documents"] == {"agent_states": 1, "coordination": 2}
    assert f"receipt-{answer['report']['plan']}-" in answer["receipt"]


@pytest.mark.usefixtures("old")
def test_a_plan_stays_what_was_reviewed(run: Run, old: Path) -> None:
    """An apply carries out the plan that was made before, and refuses what has changed since."""
    run("migrate", "old")
    (old / "agent_dev.json").write_text(json.dumps(old_state(status="idle")))
    written(old, {"new_state.json": old_state("dev_9")})
    code, out, _ = run("migrate", "old", "--apply", *FILE)
    assert code == 1
    assert "agent_dev.json: has changed since the plan was made: plan anew" in out
    assert len(json.loads(run("agents", *FILE, "--json")[1])) == 0
    run("migrate", "old")
    assert run("migrate", "old", "--apply", *FILE)[0] == 0
    assert len(json.loads(run("agents", *FILE, "--json")[1])) == 2


def test_broken_files_are_named_and_the_rest_goes_on(run: Run, tmp_path: Path) -> None:
    """One line says which, where, why and what to do; the exit code says that there are some."""
    written(tmp_path / "old", {"a.json": old_state(), "b.json": b'{"status": "idle",\n "a": '})
    code, out, _ = run("migrate", "old", "--apply", *FILE)
    assert code == 1
    assert "b.json: line 2 column 7: is not JSON" in out
    assert "it seems to be cut off: bring back a whole copy of it" in out
    assert "Applied: written 1, refused 1." in out


@pytest.mark.usefixtures("old")
def test_a_work_folder_of_ones_own(run: Run, tmp_path: Path) -> None:
    """It may lie in the source, where nothing of it is read; the hint names it and the file."""
    options = ("--work", "old/my plan", *FILE)
    for _ in range(2):
        code, out, notes = run("migrate", "old", *options)
        assert code == 0
        assert "Files (3)" in out
        assert notes.rstrip().endswith(
            "firestate migrate old --work 'old/my plan' --file state.db --apply"
        )
    assert (tmp_path / "old" / "my plan" / "plan.jsonl").exists()
    code, _, notes = run("migrate", "old", "--work", "old")
    assert code == 2
    assert "old is the source itself: keep plan and receipts in another folder" in notes


@pytest.mark.usefixtures("old")
def test_one_at_a_time(run: Run, tmp_path: Path) -> None:
    """A second run in the same work folder is refused while the first is at it."""
    with FolderWorkdir(tmp_path / ".firestate" / "migration").alone():
        code, _, notes = run("migrate", "old")
        assert code == 2
        assert "another migration is at work in .firestate/migration" in notes
        assert run("migrate", "old", "--work", "other")[0] == 0
    assert run("migrate", "old")[0] == 0


@pytest.mark.usefixtures("old")
def test_a_work_folder_that_takes_nothing(run: Run, tmp_path: Path) -> None:
    """It is told by its name, before anything is read."""
    (tmp_path / "work" / "lock").mkdir(parents=True)
    code, _, notes = run("migrate", "old", "--work", "work")
    assert code == 2
    assert "work cannot be written to: Is a directory" in notes


def test_no_receipt(run: Run, tmp_path: Path) -> None:
    """What is none is told to be none, with exit code 2."""
    written(tmp_path, {"receipt.jsonl": b'{"a": 1}'})
    run("migrate", str(tmp_path), *FILE, "--apply")
    code, _, notes = run("migrate", "undo", "receipt.jsonl", *FILE)
    assert code == 2
    assert "is no receipt of a migration" in notes


def test_help_teaches(run: Run) -> None:
    """Both ways of asking show how it goes, step by step."""
    assert "firestate migrate undo RECEIPT" in run("migrate", "--help")[1]
    assert "carries that plan out" in run("migrate", "old", "--help")[1]
