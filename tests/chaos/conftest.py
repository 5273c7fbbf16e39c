"""One running pipeline for all the chaos that needs one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

# Before it is imported: its assertions are to show what they compare.
pytest.register_assert_rewrite("tests.chaos.stage")

from tests.chaos.stage import Stage  # noqa: E402 - see above

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="package")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("stage"))
    yield made
    made.close()
