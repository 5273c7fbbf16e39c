"""An agent can be called from wherever a program is called in the middle of something else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos import settings
from tests.interruptions import forked
from tests.interruptions.reentrancy import PLACES


@pytest.fixture(scope="module")
def told() -> list[dict[str, Any]]:
    records = forked.program("reentrancy", settings.lines())
    assert records[-1] == {"finished": True}
    return records


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.timeout(7_200)  # the first test waits for the program
def test_calls_work_from_there(told: list[dict[str, Any]], place: str) -> None:
    assert [each for each in told if each.get("place") == place] == []
