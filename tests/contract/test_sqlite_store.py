"""The contract on SQLite, in memory and in a file, and what is SQLite's alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from firestate.stores.sqlite import SqliteStore
from tests.contract.store_contract import StoreContract

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class TestMemory(StoreContract):
    """The suite on a store in memory."""

    @pytest.fixture
    def store(self) -> Iterator[SqliteStore]:
        store = SqliteStore()
        yield store
        store.close()


class TestFile(StoreContract):
    """The suite on a store in a file."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SqliteStore]:
        store = SqliteStore(tmp_path / "state.db")
        yield store
        store.close()
