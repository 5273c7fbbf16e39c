"""The cloud of these tests: the whole pipeline on emulators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from firestate import StateManager
from tests.agents.environments import PATIENCE, Environment, another_folder, world
from tests.agents.folders import Folder
from tests.load.runner import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.load.runner import Runner

# Property tests are not timed: the machine that runs them may be busy.
settings.register_profile("firestate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("firestate")


@pytest.fixture
def cloud(pipeline: Runner, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Have this process find the pipeline, as its environment says."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", pipeline.firestore_host)
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pipeline.pubsub_host)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    return pipeline


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Callable[[], StateManager]]:
    """Open managers on one folder, each as a process of its own would."""
    made: list[StateManager] = []

    def make() -> StateManager:
        made.append(StateManager("", folder=tmp_path, snapshot_interval_seconds=0.0))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Callable[[], Folder]]:
    """Make folders over one store, as machines are over one project."""
    made: list[Folder] = []
    first = tmp_path / "first"

    def make(again: Folder | None = None) -> Folder:
        place = again.folder if again else another_folder(first) if made else first
        made.append(Folder(place))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(params=["memory", "file", "cloud"])
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Environment]:
    """Give each world in turn."""
    if request.param == "cloud":
        pipeline: Runner = request.getfixturevalue("cloud")
        with world("cloud", tmp_path, snapshot_interval_seconds=0.1) as made:
            made.wait_quiet = lambda: pipeline.wait_quiet(PATIENCE)
            yield made
    elif request.param == "file":
        with world("file", tmp_path, project="", snapshot_interval_seconds=0.1) as made:
            yield made
    else:
        with world("memory", None, snapshot_interval_seconds=0.1) as made:
            yield made
