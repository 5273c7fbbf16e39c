"""An outbox that an earlier release has written: each snapshot gets the key of its identity."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestate.outbox.file import Outbox
from firestate.outbox.former_keys import move_former_keys
from firestate.outbox.sql import SCHEMA
from firestate.schema.ids import Identity
from tests.agents.outbox_fixtures import PLENTY
from tests.harness import state_message, tombstone_message

if TYPE_CHECKING:
    from pathlib import Path

RED, SHORT = Identity("QA", "red_team", "lead_7"), Identity("QA", "red", "team_lead_7")
ODD = Identity("QA", "red_team", "lead_7~8")
PLAIN = Identity("Father", "agent_001", "session_123")

Row = tuple[str, int, int, int, float | None, str, str, bytes]


def row(
    who: Identity,
    revision: int = 1,
    *,
    key: str = "",
    column: Identity | None = None,
    sent_at: float | None = None,
    forgotten: bool = False,
    deleted: bool = False,
) -> Row:
    """Return a row as an earlier release has put it."""
    make = tombstone_message if deleted else state_message
    data = b"" if forgotten else json.dumps(make(revision, **who._asdict())).encode()
    agent = column or who
    return (
        key or who.former_state_path,
        1,
        revision,
        revision,
        sent_at,
        f"{agent.agent_type}_{agent.agent_id}",
        "agent-state",
        data,
    )


def moved(*rows: Row) -> dict[str, tuple[int, str]]:
    """Return revision and agent by key, after the move, and after a second one."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(SCHEMA)
        connection.executemany("INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        move_former_keys(connection)
        assert move_former_keys(connection) == 0
        found = connection.execute("SELECT document, revision, agent FROM snapshots").fetchall()
    return {document: (revision, agent) for document, revision, agent in found}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row(PLAIN)], {PLAIN.state_path: (1, "Father_agent_001")}),
        ([row(RED)], {RED.state_path: (1, "QA_red_team")}),
        ([row(RED, deleted=True)], {RED.state_path: (1, "QA_red_team")}),
        # The later put of another agent has taken the row, and the column names the first.
        ([row(SHORT, 2, column=RED)], {SHORT.state_path: (2, "QA_red")}),
        # Nothing but its order is left: the column and the rest of the key tell whose.
        ([row(RED, 3, sent_at=1.0, forgotten=True)], {RED.state_path: (3, "QA_red_team")}),
        # The new key of one is the former key of another.
        (
            [row(RED), row(ODD, 2)],
            {RED.state_path: (1, "QA_red_team"), ODD.state_path: (2, "QA_red_team")},
        ),
        # This release has put one under the new key already: the later stays.
        (
            [row(RED, 5), row(RED, 4, key=RED.state_path)],
            {RED.state_path: (5, "QA_red_team")},
        ),
        (
            [row(RED, 4), row(RED, 5, key=RED.state_path)],
            {RED.state_path: (5, "QA_red_team")},
        ),
        # The column is of an agent that the key does not name: it stays, and tells nothing.
        (
            [row(RED, 1, key="agent_states/X_a_b_c", sent_at=1.0, forgotten=True)],
            {"agent_states/X_a_b_c": (1, "QA_red_team")},
        ),
    ],
)
def test_each_snapshot_gets_the_key_of_its_identity(
    rows: list[Row], expected: dict[str, tuple[int, str]]
) -> None:
    """Whatever is left of it, and whoever else was under its key; a second move changes nothing."""
    assert moved(*rows) == expected


parts = st.text("ab_~1", min_size=1, max_size=4)


@given(st.lists(st.tuples(parts, parts), unique=True, max_size=6))
def test_no_two_identities_are_put_together(pairs: list[tuple[str, str]]) -> None:
    """Rows of one former key are one before; any others keep their own order."""
    identities = [Identity("T", *pair) for pair in pairs]
    latest = {who.former_state_path: (n, who) for n, who in enumerate(identities, 1)}
    found = moved(*(row(who, number) for number, who in latest.values()))
    assert {key: revision for key, (revision, _) in found.items()} == {
        who.state_path: number for number, who in latest.values()
    }


def test_a_file_is_moved_when_it_is_opened(tmp_path: Path) -> None:
    """Also one that is full, by a process that is killed in between: all or none is moved."""
    path = tmp_path / "outbox.db"
    Outbox(path, most_bytes=PLENTY).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        values: Any = [row(RED), row(SHORT, 2, key="agent_states/QA_red_team_lead_7~x")]
        connection.executemany("INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
    outbox = Outbox(path, most_bytes=1)
    assert {each.document for each in outbox.waiting(9)} == {RED.state_path, SHORT.state_path}
    outbox.close()
