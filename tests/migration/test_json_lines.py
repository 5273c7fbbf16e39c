"""JSON Lines, lists of agents, and names that are no ids."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from firestate.migration.verify.comparison import Result
from tests.migration.migration_run import old_event, old_state

if TYPE_CHECKING:
    from tests.migration.conftest import Move


def test_a_log_of_lines(move: Move) -> None:
    """Each line is an entry; one that was cut off is named by its line, the others arrive."""
    lines = [json.dumps(old_event()), "", json.dumps(old_event(type="created")), '{"type": "del']
    moving = move({"log.jsonl": "\n".join(lines).encode()})
    found = moving.plan()
    assert [line.outcome for line in found] == ["write", "write", "refused"]
    assert found[2].place == "line 4 column 10"
    assert "cut off" in found[2].reason
    moving.apply()
    assert moving.verify().counts == {Result.EQUAL: 2, Result.REFUSED: 1}


def test_one_line_is_any_json(move: Move) -> None:
    """A file of one line is what it would be under any other name."""
    moving = move({"a.ndjson": {"agents": {"dev_1": old_state()}}})
    assert [line.at for line in moving.plan()] == ["agents.dev_1"]


def test_a_list_of_agents(move: Move) -> None:
    """It may stand under `agents`; what stands beside it is kept with the first."""
    moving = move({"a.json": {"agents": [old_state(), old_state("dev_2"), 5], "saved": "today"}})
    found = moving.plan()
    assert [(line.outcome, line.at or line.place) for line in found] == [
        ("write", "agents[0]"),
        ("write", "agents[1]"),
        ("refused", "agents[2]"),
    ]
    assert "beside.saved" in found[0].kept


def test_names_that_fit_alike_stay_two(move: Move) -> None:
    """What an id cannot hold becomes a hyphen, and a digest tells it from one that had it."""
    moving = move({"a.json": [old_state("w/1"), old_state("w-1", child_agent_ids=["w/1"])]})
    found = moving.plan()
    assert [line.outcome for line in found] == ["write", "write"]
    moving.apply()
    (parent,) = [each for each in found if each.target == "agent_states/Developer_w-1_s1"]
    stored = moving.store.read(parent.target)
    assert stored is not None
    (child,) = stored.data["child_agent_ids"]
    assert {each.target for each in found} == {
        parent.target,
        f"agent_states/Developer_{child}_s1",
    }
