"""Deleting ended sessions: in memory, and on the emulator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from firestate.stores.sqlite import SqliteStore
from tests.contract.clean_up_contract import CleanUpContract

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.usefixtures("own_turns")
class TestInMemory(CleanUpContract):
    """The suite on a store in memory."""

    @pytest.fixture
    def store(self) -> Iterator[SqliteStore]:
        store = SqliteStore()
        yield store
        store.close()


@pytest.mark.usefixtures("own_turns")
class TestOnFirestore(CleanUpContract):
    """The suite on the emulator."""
