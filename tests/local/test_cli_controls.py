"""Flags and the emergency stop, set from the command line on a local engine's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from firestate.client.outgoing import outgoing
from firestate.local.engine import LocalEngine
from firestate.schema.ids import CONTROLS
from firestate.stores.protocol import Create
from tests.harness import state_message

if TYPE_CHECKING:
    from tests.conftest import Run

FILE = Path(".firestate/state.db")


@pytest.fixture(autouse=True)
def engine_file(run: Run) -> None:
    """A file with one agent, where the command looks by itself."""
    del run  # it has gone into an empty folder
    with LocalEngine(FILE) as engine:
        engine.publish(outgoing(state_message(1)))
        engine.settle()


def test_flags(run: Run) -> None:
    """They are set, listed, taken away, and in `firestate system` when the command ends."""
    code, out, _ = run("flags")
    assert (code, out) == (0, "No feature flag is set: agents take their defaults.\n")
    assert run("flags", "set", "new planner", "on") == (0, "new planner is on.\n", "")
    assert run("flags", "set", "new planner", "on") == (0, "new planner was on already.\n", "")
    code, out, _ = run("flags", "set", "[red]old", "off", "--file", str(FILE), "--json")
    assert json.loads(out) == {"flag": "[red]old", "value": False, "changed": True}
    code, out, _ = run("flags", "--json")
    assert json.loads(out) == {"new planner": True, "[red]old": False}
    _, out, _ = run("flags")
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["[red]old", "off"],
        ["new", "planner", "on"],
    ]
    _, out, _ = run("system", "--json")
    assert json.loads(out)["feature_flags"] == {"new planner": True, "[red]old": False}
    assert run("flags", "unset", "new planner")[0] == 0
    code, _, err = run("flags", "unset", "new planner")
    assert code == 1
    assert "there is no flag new planner" in err
    code, out, _ = run("flags", "unset", "new planner", "--json")
    assert (code, json.loads(out)["changed"]) == (1, False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("set", "", "on"),
        ("set", "__name__", "on"),
        ("set", "x" * 1_501, "on"),
        ("set", "a", "maybe"),
        ("set", "a"),
        ("unset",),
        ("--file", str(FILE), "set", "a", "on"),
        ("--project", "p", "unset", "a"),
        ("--json", "set", "a", "on"),
    ],
)
def test_flags_used_wrongly(run: Run, arguments: tuple[str, ...]) -> None:
    """Exit code 2, and nothing is set; an option in the wrong place is not passed over."""
    code, out, err = run("flags", *arguments)
    assert (code, out) == (2, "")
    assert 0 < len(err) < 1_200
    assert json.loads(run("flags", "--json")[1]) == {}


def test_emergency_stop(run: Run) -> None:
    """It is set for a reason, shown with exit code 1, and lifted."""
    assert run("emergency-stop") == (0, "No emergency stop: agents may work.\n", "")
    code, out, err = run("emergency-stop", "on", "--reason", "fire in [hall]\x1b[2J")
    assert (code, err) == (0, "")
    assert out.startswith("EMERGENCY STOP: fire in [hall]\\u001b[2J (controls changed 0 s ago)")
    code, out, _ = run("emergency-stop")
    assert code == 1
    assert "fire in [hall]" in out
    code, out, _ = run("emergency-stop", "--json")
    assert code == 1
    assert json.loads(out) == {
        "emergency_stop": True,
        "emergency_reason": "fire in [hall]\x1b[2J",
    }
    assert "EMERGENCY STOP: fire in [hall]\\u001b[2J" in run("system")[1]
    assert run("emergency-stop", "off") == (0, "No emergency stop: agents may work.\n", "")
    assert "nothing was written" in run("emergency-stop", "off")[1]
    assert run("emergency-stop")[0] == 0
    assert "EMERGENCY" not in run("system")[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("on",),
        ("on", "--reason", " "),
        ("on", "--reason", "x" * 1_001),
        ("off", "--reason", "x"),
        ("--reason", "x"),
        ("perhaps",),
        ("on", "--reason", "x", "--file", "missing.db"),
    ],
)
def test_emergency_stop_used_wrongly(run: Run, arguments: tuple[str, ...]) -> None:
    """Exit code 2, and agents go on."""
    code, out, err = run("emergency-stop", *arguments)
    assert (code, out) == (2, "")
    assert 0 < len(err) < 1_200
    assert run("emergency-stop")[0] == 0


def test_damaged_controls(run: Run) -> None:
    """What is changed must be in order; what is wrong beside it stops no emergency stop."""
    with LocalEngine(FILE) as engine:
        engine.store.commit([Create(CONTROLS, {"feature_flags": {"new": "on"}, "note": 1})])
    assert "neither on nor off" in run("flags")[1]
    code, _, err = run("flags", "set", "other", "on")
    assert code == 3
    assert "feature_flags.new: must be true or false" in err
    assert len(err.splitlines()) == 1
    assert run("emergency-stop", "on", "--reason", "fire")[0] == 0
    assert run("flags", "set", "new", "on") == (0, "new is on.\n", "")
    with LocalEngine(FILE) as engine:
        stored = engine.store.read(CONTROLS)
    assert stored is not None
    assert (stored.data["note"], stored.data["emergency_stop"]) == (1, True)
