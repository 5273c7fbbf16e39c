"""Whatever interrupts a call, at whatever line: the agent goes on, and nothing is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from firestate import Agent, StateManager
from firestate.agents.controls import Controls
from tests.chaos import settings
from tests.interruptions import injections
from tests.interruptions.calls import CASES, EXEMPT

WAYS = [(where, mode) for where in ("memory", "disk") for mode in ("raise", "call")]

MOST_LEFT_OUT = 10
"""Where it is every 11th line or fewer, one program of each way has time for all calls."""

Found = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def outcomes() -> dict[tuple[str, str], Found]:
    """Run a program for each way, beside each other: most of their time they wait.

    Each line of all calls takes one program over an hour, so then each way has four, one after the
    other: none of them needs more than a part of its time limit.
    """
    every = settings.lines()
    shares = [list(CASES)] if every > MOST_LEFT_OUT else [list(CASES)[n::4] for n in range(4)]
    runs = [(way, names) for names in shares for way in WAYS]
    with ThreadPoolExecutor(len(WAYS)) as pool:
        found = pool.map(lambda run: injections.outcome(run[0][0], run[0][1], every, *run[1]), runs)
        outcomes: dict[tuple[str, str], Found] = {way: {} for way in WAYS}
        for (way, _), part in zip(runs, found, strict=True):
            _add(outcomes[way], part)
    return outcomes


def _add(outcome: Found, part: Found) -> None:
    for name, each in part.items():
        known = outcome.setdefault(name, {"injected": 0, "problems": []})
        known["injected"] += each["injected"]
        known["problems"] += each["problems"]


@pytest.mark.parametrize("name", [*CASES, "in the end"])
@pytest.mark.parametrize(("where", "mode"), WAYS)
@pytest.mark.timeout(14_400)  # the first test waits for the programs
def test_a_call_that_is_interrupted_does_no_harm(
    outcomes: dict[tuple[str, str], Found], where: str, mode: str, name: str
) -> None:
    """`raise`: an exception at the line; `call`: a handler there that calls the same agent."""
    found = outcomes[where, mode][name]
    settings.tell(f"{name}, {where}, {mode}: {found['injected']} interruptions")
    assert found["problems"] == []


def test_lines_of_most_calls_were_reached(
    outcomes: dict[tuple[str, str], Found],
) -> None:
    for way in WAYS:
        injected = {name: each["injected"] for name, each in outcomes[way].items()}
        assert sum(map(bool, injected.values())) > 0.6 * len(CASES), injected


@pytest.mark.parametrize("kind", [StateManager, Agent, Controls])
def test_each_public_name_is_in_the_table_or_exempt_with_a_reason(kind: type) -> None:
    names = {
        name
        for each in kind.__mro__
        if each is not object and each.__module__.startswith("firestate")
        for name in vars(each)
        if not name.startswith("_") or name in {"__init__", "__enter__", "__exit__"}
    }
    known = {name.split(",")[0] for name in CASES} | EXEMPT.keys()
    assert (
        sorted(
            f"{kind.__name__}.{name}" for name in names if f"{kind.__name__}.{name}" not in known
        )
        == []
    )
