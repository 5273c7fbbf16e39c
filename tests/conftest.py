"""What several suites share: one Firestore emulator, a project of its own for each test.

And one pipeline: what runs on it finds nothing stored, or uses names of its own.
"""

from __future__ import annotations

import sys
import uuid
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from google.cloud import firestore

from firestate.cli import main
from firestate.stores.firestore import FirestoreStore
from tests.load.shared_pipeline import SharedPipeline
from tools.emulators import firestore_emulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.load.runner import Runner

    Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def own_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever works here stands for a process of its own: none takes turns with another."""
    monkeypatch.setattr("firestate.pipeline.retry._TURNS", [nullcontext()])


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `firestate`; give its exit code, output and notes."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["firestate", *arguments])
        code: Any = 0
        try:
            main()
        except SystemExit as exit_:
            code = exit_.code
        told = capsys.readouterr()
        return code or 0, told.out, told.err

    return call


@pytest.fixture(scope="session")
def firestore_host() -> Iterator[str]:
    with firestore_emulator() as host:
        yield host


@pytest.fixture
def project() -> str:
    return f"demo-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def store(
    firestore_host: str, project: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FirestoreStore]:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_host)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", project)
    client = firestore.Client(project=project)
    yield FirestoreStore(client)
    client.close()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedPipeline]:
    made = SharedPipeline(tmp_path_factory.mktemp("pipeline"))
    yield made
    made.close()


@pytest.fixture
def pipeline(shared: SharedPipeline, request: pytest.FixtureRequest) -> Iterator[Runner]:
    """The whole pipeline on emulators; a test that fails leaves it to nobody else."""
    failed = request.session.testsfailed
    running = shared.runner()
    yield running
    running.router.reset()
    if request.session.testsfailed > failed:
        shared.close()


@pytest.fixture
def empty_pipeline(shared: SharedPipeline, pipeline: Runner) -> Runner:
    """The pipeline, with nothing stored."""
    del pipeline  # it sees to what comes after
    return shared.empty()
