"""Which exceptions say that work was broken off, and not that it failed."""

from __future__ import annotations

import asyncio
import concurrent.futures

from firestate.errors import EmergencyStopError

_BY_NAME = {"Cancelled", "CancelledError", "GreenletExit"}
"""Cancellations of trio, anyio, gevent and others, which are not imported here to be known."""


def is_cancellation(error: BaseException) -> bool:
    """Whether an exception breaks work off that went well: neither a success nor a failure.

    So are asyncio's and other frameworks' cancellation, Ctrl-C, an operator's emergency stop, a
    generator that is closed since its reader has left, and a program's way out (`sys.exit()`); not
    an exit with an error code. A group of exceptions is one where each exception in it is.

    >>> is_cancellation(SystemExit(0)), is_cancellation(SystemExit("no such file"))
    (True, False)
    """
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_cancellation, error.exceptions))
    if isinstance(error, SystemExit):
        return error.code in (None, 0)
    known = (asyncio.CancelledError, concurrent.futures.CancelledError)
    if isinstance(error, (*known, KeyboardInterrupt, GeneratorExit, EmergencyStopError)):
        return True
    return any(each.__name__ in _BY_NAME for each in type(error).__mro__)
