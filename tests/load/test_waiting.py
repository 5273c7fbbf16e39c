"""The runner waits as long as there is progress, and no longer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.load.router import Router
from tests.load.runner import Runner

PATIENCE = 0.2


def test_it_waits_while_deliveries_are_taken_and_gives_up_when_none_is() -> None:
    nowhere: Any = None
    with Router() as router:
        runner = Runner(nowhere, router, "", "", None)
        left = list(range(20))

        def taken_one_by_one() -> bool:
            router.taken += 1
            left.pop()
            return not left

        runner.wait_for(taken_one_by_one, PATIENCE)  # a look each 0.05 s: longer than the patience
        assert left == []
        with pytest.raises(TimeoutError, match="no delivery was taken"):
            runner.wait_for(lambda: False, PATIENCE)
        with router.working(), pytest.raises(TimeoutError):
            runner.wait_quiet(PATIENCE)
