"""A store that holds a bit of everything, and the command line on a test's own project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.emulator.damage import fill

if TYPE_CHECKING:
    from firestate.stores.firestore import FirestoreStore
    from tests.conftest import Run


@pytest.fixture
def filled(store: FirestoreStore) -> FirestoreStore:
    """A store with a bit of everything that is counted."""
    fill(store)
    return store


@pytest.fixture
def run(store: FirestoreStore, run: Run) -> Run:
    """Run `firestate` on the test's own project; give its exit code, output and notes."""
    del store  # it sets the variables that the command reads
    return run
