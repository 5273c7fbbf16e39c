"""A store at one call of which another process gets its way, and the locks of that process."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

import pytest

from firestate.pipeline.roll_up import RollUp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from firestate.local.engine import LocalEngine


class ConcurrentWriterStore:
    """Passes calls on; before the one with the given number another process has its way, once."""

    def __init__(self, store: Any, at: int, meddle: Callable[[], None]) -> None:
        self._store = store
        self._at = at
        self._meddle = meddle
        self._calls = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            number, self._calls = self._calls, self._calls + 1
            if number == self._at:
                self._meddle()
            return method(*args, **kwargs)

        return call


@contextmanager
def process(engine: LocalEngine, store: Any) -> Iterator[None]:
    """Let the engine work on `store` as another process: with locks, and a roll-up, of its own."""
    before = (engine.store, engine.roll_up)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("firestate.pipeline.retry._TURNS", [Lock() for _ in range(64)])
        engine.store, engine.roll_up = store, new_roll_up(engine, store)
        try:
            yield
        finally:
            engine.store, engine.roll_up = before


def new_roll_up(engine: LocalEngine, store: Any) -> RollUp:
    """Give the roll-up of a process that has just started; it waits for nobody."""
    return RollUp(store, interval_seconds=0, now=engine._clock)
