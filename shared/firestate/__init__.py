"""Firestate: durable, exactly counted state for fleets of AI agents."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from firestate.moved_modules import MovedModules

if TYPE_CHECKING:
    from firestate.agents.manager import StateManager

__all__ = ["StateManager"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - what is asked for
    # When it is asked for: the functions, which are of this package too, start without it.
    if name == "StateManager":
        from firestate.agents.manager import StateManager  # noqa: PLC0415 - see above

        return StateManager
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


sys.meta_path.append(MovedModules)
