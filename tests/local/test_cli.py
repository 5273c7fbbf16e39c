"""The command on a file, without any emulator: the same as on a project."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from firestate.local.engine import LocalEngine
from firestate.schema.ids import shard_path
from firestate.stores.protocol import Add
from tests.harness import event_message, state_message, task

if TYPE_CHECKING:
    from tests.conftest import Run

FIRESTATE = Path(sys.executable).parent / "firestate"


@pytest.fixture
def replayed(run: Run, tmp_path: Path) -> str:
    """A file that some messages were replayed into."""
    lines = [
        json.dumps(message)
        for message in (
            state_message(1),
            state_message(2, status="busy", task_history=[task(1)]),
            event_message("e1", success=False, error_message="broken"),
            {"topic": "agent-state", "raw": "{}"},
        )
    ]
    (tmp_path / "messages.jsonl").write_text("\n".join(lines))
    code, out, err = run("replay", "messages.jsonl", "--file", "x/state.db", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["published"] == 4
    return "x/state.db"


def test_the_demo_on_a_file(run: Run) -> None:
    """It ends well, tells where all of it is, and can be looked at from there."""
    code, out, _ = run("demo", "--file", "demo.db", "--rate", "500")
    assert code == 0
    assert "0 drift" in out
    assert "firestate system --file demo.db" in out
    code, out, _ = run("system", "--file", "demo.db", "--json")
    assert json.loads(out)["total_agents_spawned"] == 15
    code, out, _ = run("memory", "Developer_dev_1", "--file", "demo.db", "--json")
    assert json.loads(out)["learning_context"]["sessions"] == 3


def test_each_view(run: Run, replayed: str) -> None:
    """What is stored in the file is shown, as a table and as JSON."""
    for command, shown in (
        (["system"], "agents ever spawned"),
        (["agents"], "a_1"),
        (["events"], "broken"),
        (["memory"], "Developer_a_1"),
        (["memory", "Developer_a_1"], "Learned patterns"),
        (["quarantine", "list"], "agent-state"),
        (["audit"], "0 drift"),
        (["rederive"], "1 unchanged"),
    ):
        code, out, err = run(*command, "--file", replayed)
        assert (code, err) == (0, ""), command
        assert shown in out, command
        code, out, err = run(*command, "--file", replayed, "--json")
        assert json.loads(out), command


def test_a_repair_is_folded_before_the_command_ends(run: Run, replayed: str) -> None:
    """What a repair sets off is done by the same command."""
    engine = LocalEngine(Path(replayed))
    engine.store.commit([Add(shard_path(0), {"spawned": 7})])
    engine.close()
    assert run("audit", "--file", replayed, "--grace", "0")[0] == 1
    assert run("audit", "--file", replayed, "--grace", "0", "--repair")[0] == 1
    assert run("audit", "--file", replayed, "--grace", "0")[0] == 0
    _, out, _ = run("system", "--file", replayed, "--json")
    assert json.loads(out)["total_agents_spawned"] == 1


def test_which_file(run: Run, replayed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named by an option, by a variable, or it is the one of the working folder."""
    code, _, err = run("agents")
    assert code == 2
    assert "--project" in err
    assert "--file" in err
    monkeypatch.setenv("FIRESTATE_FILE", replayed)
    assert run("agents")[0] == 0
    monkeypatch.delenv("FIRESTATE_FILE")
    Path(replayed).parent.rename(".firestate")
    assert run("agents")[0] == 0
    code, _, err = run("agents", "--project", "p", "--file", "x.db")
    assert code == 2
    assert "not both" in err


def test_a_named_project_goes_before_a_file_of_the_environment(
    run: Run, replayed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked of one is never done to the other."""
    monkeypatch.setenv("FIRESTATE_FILE", replayed)
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")
    code, _, err = run("quarantine", "drop", "--all", "--yes", "--project", "p")
    assert code == 3
    assert "127.0.0.1:1" in err


def test_the_demo_takes_no_file_by_chance(
    run: Run, replayed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A story is put into a file only where one is named."""
    Path(replayed).parent.rename(".firestate")
    assert run("demo")[0] == 2
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:1")
    code, _, err = run("demo")
    assert code in (2, 3)
    assert err


def test_files_that_cannot_be_used(run: Run) -> None:
    """One line says which file it is, and nothing is made of a name that was mistyped."""
    code, _, err = run("system", "--file", "missing.db")
    assert code == 2
    assert "missing.db" in err
    assert not Path("missing.db").exists()
    with sqlite3.connect("other.db") as connection:
        connection.execute("CREATE TABLE users (name TEXT)")
    connection.close()
    code, _, err = run("system", "--file", "other.db")
    assert code == 2
    assert "other.db is no file of Firestate's (it holds the tables of another program)" in err


def test_nothing_of_google_is_loaded_for_a_file(run: Run, replayed: str) -> None:
    """Where only the file is wanted, its command need not wait for libraries of the cloud."""
    del run
    script = (
        "import sys; from firestate.cli import main\n"
        "sys.argv = ['firestate', 'system', '--file', sys.argv[1]]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in sys.modules if m.startswith(('google.cloud.', 'grpc'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, replayed], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
