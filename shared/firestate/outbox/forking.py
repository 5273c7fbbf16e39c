"""What a fork does to what is open: the child has the memory of it, and nothing else.

Threads are gone, locks may be held by them for ever, and connections are the parent's.
"""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod

_ALIVE: weakref.WeakSet[ForkSafe] = weakref.WeakSet()
_LEAKED: list[object] = []


class ForkSafe(ABC):
    """Something that is open, and is opened anew in a child."""

    def __init__(self) -> None:
        """Be told of forks from now on, as long as it lives."""
        _ALIVE.add(self)

    @abstractmethod
    def after_fork(self) -> None:
        """Make it usable in the child, where it is called before anything else."""

    @staticmethod
    def leak(parents: object) -> None:
        """Keep what is the parent's from being collected: that would close it for both."""
        _LEAKED.append(parents)


def _in_child() -> None:
    for each in list(_ALIVE):
        each.after_fork()


os.register_at_fork(after_in_child=_in_child)
