"""Many sessions of one agent that are written or deleted at once are counted in one commit."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from firestate.audit.full import FullAudit
from firestate.client.outgoing import outgoing
from firestate.errors import ConflictError
from firestate.local.engine import LocalEngine
from firestate.schema.ids import GLOBAL_CONFIG
from tests.harness import everything, state_message, task, tombstone_message

if TYPE_CHECKING:
    import pytest


def fill(engine: LocalEngine, sessions: int) -> None:
    for number in range(sessions):
        kinds = [task(n, kind=f"k{number % 7}") for n in range(3)]
        message = state_message(number + 1, session_id=f"s{number}", task_history=kinds)
        engine.publish(outgoing(message))
        engine.settle()


def delete(engine: LocalEngine, sessions: int) -> None:
    for number in range(sessions):
        engine.publish(outgoing(tombstone_message(9_000, session_id=f"s{number}")))


def rows_read(engine: LocalEngine, sessions: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many ledger rows are read as so many sessions are deleted."""
    fill(engine, sessions)
    delete(engine, sessions)
    read = [0]

    def counted(row: tuple[Any, ...], *rest: Any) -> Any:
        read[0] += "/sessions/" in row[0]
        return stored_in(row, *rest)

    from firestate.stores.sqlite_queries import stored_in  # noqa: PLC0415 - as it is before

    with monkeypatch.context() as patch:
        patch.setattr("firestate.stores.sqlite_queries.stored_in", counted)
        patch.setattr("firestate.stores.sqlite.stored_in", counted)
        engine.settle()
    return read[0]


def test_deleting_n_sessions_reads_their_rows_and_folds_once(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row is read, read again in the one fold, and compared as it is written: 3 n, not n²."""
    assert rows_read(engine, 120, monkeypatch) <= 3 * 120


def test_together_or_one_by_one_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, memory and counters agree, whatever was deleted, and the audit finds them right."""
    found = []
    for together in (True, False):
        with (
            closing(LocalEngine(fold_interval_seconds=0)) as engine,
            monkeypatch.context() as patch,
        ):
            if not together:
                patch.setattr(engine, "_handled_together", lambda _: [])
            fill(engine, 70)
            delete(engine, 65)
            for revision in (10_000, 10_001):
                engine.publish(outgoing(state_message(revision, session_id="s68", status="busy")))
            engine.settle()
            assert FullAudit(engine.store, timedelta(0)).run().findings == []
            system = engine.store.read(GLOBAL_CONFIG)
            assert system is not None
            assert system.data["current_agent_count"] == 5
            memories = {
                path: {k: v for k, v in data.items() if k not in {"changes", "counted"}}
                for path, data in everything(engine.store).items()
                if path.startswith("agent_memory/")
            }
            found.append(memories)
    assert found[0] == found[1]


def test_where_it_cannot_be_done_together_it_is_done_one_by_one(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is in the way, nothing is lost, and nothing is counted twice."""

    def refused(*_: object) -> None:
        raise ConflictError("somebody else was first")

    fill(engine, 5)
    delete(engine, 4)
    with monkeypatch.context() as patch:
        patch.setattr("firestate.local.engine.derive_states", refused)
        engine.settle(timeout_seconds=10)
    assert FullAudit(engine.store, timedelta(0)).run().findings == []


def test_the_same_triggers_again_change_nothing(engine: LocalEngine) -> None:
    """A crash after the commit brings them again."""
    fill(engine, 3)
    delete(engine, 3)
    due = engine.store.triggers.due(engine._clock(), 99, ("derive_state",))
    assert len(engine._handled_together(due)) == len(due)
    before = everything(engine.store)
    assert len(engine._handled_together(due)) == len(due)
    assert everything(engine.store) == before
