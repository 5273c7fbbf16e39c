"""What an outbox reads is of one moment, whatever others put, send and forget meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from firestate.outbox import connections
from firestate.outbox.file import Outbox
from tests.agents.outbox_fixtures import PLENTY, event
from tests.agents.test_outbox_changes import noted, whole

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path

TABLES = ("events", "changes", "snapshots", "held_back", "flushes", "told")
READS: dict[str, Callable[[Outbox], Any]] = {
    "waiting": lambda outbox: outbox.waiting(-1),
    "waiting, some": lambda outbox: outbox.waiting(5),
    "states": lambda outbox: outbox.newest(snapshots=True),
    "states that wait": lambda outbox: outbox.newest(snapshots=True, waiting=True),
    "events": lambda outbox: outbox.newest(snapshots=False),
    "events that wait": lambda outbox: outbox.newest(snapshots=False, waiting=True),
    "snapshot": lambda outbox: outbox.snapshot("agent_states/a2"),
    "state": lambda outbox: outbox.state("agent_states/a2"),
    "held_back": lambda outbox: outbox.held_back(),
    "flushes": lambda outbox: outbox.flushes(),
    "told": lambda outbox: outbox.told(),
}


class Disturbed(connections._Connection):
    """A connection on which others write between the first row of a read and the next ones."""

    disturb: Callable[[], None] | None = None

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        cursor = super().execute(sql, parameters)
        disturb = type(self).disturb
        if disturb is not None and sql.lstrip().startswith("SELECT"):
            type(self).disturb = None
            disturb()
        return cursor


@pytest.fixture(params=["file", "memory"])
def outbox(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Outbox]:
    monkeypatch.setattr(connections, "_Connection", Disturbed)
    path = tmp_path / "outbox.db" if request.param == "file" else None
    made = Outbox(path, most_bytes=PLENTY)
    for number in range(5):
        made.put(whole(f"a{number}", (1, 1)), event(f"a{number}", number))
        for revision in range(2, 5):
            made.put(noted(f"a{number}", (1, revision)))
        made._connections.change("INSERT INTO held_back VALUES (?)", (f"agent_states/b{number}",))
        made.ask_flush(f"f{number}")
        made.note_told((f"m{number}", number))
    yield made
    Disturbed.disturb = None
    made.close()


@pytest.mark.parametrize("read", READS)
def test_what_is_read_is_of_one_moment(outbox: Outbox, read: str) -> None:
    before = READS[read](outbox)
    disturbed: list[str] = []

    def forget_all() -> None:
        for table in TABLES:
            outbox._connections.change(f"DELETE FROM {table}")  # noqa: S608 - of TABLES
            disturbed.append(table)

    Disturbed.disturb = forget_all
    assert READS[read](outbox) == before
    assert disturbed == [*TABLES]
    assert READS[read](outbox) != before


def test_what_is_sorted_stays_in_memory(outbox: Outbox) -> None:
    """A full disk stops no read, and no bytes of a state are left in files that nobody erases."""
    assert outbox._connections.rows("PRAGMA temp_store") == [(2,)]
