"""The local engine's file: whose it is, who waits for it, what it forgets, what it survives."""

from __future__ import annotations

import sqlite3
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from firestate.audit.full import FullAudit
from firestate.client.outgoing import outgoing
from firestate.errors import ConfigurationError, UnavailableError
from firestate.ingest.outcomes import Outcome
from firestate.local.engine import LocalEngine
from firestate.schema.ids import GLOBAL_CONFIG, STATES
from firestate.schema.values import time_text
from firestate.stores.protocol import Add, Create, Query, Update
from firestate.stores.sqlite import SqliteStore
from firestate.stores.sqlite_values import microseconds
from tests.harness import event_message, state_message

if TYPE_CHECKING:
    from pathlib import Path


def system(engine: LocalEngine) -> dict[str, Any]:
    stored = engine.store.read(GLOBAL_CONFIG)
    assert stored is not None
    return stored.data


def failing(*_: object) -> None:
    message = "away"
    raise UnavailableError(message)


def test_files_that_are_no_files_of_ours(tmp_path: Path) -> None:
    """They are left as they are, and the error names them."""
    text = tmp_path / "notes.txt"
    text.write_text("nothing to do with it" * 100)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE users (name TEXT)")
    connection.close()
    before = [text.read_bytes(), other.read_bytes()]
    for file in (text, other, tmp_path):
        with pytest.raises(ConfigurationError, match=file.name):
            LocalEngine(file)
    assert [text.read_bytes(), other.read_bytes()] == before


def test_reads_of_the_past_end_somewhere(engine: LocalEngine) -> None:
    """What is not known any more is not guessed at."""
    engine.publish(outgoing(state_message(1)))
    at = engine.store.now()
    engine.publish(outgoing(state_message(2)))
    assert engine.store.total(Query(STATES), at=at) == {"count": 1}
    engine.store._file.forget_past(microseconds(datetime.now(UTC) + timedelta(hours=2)))
    with pytest.raises(UnavailableError, match="an hour"):
        engine.store.read("agent_states/Developer_a_1_s1", at=at)
    with pytest.raises(UnavailableError, match="an hour"):
        engine.store.total(Query(STATES), at=at)


def test_the_past_is_forgotten(tmp_path: Path) -> None:
    """By processes of any length: what is older than an hour, and what is too much."""
    hour = [datetime(2026, 11, 23, tzinfo=UTC)]
    for _ in range(3):
        store = SqliteStore(tmp_path / "state.db", clock=lambda: hour[0])
        for _ in range(5):
            store.commit([Add("things/a", {"n": 1})])
        hour[0] += timedelta(hours=2)
        ((left,),) = store._file.execute("SELECT count(*) FROM past")
        assert left <= 5
        store.close()
    store = SqliteStore(tmp_path / "state.db", clock=lambda: hour[0])
    for number in range(160):
        known = store.read("things/big")
        data = {"text": f"{number}" + "x" * 900_000}
        store.commit(
            [Update("things/big", known.token, data) if known else Create("things/big", data)]
        )
    ((size,),) = store._file.execute("SELECT sum(length(data)) FROM past")
    assert size < 85_000_000
    store.close()


def test_a_clock_that_goes_back(tmp_path: Path) -> None:
    """Commits keep their order, and what had failed under the wrong clock is tried again."""
    now = [datetime(2026, 11, 23, 5, tzinfo=UTC)]
    engine = LocalEngine(tmp_path / "state.db", clock=lambda: now[0], fold_interval_seconds=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("firestate.local.engine.derive_event", failing)
        engine.publish(outgoing(event_message("e1", timestamp=time_text(now[0]))))
        with pytest.raises(UnavailableError):
            engine.settle(timeout_seconds=0.1)
    before = engine.store.now()
    now[0] -= timedelta(hours=5)
    assert engine.store.now() > before
    engine.settle(timeout_seconds=5)
    assert system(engine)["system_metrics"]["coordination"]["total"] == 1
    engine.close()


def test_an_interrupt_while_waiting_for_the_file(tmp_path: Path) -> None:
    """Ctrl-C as a transaction begins leaves the file open to everybody."""
    engine = LocalEngine(tmp_path / "state.db")

    class Interrupted:
        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

        def execute(self, statement: str, *rest: Any) -> Any:
            done = self._connection.execute(statement, *rest)
            if statement == "BEGIN IMMEDIATE":
                raise KeyboardInterrupt
            return done

    connection = engine.store._file._connection
    engine.store._file._opened = Interrupted(connection)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        engine.publish(outgoing(event_message("e1")))
    engine.store._file._opened = connection
    assert engine.publish(outgoing(event_message("e1"))).outcome is Outcome.STORED
    engine.close()


def test_a_commit_is_on_the_disk_when_it_returns(tmp_path: Path) -> None:
    """The file is written ahead of, and synchronised at each commit."""
    store = SqliteStore(tmp_path / "state.db")
    assert store._file.execute("PRAGMA synchronous") == [(2,)]
    assert store._file.execute("PRAGMA journal_mode") == [("wal",)]
    store.close()


def test_a_file_that_cannot_be_used_for_a_while(tmp_path: Path) -> None:
    """Who publishes is told so; what was published before is counted as soon as it can be."""
    with LocalEngine(tmp_path / "state.db") as engine:
        other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
        engine.store._file._connection.execute("PRAGMA busy_timeout = 50")
        engine.publish(outgoing(event_message("e1")))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match="coordination/"):
            engine.publish(outgoing(event_message("e2")))
        time.sleep(0.3)
        other.execute("ROLLBACK")
        other.close()
        engine.publish(outgoing(event_message("e2")))
        engine.settle()
        assert system(engine)["system_metrics"]["coordination"]["total"] == 2


def test_two_engines_on_one_file(tmp_path: Path) -> None:
    """Both write and both work: each message is counted once."""
    with LocalEngine(tmp_path / "state.db") as one, LocalEngine(tmp_path / "state.db") as two:
        for number in range(30):
            (one if number % 2 else two).publish(outgoing(event_message(f"e{number}")))
        one.settle()
        two.settle()
        assert system(one)["system_metrics"]["coordination"]["total"] == 30
        assert FullAudit(two.store, timedelta(0)).run().findings == []
