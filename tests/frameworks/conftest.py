"""For the modules that run in the frameworks' environment: a StateManager of its own for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from firestate.agents.manager import StateManager

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def manager() -> Iterator[StateManager]:
    with StateManager.in_memory(snapshot_interval_seconds=0.05) as manager:
        yield manager
