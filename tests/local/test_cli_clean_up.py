"""`firestate clean-up` on a local engine's file."""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from firestate.client.outgoing import outgoing
from firestate.local.engine import LocalEngine
from tests.harness import state_message

if TYPE_CHECKING:
    from tests.conftest import Run

FILE = Path(".firestate/state.db")
OLD = ("clean-up", "--older-than-days", "7")
STATES = {
    "old": ("terminated", 9),
    "older": ("terminated", 90),
    "new": ("terminated", 1),
    "idle": ("idle", 90),
    "busy": ("busy", 90),
}
NOT_OLD = {"new", "idle", "busy"}


@pytest.fixture(autouse=True)
def engine_file(run: Run) -> None:
    """A file where the command looks by itself, with sessions that ended and such that live."""
    del run  # it has gone into an empty folder
    now = datetime.now(UTC)
    with LocalEngine(FILE) as engine:
        for name, (status, days) in STATES.items():
            at = (now - timedelta(days=days)).isoformat()
            message = state_message(1, agent_id=name, status=status, last_active=at)
            engine.publish(outgoing(message))
        engine.settle()


def stored(run: Run) -> set[str]:
    return {each["agent_id"] for each in json.loads(run("agents", "--json")[1])}


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Be somebody at a terminal who answers so."""
    terminal = io.StringIO(text)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)


def test_a_dry_run_shows_what_would_go(run: Run) -> None:
    """By type, then one by one, the latest first; nothing is deleted."""
    code, out, err = run(*OLD, "--dry-run")
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["Ended,", "and", "last", "active", "more", "than", "7", "days", "ago:", "2", "sessions."],
        ["type", "sessions"],
        ["Developer", "2"],
        ["type", "agent", "session", "last", "active"],
        ["Developer", "old", "s1", "9", "d", "ago"],
        ["Developer", "older", "s1", "90", "d", "ago"],
    ]
    assert stored(run) == set(STATES)


def test_a_dry_run_lists_all_for_programs(run: Run) -> None:
    """Each session by its three ids, and the time before which it was active."""
    found = json.loads(run(*OLD, "--dry-run", "--json")[1])
    assert (found["dry_run"], found["found"]) == (True, 2)
    assert [each["agent_id"] for each in found["sessions"]] == ["old", "older"]
    assert found["sessions"][0].keys() == {"agent_type", "agent_id", "session_id", "last_active"}
    assert all(each["last_active"] < found["before"] for each in found["sessions"])
    assert stored(run) == set(STATES)


def test_what_has_ended_long_ago_is_deleted_and_the_counters_know(run: Run) -> None:
    """The living stay, at any age; what goes is shown among the notes, the result is one line."""
    code, out, err = run(*OLD, "--yes")
    assert (code, out) == (0, "2 deleted.\n")
    assert "older" in err
    assert stored(run) == NOT_OLD
    assert run("audit")[0] == 0
    assert json.loads(run("system", "--json")[1])["total_agents_spawned"] == len(STATES)
    code, out, err = run(*OLD)
    assert (code, out) == (0, "0 deleted.\n"), "where there is nothing nobody is asked"
    assert "No session has ended that was last active more than 7 days ago." in err


def test_programs_are_told_how_many(run: Run) -> None:
    """On the output JSON alone."""
    code, out, _ = run(*OLD, "--yes", "--json")
    result = json.loads(out)
    del result["before"]
    assert code == 0
    assert result == {"dry_run": False, "found": 2, "deleted": 2, "kept": 0, "damaged": 0}


def test_who_says_yes_at_a_terminal_deletes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """After having seen what goes."""
    answer(monkeypatch, "y\n")
    code, out, err = run(*OLD)
    assert (code, out.strip()) == (0, "2 deleted.")
    assert "Delete the states of 2 sessions for good?" in err
    assert stored(run) == NOT_OLD


def test_who_says_no_deletes_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1, as elsewhere."""
    answer(monkeypatch, "n\n")
    code, _, err = run(*OLD)
    assert code == 1
    assert "nothing was done" in err
    assert stored(run) == set(STATES)


def test_elsewhere_than_on_a_terminal_it_needs_yes(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduled job that forgot it deletes nothing, and says so."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    code, out, err = run(*OLD)
    assert (code, out) == (2, "")
    assert "--yes" in err
    assert stored(run) == set(STATES)


def test_what_is_taken_up_meanwhile_is_kept_and_told(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the deletion an agent may have gone on."""
    monkeypatch.setattr(
        "firestate.cli.clean_up.delete_ended", lambda _, identity, *__: identity.agent_id == "old"
    )
    code, out, err = run(*OLD, "--yes")
    assert (code, out) == (0, "1 deleted.\n")
    assert "1 were taken up or deleted meanwhile" in err


@pytest.mark.parametrize(
    "arguments",
    [(), *(("--older-than-days", days) for days in ("0", "-1", "nan", "inf", "40000", "x"))],
)
def test_what_is_no_age(run: Run, arguments: tuple[str, ...]) -> None:
    """Exit code 2, and nothing is deleted."""
    code, out, err = run("clean-up", *arguments, "--yes")
    assert (code, out) == (2, "")
    assert "older-than-days" in err
    assert stored(run) == set(STATES)


def test_the_longest_list_is_cut_for_people(run: Run) -> None:
    """Twenty are shown; all are counted."""
    at = (datetime.now(UTC) - timedelta(days=20)).isoformat()
    with LocalEngine(FILE) as engine:
        for number in range(30):
            message = state_message(1, agent_id=f"n{number}", status="terminated", last_active=at)
            engine.publish(outgoing(message))
        engine.settle()
    out = run(*OLD, "--dry-run")[1]
    assert "32 sessions" in out
    assert out.endswith("... and 12 more: --dry-run --json lists all.\n")
