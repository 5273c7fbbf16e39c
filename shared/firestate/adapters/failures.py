"""What went wrong in a framework, as events tell of it."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from firestate.agents.state.cancellation import is_cancellation
from firestate.agents.state.recorded_text import error_text
from firestate.schema.sanitize import sanitize_text

_MARK = "__firestate_session__"


class Failure(NamedTuple):
    """The type of an error and its text; `cancelled` where somebody broke off what ran well."""

    kind: str
    message: str
    cancelled: bool = False

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Read an exception."""
        kind = type(error).__name__
        return cls(kind, sanitize_text(error_text(error)), is_cancellation(error))


def is_new(error: BaseException, session: str) -> bool:
    """Whether an exception is met for the first time in a session.

    One that goes up from a tool through agents to the run is one error. The exception itself
    remembers it: some cannot be referred to weakly, and to keep them would keep their frames.
    """
    new = getattr(error, _MARK, None) != session
    with suppress(AttributeError, TypeError):  # one with slots, or frozen, is told of each time
        setattr(error, _MARK, session)
    return new
