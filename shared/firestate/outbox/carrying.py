"""What an outbox holds, carried into a new file where its own has vanished or was replaced.

A process that has the former file open can still read it, also where it is removed. Another process
of the folder may have made the new file already, and carried the same into it: what is there stays,
unless it is earlier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from firestate.outbox.changes import apply_changes
from firestate.outbox.sql import HEAD
from firestate.outbox.writer import place_of, set_writer, writer_of

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    Row = tuple[Any, ...]

_SNAPSHOTS = "SELECT document, epoch, revision, seq, sent_at, agent, topic, data FROM snapshots"
_CHANGES = "SELECT document, epoch, revision, seq, data FROM changes WHERE document = ?"
_EVENTS = "SELECT seq, sent_at, document, agent, topic, data FROM events ORDER BY seq"
_PUT_EVENT = """
INSERT INTO events VALUES (
    max(?, 1 + coalesce((SELECT max(seq) FROM events), 0)), ?, ?, ?, ?, ?)
"""
_SMALL_TABLES = {"begun": "?, ?, ?, ?", "held_back": "?", "told": "?, ?"}


def carry_over(old: sqlite3.Connection, new: sqlite3.Connection, path: Path, writer: str) -> str:
    """Carry what is in a former file over to the one at `path`; return the name of its writer.

    That is the former `writer`, unless a process that knows nothing of the former file has begun
    to write meanwhile, under a name of its own: then what is carried goes on under that.
    """
    new.execute("BEGIN IMMEDIATE")
    try:
        name, place = writer_of(new) or (None, None)
        goes_on = name is None or name == writer or place != place_of(path)
        for row in old.execute(_SNAPSHOTS):
            _carry_state(old, new, row, None if goes_on else name)
        there = {document for (document,) in new.execute("SELECT document FROM events")}
        new.executemany(_PUT_EVENT, (row for row in old.execute(_EVENTS) if row[2] not in there))
        for table, marks in _SMALL_TABLES.items():
            rows = old.execute(f"SELECT * FROM {table}")  # noqa: S608 - of this module's words
            new.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", rows)  # noqa: S608 - the same
        if goes_on or name is None:
            name = writer
            set_writer(new, name, path)
    except BaseException:
        new.execute("ROLLBACK")
        raise
    new.execute("COMMIT")
    return name


def _carry_state(
    old: sqlite3.Connection, new: sqlite3.Connection, row: Row, writer: str | None
) -> None:
    document, epoch, revision, *_ = row
    changes = old.execute(_CHANGES, (document,)).fetchall()
    orders = [each[1:3] for each in changes]
    newest = max([(epoch, revision), *orders])
    head = new.execute(HEAD, {"document": document}).fetchone()
    if head is not None and head >= newest:
        return
    if writer is not None:
        row, changes = _under(writer, row, changes), []
    new.execute("DELETE FROM changes WHERE document = ?", (document,))
    new.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    new.executemany("INSERT INTO changes VALUES (?, ?, ?, ?, ?)", changes)


def _under(writer: str, row: Row, changes: list[Row]) -> Row:
    """Return a state with its changes, under another writer's name: one epoch above its own."""
    document, epoch, revision, seq, sent_at, agent, topic, data = row
    later = sorted(each for each in changes if each[1] == epoch and each[2] > revision)
    if data and later:
        data = apply_changes(data, [each[4] for each in later], later[-1][2])
        revision, sent_at = later[-1][2], None
    if data:
        data = to_json({**from_json(data), "writer": writer, "epoch": epoch + 1})
    return (document, epoch + 1, revision, seq, sent_at, agent, topic, data)
