"""The stage on which chaos is let loose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

# Before it is imported: its assertions are to show what they compare.
pytest.register_assert_rewrite("tests.chaos.running_pipeline")

from tests.chaos.running_pipeline import RunningPipeline  # noqa: E402 - see above

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.load.shared_pipeline import SharedPipeline


@pytest.fixture(scope="module")
def stage(shared: SharedPipeline) -> Iterator[RunningPipeline]:
    made = RunningPipeline(shared)
    yield made
    made.end()
