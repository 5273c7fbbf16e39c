"""What a fork does to what is open: the child has the memory of it, and nothing else.

Threads are gone, locks may be held by them for ever, and connections are the parent's. SQLite even
remembers which files the process has open, so that a child that opens one again does not lock it,
and loses what it writes once the parent closes it. So before a fork what is of SQLite is closed,
with nobody inside; parent and child open it again when they use it.
"""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod

_ALIVE: dict[int, weakref.ref[ForkSafe]] = {}
_LEAKED: list[object] = []
_RESTING: list[ForkSafe] = []


class ForkSafe(ABC):
    """Something that goes on after a fork, in the parent as it was and in the child anew."""

    def __init__(self) -> None:
        """Be told of forks from now on, as long as it lives: after those that were made before."""
        key = id(self)
        _ALIVE[key] = weakref.ref(self, lambda _: _ALIVE.pop(key, None))

    def before_fork(self) -> None:  # noqa: B027 - most have nothing to do
        """Let nobody in until one of the other two is called."""

    def after_fork_in_parent(self) -> None:  # noqa: B027 - most have nothing to do
        """Go on."""

    @abstractmethod
    def after_fork(self) -> None:
        """Make it usable in the child: quickly, without a thread, a file, or a callback."""

    @staticmethod
    def leak(parents: object) -> None:
        """Keep what is the parent's from being collected: that would close it for both."""
        _LEAKED.append(parents)


def _alive() -> list[ForkSafe]:
    return [each for reference in list(_ALIVE.values()) if (each := reference()) is not None]


def _before() -> None:
    interrupted: BaseException | None = None
    for each in _alive():
        # Noted before: where a signal arrives meanwhile, it is let go on all the same.
        _RESTING.append(each)
        try:
            each.before_fork()
        except BaseException as error:  # noqa: BLE001 - raised below, once all others rest
            interrupted = error
    if interrupted is not None:
        raise interrupted


def _in_parent() -> None:
    while _RESTING:  # no others: some may have been made meanwhile
        _RESTING.pop().after_fork_in_parent()


def _in_child() -> None:
    _RESTING.clear()
    for each in _alive():
        each.after_fork()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
