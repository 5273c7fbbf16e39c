"""Writing the controls: in memory, and on the emulator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from firestate.stores.sqlite import SqliteStore
from tests.contract.controls_contract import ControlsContract

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.usefixtures("own_turns")
class TestInMemory(ControlsContract):
    """The suite on a store in memory."""

    @pytest.fixture
    def store(self) -> Iterator[SqliteStore]:
        store = SqliteStore()
        yield store
        store.close()


@pytest.mark.usefixtures("own_turns")
class TestOnFirestore(ControlsContract):
    """The suite on the emulator."""
