"""What several suites share: one Firestore emulator, a project of its own for each test."""

from __future__ import annotations

import sys
import uuid
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from google.cloud import firestore

from firestate.cli import main
from firestate.stores.firestore import FirestoreStore
from tools.emulators import firestore_emulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
