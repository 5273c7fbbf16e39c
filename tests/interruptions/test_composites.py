"""Calls that store several things store all of them or none, whatever ends them half-way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.chaos import settings
from tests.interruptions import composites
from tests.interruptions.calls import CASES
from tests.interruptions.composites import FULL, KILLED
from tests.interruptions.world import World

KINDS = ("killed", "full", "disk")

Told = dict[str, dict[str, list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def told() -> Told:
    """Run the programs beside each other: most of their time they wait."""
    with ThreadPoolExecutor(len(KINDS)) as pool:
        found = pool.map(lambda kind: composites.outcome(kind, settings.lines()), KINDS)
        return dict(zip(KINDS, found, strict=True))


def _check(records: list[dict[str, Any]], what: str) -> None:
    done = sum(bool(each.get("done")) for each in records)
    settings.tell(f"{what}: {done} times")
    assert [each for each in records if "problem" in each] == []
    assert done > 0


@pytest.mark.parametrize("name", KILLED)
@pytest.mark.timeout(7_200)  # the first test waits for the programs
def test_of_a_call_whose_process_is_killed_all_is_there_or_nothing(told: Told, name: str) -> None:
    """At any line; the next process in the folder finds it so, and goes on."""
    _check(told["killed"][name], f"{name}, killed")


@pytest.mark.parametrize("kind", ["full", "disk"])
@pytest.mark.parametrize("name", FULL)
@pytest.mark.timeout(7_200)
def test_a_call_for_which_there_is_no_room_has_done_nothing(
    told: Told, name: str, kind: str
) -> None:
    """The outbox is full, or the disk, at any of its steps; a call that returns has done it all."""
    _check(told[kind][name], f"{name}, {kind}")


@pytest.mark.parametrize("name", ["StateManager.resume", "StateManager.resume_from"])
def test_who_goes_on_with_a_session_can_do_so_again(name: str) -> None:
    """As after an interruption: whether it was done by then is not known to the program."""
    world = World(None)
    case = CASES[name]
    case.prepare(world, 1)
    first, second = case.call(world, 1), case.call(world, 1)
    assert first.identity == second.identity
    assert case.parts is not None
    assert all(case.parts(world, 1))
    world.mark(second)
    world.mark(world.agent)
    assert world.verify() == []
    world.close()
