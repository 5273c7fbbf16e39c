"""Snapshots that an earlier release has kept under the plain join of their ids.

Two agents could share such a key (schema/ids). When an outbox is opened, each snapshot gets the key
that belongs to its identity: in one transaction, so that a crash leaves all or none of them moved.
Rows that hold nothing but an order any more (their bytes are forgotten) say whose they are by the
column `agent`, and by what follows it in the key.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from firestate.schema.ids import STATES, Identity, read_state_id

if TYPE_CHECKING:
    import sqlite3

    Row = tuple[Any, ...]

# A key with just three underscores, one in the collection's name and two joints, can be read in
# one way only; unless it ends in a mark.
_AMBIGUOUS = """
SELECT document, epoch, revision, seq, sent_at, agent, topic, data FROM snapshots
WHERE length(document) - length(replace(document, '_', '')) > 3 OR document GLOB '*~[0-9]*'
"""
_INSERT = """
INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (document) DO UPDATE
SET epoch = excluded.epoch, revision = excluded.revision, seq = excluded.seq,
    sent_at = excluded.sent_at, agent = excluded.agent, topic = excluded.topic, data = excluded.data
WHERE (epoch, revision) < (excluded.epoch, excluded.revision)
    AND (excluded.data != x'' OR snapshots.data = x'')
    OR snapshots.data = x'' AND excluded.data != x''
"""


def move_former_keys(connection: sqlite3.Connection) -> int:
    """Give each snapshot the key of its identity; return how many rows have changed.

    Where there is one under that key already, the later stays; but one that is to be sent is
    never given up for one that holds nothing but its order. Call it again at any time.
    """
    if not _moves(connection):
        return 0  # most have none to move: nobody is kept from writing
    connection.execute("BEGIN IMMEDIATE")
    try:
        moves = _moves(connection)
        # All are taken out first: the new key of one can be the former key of another.
        connection.executemany(
            "DELETE FROM snapshots WHERE document = ?", [(row[0],) for row, _ in moves]
        )
        connection.executemany(_INSERT, [moved for _, moved in moves])
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return len(moves)


def _moves(connection: sqlite3.Connection) -> list[tuple[Row, Row]]:
    found = [(row, _moved(row)) for row in connection.execute(_AMBIGUOUS).fetchall()]
    return [(row, moved) for row, moved in found if moved != row]


def _moved(row: Row) -> Row:
    """Return a row with the key and the agent of its identity; as it is where nothing tells it."""
    document, epoch, revision, seq, sent_at, agent, topic, data = row
    identity = _identity_in(data) if data else _identity_of(document, agent)
    if identity is None:
        return row
    # The column names the agent that has put the first snapshot under a shared key.
    owner = f"{identity.agent_type}_{identity.agent_id}"
    return (identity.state_path, epoch, revision, seq, sent_at, owner, topic, data)


def _identity_of(document: str, agent: str) -> Identity | None:
    known = read_state_id(document.partition("/")[2])
    if known is not None and f"{known.agent_type}_{known.agent_id}" == agent:
        return known
    agent_type, _, agent_id = agent.partition("_")
    session_id = document.removeprefix(f"{STATES}/{agent}_")
    if session_id == document or not session_id:
        return None
    return Identity(agent_type, agent_id, session_id)


def _identity_in(data: bytes) -> Identity:
    raw: dict[str, Any] = json.loads(data)
    fields = raw["deleted"] if "deleted" in raw else raw["state"]
    return Identity(*(fields[name] for name in Identity._fields))
