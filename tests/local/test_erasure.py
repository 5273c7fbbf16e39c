"""A deletion leaves no byte in any file of the folder."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from firestate import StateManager
from firestate.agents.backends.local import LocalBackend
from firestate.audit.full import FullAudit
from firestate.client.outgoing import outgoing
from firestate.errors import UnavailableError
from firestate.local.engine import LocalEngine
from firestate.outbox.entries import NewEntry
from firestate.outbox.file import Outbox
from firestate.queries import ALL_STATES
from firestate.schema.ids import EXPIRING, GLOBAL_CONFIG, STATES
from firestate.stores.protocol import Create, Query, Remove, Update
from firestate.stores.sqlite import SqliteStore
from tests.agents.environments import eventually
from tests.agents.outbox_fixtures import PLENTY
from tests.harness import event_message, state_message, task, tombstone_message

if TYPE_CHECKING:
    from pathlib import Path

MARKER = "secret-marker-4711"
NOW = timedelta(0)


def files_with(folder: Path, marker: str = MARKER) -> list[str]:
    """Return the names of the files that hold the marker."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path.name for path in files if marker.encode() in path.read_bytes()]


def noted(engine: LocalEngine, count: int = 5) -> None:
    """Publish states that hold the marker in all that a user can put into one."""
    for number in range(1, count + 1):
        notes = {f"note{n}": {"value": f"{MARKER} {n}"} for n in range(number)}
        tasks = [task(n) | {"description": f"{MARKER} {n}"} for n in range(number)]
        message = state_message(
            number, memory_context=notes, task_history=tasks, current_task=MARKER
        )
        engine.publish(outgoing(message))
    engine.settle()


def test_after_a_delete_the_marker_is_in_no_file_of_the_folder(tmp_path: Path) -> None:
    """While the manager is open still, with other agents at work beside it."""
    with StateManager(folder=tmp_path) as manager:
        others = [manager.start("QA", f"other_{n}") for n in range(30)]
        agent = manager.start("Developer", "one", session_id="s1")
        for number in range(40):
            agent.remember(f"note{number}", f"{MARKER} {number}" * (1 + number % 7 * 40))
            agent.update(current_task=f"{MARKER} {number}")
            agent.save()
            others[number % 30].remember("note", f"harmless {number}").save()
        assert manager.settle()
        assert files_with(tmp_path)
        manager.delete("Developer", "one", "s1")
        eventually(lambda: not files_with(tmp_path))
        assert manager.load("QA", "other_1", others[1].identity.session_id).value is not None


def test_it_is_erased_when_the_engine_is_closed(tmp_path: Path) -> None:
    """Also where it has lived for less than a second since."""
    with LocalEngine(tmp_path / "state.db", fold_interval_seconds=0) as engine:
        noted(engine)
        engine.publish(outgoing(tombstone_message(9)))
        engine.settle()
    assert files_with(tmp_path) == []


def test_a_large_file_is_not_written_anew_by_whoever_closes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is noted in the file, and a process that lives for some seconds does it."""
    with monkeypatch.context() as patch, LocalEngine(tmp_path / "state.db") as engine:
        patch.setattr("firestate.local.engine._QUICKLY_WRITTEN", engine.store.size() - 1)
        token = engine.store.commit([Create("things/a", {"text": MARKER})])
        engine.store.commit([Remove("things/a", token)])
        engine.close()
    with LocalEngine(tmp_path / "state.db") as engine:
        assert engine.store.erasures.count() == 1
    assert files_with(tmp_path) == []


def test_after_a_deletion_an_audit_leaves_out_the_figures_of_the_last_sweep(
    tmp_path: Path,
) -> None:
    """They are of a time of which nothing is known any more; all else is compared."""
    with closing(LocalEngine(tmp_path / "state.db", fold_interval_seconds=0)) as engine:
        noted(engine)
        engine.sweep()
        engine.publish(outgoing(tombstone_message(9)))
        engine.settle()
        assert engine.erase()
        assert FullAudit(engine.store, NOW).run().findings == []
        found = engine.store.read(GLOBAL_CONFIG)
        assert found is not None
        engine.store.commit([Update(GLOBAL_CONFIG, found.token, {"total_agents_spawned": 7})])
        (finding,) = FullAudit(engine.store, NOW).run().findings
        assert (finding.field, finding.found) == ("total_agents_spawned", 7)


def test_what_was_not_counted_is_not_erased_before(tmp_path: Path) -> None:
    """The past of what deriving changes must go with it."""
    with closing(LocalEngine(tmp_path / "state.db", fold_interval_seconds=0)) as engine:
        noted(engine)
        engine.publish(outgoing(tombstone_message(9)))
        assert not engine.erase()
        assert engine.store.erasures.count() == 1
        engine.settle()
        assert engine.erase()
        assert files_with(tmp_path) == []


def test_triggers_of_a_deleted_state_are_those_of_its_deletion(tmp_path: Path) -> None:
    """What earlier versions have set off is forgotten, and the counters are right all the same."""
    with closing(LocalEngine(tmp_path / "state.db", fold_interval_seconds=0)) as engine:
        for revision in range(1, 5):
            kinds = [task(n) | {"kind": f"{MARKER}-{n}"} for n in range(revision)]
            engine.publish(outgoing(state_message(revision, task_history=kinds)))
        engine.publish(outgoing(tombstone_message(9)))
        functions = engine.store._file.execute("SELECT function FROM triggers")
        assert functions == [("derive_state",)]
        engine.settle()
        row = engine.store.read("agent_memory/Developer_a_1/sessions/s1")
        assert row is not None
        assert row.data["contribution"]["spawned"] == 1
        assert engine.erase()
        assert files_with(tmp_path) == []


def test_a_reader_of_another_process_is_waited_for(tmp_path: Path) -> None:
    """The journal is cut once it is done; until then nothing is called erased."""
    with closing(LocalEngine(tmp_path / "state.db", fold_interval_seconds=0)) as engine:
        noted(engine)
        with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM documents").fetchall()
            engine.publish(outgoing(tombstone_message(9)))
            engine.settle()
            assert not engine.erase()
            assert files_with(tmp_path)
        assert engine.erase()
        assert files_with(tmp_path) == []


def test_a_crash_between_any_two_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens the file next goes on where it has ended."""
    for step in ("forget_all_past", "write_anew", "truncate_journal"):
        path = tmp_path / step / "state.db"
        with closing(LocalEngine(path, fold_interval_seconds=0)) as engine:
            noted(engine)
            engine.publish(outgoing(tombstone_message(9)))
            engine.settle()
            with monkeypatch.context() as patch:
                patch.setattr(engine.store._file, step, crash)
                with pytest.raises(KeyboardInterrupt):
                    engine.erase()
        with LocalEngine(path) as engine:
            assert engine.store.erasures.count() == 1
        assert files_with(tmp_path / step) == []


def crash(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_file_of_an_earlier_release_is_written_anew_once(tmp_path: Path) -> None:
    """What that has deleted may lie in any page; afterwards nothing is left to do."""
    path = tmp_path / "state.db"
    with closing(SqliteStore(path)) as store:
        store._file.execute("PRAGMA secure_delete = OFF")
        token = store.commit([Create("things/a", {"text": MARKER * 2_000})])
        store.commit([Remove("things/a", token)])
        store._file.execute("DELETE FROM past")
        store._file.execute("DROP TABLE erasures")
    assert files_with(tmp_path) == ["state.db"]
    with LocalEngine(path) as engine:
        assert engine.store.erasures.count() == 1
    assert files_with(tmp_path) == []
    with closing(LocalEngine(path)) as engine:
        assert engine.store.erasures.count() == 0


def test_what_has_expired_is_erased(tmp_path: Path) -> None:
    """Expiry is a deletion."""
    with closing(LocalEngine(tmp_path / "state.db")) as engine:
        past = datetime(2026, 1, 1, tzinfo=UTC)
        engine.store.commit(
            [Create(f"{STATES}/{n}", {"a": MARKER, "expire_at": past}) for n in "ab"]
        )
        engine.store._file.execute("DELETE FROM triggers")
        assert engine.store.expired.remove(EXPIRING, datetime.now(UTC)) == 2
        assert engine.erase()
        assert files_with(tmp_path) == []


@pytest.mark.parametrize("seed", range(6))
def test_of_many_documents_only_those_that_are_there(tmp_path: Path, seed: int) -> None:
    """SQLite moves what it holds from page to page, and leaves copies: none stays."""
    chance = random.Random(seed)
    most = [60, 900, 9_000][seed % 3]
    there: dict[str, str] = {}
    with closing(SqliteStore(tmp_path / "state.db")) as store:
        store._file.execute("PRAGMA synchronous = OFF")
        for number in range(600):
            path = f"things/{chance.randrange(80)}"
            known = store.read(path)
            marker = f"<{number:06}>"
            data = {"text": marker + "x" * chance.randrange(most)}
            if known is None:
                store.commit([Create(path, data)])
            elif chance.random() < 0.4:
                store.commit([Remove(path, known.token)])
            else:
                store.commit([Update(path, known.token, data)])
            there[path] = marker
        last = {each.path for each in store.query(Query("things"))}
        gone = store.commit([Create("things/last", {})])
        store.commit([Remove("things/last", gone)])
        assert store.erasures.erase(datetime.now(UTC), NOW)
        content = (tmp_path / "state.db").read_bytes()
        kept = {there[path] for path in last}
        assert [
            m for n in range(600) if (m := f"<{n:06}>").encode() in content and m not in kept
        ] == []


def test_reads_of_a_time_before_are_refused(tmp_path: Path) -> None:
    """They would find less than was there; a read that has just begun is given some seconds."""
    with closing(LocalEngine(tmp_path / "state.db", fold_interval_seconds=0)) as engine:
        noted(engine)
        at = engine.store.now()
        engine.publish(outgoing(tombstone_message(9)))
        engine.settle()
        assert not engine.erase(timedelta(seconds=5))
        assert len(list(engine.store.query(ALL_STATES.query(), at=at))) == 1
        engine.erase()
        with pytest.raises(UnavailableError, match="an hour at most"):
            list(engine.store.query(ALL_STATES.query(), at=at))
        assert len(list(engine.store.query(ALL_STATES.query()))) == 1


def test_nothing_is_done_where_nothing_was_deleted(tmp_path: Path) -> None:
    """One statement looks, and none writes."""
    with closing(LocalEngine(tmp_path / "state.db")) as engine:
        engine.publish(outgoing(event_message("e1")))
        ran: list[str] = []
        engine.store._file._connection.set_trace_callback(ran.append)
        assert engine.erase()
        assert ran == ["SELECT count(*) FROM erasures"]


def test_every_connection_deletes_securely(tmp_path: Path) -> None:
    """Those of both files, however many there are."""
    backend = LocalBackend(tmp_path / "state.db")
    assert backend.engine.store._file.execute("PRAGMA secure_delete") == [(1,)]
    backend.close()
    with closing(Outbox(tmp_path / "outbox.db", most_bytes=PLENTY)) as outbox:
        for _ in range(3):
            connection = outbox._connections._opened(beyond_bound=False)
            assert connection.execute("PRAGMA secure_delete").fetchall() == [(1,)]
            connection.close()


def put(outbox: Outbox, revision: int, data: bytes) -> None:
    assert outbox.put(NewEntry(f"{STATES}/a", "a", "t", data, (1, revision)))


def test_an_outbox_is_erased_as_soon_as_nobody_reads_it(tmp_path: Path) -> None:
    """A snapshot that a tombstone has replaced is in neither file nor journal."""
    path = tmp_path / "outbox.db"
    with closing(Outbox(path, most_bytes=PLENTY)) as outbox:
        for revision in range(1, 30):
            put(outbox, revision, f"{MARKER} {revision}".encode() * revision)
        put(outbox, 30, b"deleted")
        outbox.note_deletion()
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM snapshots").fetchall()
            assert not outbox.erase()
        outbox._erase_at = 0.0
        assert outbox.erase()
        assert files_with(tmp_path) == []
        assert outbox.erase()


def test_an_outbox_of_an_earlier_release_is_written_anew_once(tmp_path: Path) -> None:
    """What that has forgotten may lie in its free pages."""
    path = tmp_path / "outbox.db"
    with closing(Outbox(path, most_bytes=PLENTY)) as outbox:
        outbox._connections.change("PRAGMA secure_delete = OFF")
        put(outbox, 1, MARKER.encode() * 2_000)
        outbox._connections.change("DELETE FROM snapshots")
        outbox._connections.change("DROP TABLE erasures")
    assert files_with(tmp_path) == ["outbox.db"]
    with closing(Outbox(path, most_bytes=PLENTY)) as outbox:
        assert outbox.erase()
        assert files_with(tmp_path) == []
        assert outbox._rows("SELECT * FROM erasures") == []
    with closing(Outbox(path, most_bytes=PLENTY)) as outbox:
        assert outbox._rows("SELECT * FROM erasures") == []
