"""Errors of recording, kept away from the framework that is recorded."""

from __future__ import annotations

import logging
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

from firestate.errors import EmergencyStopError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

_LOG = logging.getLogger("firestate.adapters")


class ErrorLog:
    """Logs each type of error once: a full outbox would be reported with every step."""

    def __init__(self) -> None:
        """Begin with nothing logged."""
        self._reported: dict[type[Exception], object] = {}

    def report(self, error: Exception) -> None:
        """Log what went wrong, unless one of its type has been logged."""
        # One operation, and no lock: a signal may interrupt it, and report an error itself.
        own = object()  # the error itself would keep the frames of its traceback
        if self._reported.setdefault(type(error), own) is own:
            _LOG.error("agents are not recorded; told once", exc_info=error)


class _HasErrorLog(Protocol):
    error_log: ErrorLog


S = TypeVar("S", bound=_HasErrorLog)


def log_errors(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T | None]:
    """Make of a method one that logs what goes wrong instead of raising it, and gives None.

    EmergencyStopError alone goes on to the framework: it is there to stop the run.
    """

    @wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return method(self, *args, **kwargs)
        except EmergencyStopError:
            raise
        except Exception as error:  # noqa: BLE001 - the framework's run is worth more
            self.error_log.report(error)
            return None

    return call
