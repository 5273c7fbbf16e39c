"""The contract on SQLite, in memory and in a file, and what is SQLite's alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from firestate.stores.sqlite import SqliteStore
from tests.contract.reads_contract import ReadsContract
from tests.contract.writes_contract import WritesContract

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class TestMemory(WritesContract, ReadsContract):
    """The suite on a store in memory."""

    @pytest.fixture
    def store(self) -> Iterator[SqliteStore]:
        store = SqliteStore()
        yield store
        store.close()


class TestFile(WritesContract, ReadsContract):
    """The suite on a store in a file."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SqliteStore]:
        store = SqliteStore(tmp_path / "state.db")
        yield store
        store.close()
