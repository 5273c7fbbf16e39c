"""The stage on which chaos is let loose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

# Before it is imported: its assertions are to show what they compare.
pytest.register_assert_rewrite("tests.chaos.running_pipeline")

from tests.chaos.agent_processes import environment_of  # noqa: E402 - see above
from tests.chaos.running_pipeline import RunningPipeline  # noqa: E402 - see above

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.load.runner import Runner
    from tests.load.shared_pipeline import SharedPipeline

_PATIENCE_SECONDS = 120.0


@pytest.fixture(scope="module")
def stage(shared: SharedPipeline) -> Iterator[RunningPipeline]:
    made = RunningPipeline(shared)
    yield made
    made.end()


@pytest.fixture(params=["local", "cloud"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The environment of processes of agents, their project, and what waits until all is quiet."""
    if request.param == "local":
        yield {}, "", lambda: None
        return
    pipeline: Runner = request.getfixturevalue("empty_pipeline")
    environment = environment_of(pipeline)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    yield environment, None, lambda: pipeline.wait_quiet(_PATIENCE_SECONDS)
