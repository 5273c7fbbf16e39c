"""A store that holds a bit of everything, and the command line on a test's own project."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from firestate.cli import main
from tests.emulator.damage import fill

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate.stores.firestore import FirestoreStore

    Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def filled(store: FirestoreStore) -> FirestoreStore:
    """A store with a bit of everything that is counted."""
    fill(store)
    return store


@pytest.fixture
def run(
    store: FirestoreStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Run `firestate` on the test's own project; give its exit code, output and notes."""
    del store  # it sets the variables that the command reads

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
