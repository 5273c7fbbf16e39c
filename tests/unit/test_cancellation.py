"""Which exceptions break work off, and which say that it failed."""

from __future__ import annotations

import asyncio
import concurrent.futures

import pytest

from firestate.agents.state.cancellation import is_cancellation


class Cancelled(BaseException):
    """As trio and anyio name theirs."""


class PanicException(BaseException):
    """As a panic of Rust code comes: no Exception, and no cancellation."""


class MadeUp(BaseException):
    """As frameworks have for a cancellation of their own."""


class MadeUpGroup(BaseExceptionGroup[BaseException]):
    """A framework's own group."""


CANCELLED = asyncio.CancelledError()
FAILED = ValueError("no")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (asyncio.CancelledError(), True),
        (asyncio.CancelledError("why"), True),
        (concurrent.futures.CancelledError(), True),
        (KeyboardInterrupt(), True),
        (GeneratorExit(), True),
        (MadeUp(), False),
        (Cancelled(), True),
        (PanicException(), False),
        (SystemExit(), True),
        (SystemExit(None), True),
        (SystemExit(0), True),
        (SystemExit(1), False),
        (SystemExit(-1), False),
        (SystemExit("no such file"), False),
        (SystemExit(""), False),
        (Exception(), False),
        (FAILED, False),
        (OSError(), False),
        (MemoryError(), False),
        (RecursionError(), False),
        (StopIteration(), False),
        (StopAsyncIteration(), False),
        (TimeoutError(), False),
        (asyncio.TimeoutError(), False),  # noqa: UP041 - by the name that people know it by
        (concurrent.futures.TimeoutError(), False),
        (asyncio.InvalidStateError(), False),
        (concurrent.futures.BrokenExecutor(), False),
    ],
    ids=repr,
)
def test_an_exception(error: BaseException, expected: bool) -> None:  # noqa: FBT001 - a table's
    """A cancellation, Ctrl-C, a reader that left or a way out is one; an error is none."""
    assert is_cancellation(error) is expected


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([CANCELLED], True),
        ([CANCELLED, KeyboardInterrupt(), Cancelled()], True),
        ([CANCELLED, concurrent.futures.CancelledError()], True),
        ([concurrent.futures.CancelledError()], True),
        ([CANCELLED, SystemExit(0)], True),
        ([CANCELLED, SystemExit(3)], False),
        ([CANCELLED, FAILED], False),
        ([FAILED], False),
        ([FAILED, OSError()], False),
        ([CANCELLED, BaseExceptionGroup("inner", [CANCELLED, GeneratorExit()])], True),
        ([CANCELLED, BaseExceptionGroup("inner", [CANCELLED, FAILED])], False),
        ([ExceptionGroup("inner", [FAILED])], False),
    ],
    ids=repr,
)
def test_a_group(errors: list[BaseException], expected: bool) -> None:  # noqa: FBT001 - a table's
    """It is a cancellation where each exception in it is, however deep."""
    assert is_cancellation(BaseExceptionGroup("several", errors)) is expected
    assert is_cancellation(MadeUpGroup("several", errors)) is expected


def test_what_it_was_raised_from_says_nothing() -> None:
    """An error while something is cancelled is an error, and the other way round."""
    failed, cancelled = ValueError(), asyncio.CancelledError()
    failed.__cause__, cancelled.__context__ = asyncio.CancelledError(), ValueError()
    assert not is_cancellation(failed)
    assert is_cancellation(cancelled)
