"""The harness reaches each line, but for the exit of a `with` block, where no signal arrives."""

from __future__ import annotations

import asyncio
import threading
from typing import NoReturn

import pytest

from tests.interruptions import tracing
from tests.interruptions.tracing import Interrupted, Point

FILES = (__file__,)
LOCK = threading.Lock()


def _blocks(number: int) -> int:
    with LOCK:
        number += 1
        if number > 5:
            return number
    with LOCK, LOCK_OF_NOBODY:
        number += 2
    for _ in range(2):
        with LOCK:
            if number:
                continue
    try:
        with LOCK:
            raise ValueError  # noqa: TRY301 - a block that raises
    except ValueError:
        _nothing(None, None, None)
    return number


class _OfNobody:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


LOCK_OF_NOBODY = _OfNobody()


def _nothing(*_: None) -> None:
    return None


async def _awaits() -> None:
    async with _Async():
        await asyncio.sleep(0)


class _Async:
    async def __aenter__(self) -> None:
        LOCK.acquire()

    async def __aexit__(self, *_: object) -> None:
        LOCK.release()


def _interrupt() -> NoReturn:
    raise Interrupted


def _points_in_blocks(number: int) -> list[Point]:
    found = tracing.points_of(lambda: _blocks(number), FILES)
    return [each for each in found if each.function == "_blocks"]


@pytest.mark.parametrize("number", [0, 9])
def test_an_exception_at_any_point_leaves_no_lock_taken(number: int) -> None:
    for point in _points_in_blocks(number):
        outcome = tracing.at(point, _interrupt, lambda: _blocks(number))
        assert outcome.raised is Interrupted, point
        assert not LOCK.locked(), point


def test_of_a_block_the_entry_is_a_point_and_the_exit_is_none() -> None:
    points = _points_in_blocks(0)
    assert len(points) == len(set(points))
    first = _blocks.__code__.co_firstlineno
    entries = [(each.line - first, each.nth) for each in points if each.line - first in {1, 5, 8}]
    assert entries == [(1, 1), (5, 1), (8, 1), (8, 2)]


def test_a_nested_call_goes_on_behind_the_point() -> None:
    called: list[Point] = []
    for point in _points_in_blocks(0):
        outcome = tracing.at(point, lambda point=point: called.append(point), lambda: _blocks(0))  # type: ignore[misc]
        assert outcome == tracing.Outcome(fired=True)
    assert called == _points_in_blocks(0)


def test_the_exit_of_an_asynchronous_block_is_no_point() -> None:
    first = _awaits.__code__.co_firstlineno
    found = tracing.points_of(lambda: asyncio.run(_awaits()), FILES)
    lines = [each.line - first for each in found if each.function == "_awaits"]
    assert lines == [1, 2]
