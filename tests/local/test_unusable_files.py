"""Files that are damaged, of others, or read-only: one error, with the path and what to do."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from firestate import StateFileError
from firestate.client.outgoing import outgoing
from firestate.local.engine import LocalEngine
from firestate.queries import ALL_STATES, BY_STATUS
from firestate.stores.sqlite import SqliteStore
from tests.harness import event_message, state_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Run

_NOBODY = 65_534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that another user may look into; pytest's own may not be."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


@pytest.fixture
def file(folder: Path) -> Path:
    file = folder / "state.db"
    with closing(LocalEngine(file, fold_interval_seconds=0)) as engine:
        engine.publish(outgoing(state_message(1)))
        engine.publish(outgoing(event_message("e1")))
        engine.settle()
    file.chmod(0o444)
    return file


@contextmanager
def another_user() -> Iterator[None]:
    """Do what is inside as somebody who owns nothing; root may write to everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def told(error: StateFileError, path: Path, *words: str) -> None:
    text = str(error)
    assert text.startswith(str(path))
    assert error.path == str(path)
    assert all(word in text for word in words), text


def snapshot(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def test_a_read_only_file_is_told_and_can_be_looked_at(file: Path) -> None:
    """Whoever only looks changes nothing in its folder."""
    file.parent.chmod(0o555)
    before = snapshot(file.parent)
    with another_user():
        with pytest.raises(StateFileError) as raised:
            LocalEngine(file)
        assert raised.value.readable
        told(raised.value, file, "cannot be written", "let this user write", "firestate agents")
        with closing(LocalEngine(file, read_only=True)) as engine:
            (state,) = engine.store.query(ALL_STATES.query())
            assert list(engine.store.query(BY_STATUS.query({"status": "idle"}))) == [state]
            assert engine.store.read(state.path) == state
            at = engine.store.now()
            assert engine.store.total(ALL_STATES.query(), at=at) == {"count": 1}
            with pytest.raises(StateFileError, match="cannot be written"):
                engine.publish(outgoing(state_message(2)))
    assert snapshot(file.parent) == before


def test_a_read_only_file_that_somebody_is_writing_to(file: Path) -> None:
    """What is committed, and in the journal alone, is seen."""
    file.chmod(0o644)
    with closing(LocalEngine(file)) as writer:
        writer.publish(outgoing(state_message(2, status="busy")))
        with closing(LocalEngine(file, read_only=True)) as engine:
            (state,) = engine.store.query(ALL_STATES.query())
            assert state.data["status"] == "busy"


def test_commands_that_read_work_on_it(file: Path, run: Run) -> None:
    """Those that write are told why not, with the exit code of a wrong set-up."""
    file.parent.chmod(0o555)
    with another_user():
        code, out, _ = run("agents", "--file", str(file), "--json")
        assert (code, len(json.loads(out))) == (0, 1)
        for command in (["system"], ["events"], ["quarantine", "list"], ["memory"], ["audit"]):
            assert run(*command, "--file", str(file))[0] == 0, command
        code, _, err = run("rederive", "--file", str(file))
        assert code == 2
        assert str(file) in err
        assert "cannot be written" in err


def test_a_file_of_an_earlier_release_can_be_looked_at(file: Path) -> None:
    """Without the indexes that this one would make, it is read through."""
    file.chmod(0o644)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        kept = {"documents_by_kind", "past_by_kind"}
        for name, kind in connection.execute(
            "SELECT name, type FROM sqlite_schema WHERE sql IS NOT NULL"
        ).fetchall():
            if (kind == "index" and name not in kept) or name in {"expiry", "erasures"}:
                connection.execute(f"DROP {kind} {name}")
    with closing(LocalEngine(file, read_only=True)) as engine:
        assert len(list(engine.store.query(BY_STATUS.query({"status": "idle"})))) == 1
        assert len(list(engine.store.query(BY_STATUS.query({"status": "busy"})))) == 0


def test_a_damaged_file_is_told_wherever_it_is_found(file: Path) -> None:
    """At its opening, or at the first read that comes to the damage."""
    file.chmod(0o644)
    content = bytearray(file.read_bytes())
    for start in range(4096, len(content), 4096):
        content[start : start + 512] = b"\xa5" * 512
    file.write_bytes(content)
    with pytest.raises(StateFileError) as raised, closing(LocalEngine(file)) as engine:
        list(engine.store.query(ALL_STATES.query()))
    told(raised.value, file, "is damaged", "restore it", ".recover")
    assert not raised.value.readable


@pytest.mark.parametrize("how", ["to work", "to look"])
def test_files_of_others_are_told_and_left(folder: Path, how: str) -> None:
    """A text, a database of another program, a folder, a file of a later release."""
    text, other, later = folder / "notes.txt", folder / "other.db", folder / "later.db"
    text.write_text("nothing to do with it" * 100)
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE users (name TEXT)")
    with closing(SqliteStore(later)) as store:
        store._file.execute("PRAGMA user_version = 7")
    before = snapshot(folder)
    for path, words in (
        (text, ("no file of Firestate's", "name another file")),
        (other, ("tables of another program", "name another file")),
        (later, ("another release (version 7, this one 1)", "newer release")),
        (folder, ()),
    ):
        with pytest.raises(StateFileError) as raised:
            LocalEngine(path, read_only=how == "to look")
        told(raised.value, path, *words)
        assert not raised.value.readable
    assert snapshot(folder) == before


def test_a_file_that_is_not_there_is_not_made_to_be_looked_at(folder: Path) -> None:
    """It is told, and nothing is made."""
    with pytest.raises(StateFileError, match="is not there"):
        LocalEngine(folder / "none.db", read_only=True)
    assert snapshot(folder) == {}


def test_a_place_where_no_file_can_be_made(folder: Path) -> None:
    """The error names the file that was wanted."""
    (folder / "text").write_text("no folder")
    with pytest.raises(StateFileError, match="name another place") as raised:
        LocalEngine(folder / "text" / "state.db")
    told(raised.value, folder / "text" / "state.db")


def test_a_fault_that_stays_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """It is met twice a second; once it has gone and comes back, it is logged again."""
    with closing(LocalEngine()) as engine, pytest.MonkeyPatch.context() as patch:
        for _ in range(2):
            with patch.context() as broken:
                broken.setattr(engine.store.triggers, "due", damaged)
                for _ in range(5):
                    assert not engine._tried(("derive_state",))
            engine._tried(("derive_state",))
    assert [each.getMessage() for each in caplog.records] == [
        "the queue cannot be used for now: a.db is damaged: restore it"
    ] * 2


def damaged(*_: object) -> None:
    raise StateFileError("a.db", "is damaged", "restore it")
