"""The samples of an earlier release, and an engine on them at the time at which they were made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from firestate.local.engine import LocalEngine
from tests.upgrade.old_store import MADE_AT, SampleFolder, open_samples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def samples(tmp_path: Path) -> SampleFolder:
    return open_samples(tmp_path)


@pytest.fixture
def engine(samples: SampleFolder) -> Iterator[LocalEngine]:
    engine = LocalEngine(samples.state, clock=lambda: MADE_AT)
    yield engine
    engine.close()
