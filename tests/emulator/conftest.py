"""A store that holds a bit of everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.emulator.damage import fill

if TYPE_CHECKING:
    from firestate.stores.firestore import FirestoreStore


@pytest.fixture
def filled(store: FirestoreStore) -> FirestoreStore:
    """A store with a bit of everything that is counted."""
    fill(store)
    return store
