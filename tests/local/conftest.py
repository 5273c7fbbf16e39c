"""A local engine in memory, for each test its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from firestate.local.engine import LocalEngine

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    engine = LocalEngine(fold_interval_seconds=0)
    yield engine
    engine.close()
