"""Firestate: durable, exactly counted state for fleets of AI agents.

The names below are what a program needs. Each is loaded when it is first asked for: the functions,
which are of this package too, start without the agents' side.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

try:
    import fcntl as _fcntl  # noqa: F401 - asked for here, so that one sentence says what is missing
except ImportError:
    raise ImportError(
        "Firestate runs on Linux and macOS: this Python has no module fcntl, by which processes "
        "that share a folder take turns. On Windows, use it inside WSL."
    ) from None

from firestate.moved_modules import MovedModules
from firestate.version import __version__

if TYPE_CHECKING:
    from firestate.agents.agent import Agent
    from firestate.agents.manager import StateManager
    from firestate.agents.reading.answers import Answer
    from firestate.agents.refusals import Refused
    from firestate.errors import (
        AccountError,
        ConfigurationError,
        ConflictError,
        ContentionError,
        DamagedDocumentError,
        EmergencyStopError,
        EmergencyStopUnknownError,
        ExistsError,
        FencedError,
        FieldProblem,
        FirestateError,
        InvalidMessageError,
        MissingExtraError,
        OutboxError,
        OutboxFullError,
        PastNotKeptError,
        RefusedError,
        SchemaTooNewError,
        SessionExistsError,
        StateFileError,
        StoreError,
        TerminatedError,
        UnavailableError,
        UnexpectedError,
        UnknownAccountError,
        UnknownSessionError,
    )
    from firestate.schema.models import AgentState, CoordinationEvent

__all__ = [
    "AccountError",
    "Agent",
    "AgentState",
    "Answer",
    "ConfigurationError",
    "ConflictError",
    "ContentionError",
    "CoordinationEvent",
    "DamagedDocumentError",
    "EmergencyStopError",
    "EmergencyStopUnknownError",
    "ExistsError",
    "FencedError",
    "FieldProblem",
    "FirestateError",
    "InvalidMessageError",
    "MissingExtraError",
    "OutboxError",
    "OutboxFullError",
    "PastNotKeptError",
    "Refused",
    "RefusedError",
    "SchemaTooNewError",
    "SessionExistsError",
    "StateFileError",
    "StateManager",
    "StoreError",
    "TerminatedError",
    "UnavailableError",
    "UnexpectedError",
    "UnknownAccountError",
    "UnknownSessionError",
    "__version__",
]

_MODULES = {
    "Agent": "firestate.agents.agent",
    "AgentState": "firestate.schema.models",
    "Answer": "firestate.agents.reading.answers",
    "CoordinationEvent": "firestate.schema.models",
    "Refused": "firestate.agents.refusals",
    "StateManager": "firestate.agents.manager",
}
_ERRORS = "firestate.errors"  # where all other names are


if not TYPE_CHECKING:  # who checks types knows the names from above, and is to know no others

    def __getattr__(name: str) -> object:
        """Load a public name."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(_MODULES.get(name, _ERRORS)), name)
        globals()[name] = found  # from now on without this function
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


sys.meta_path.append(MovedModules)
