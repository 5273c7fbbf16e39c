"""Random histories on the local engine: whatever happens on the way, the end is right."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.chaos import settings as wanted
from tests.chaos.invariants import check_history
from tests.chaos.simulated_network import SimulatedNetwork

HISTORIES = 20
"""Of each seed."""


@pytest.mark.parametrize("seed", wanted.seeds())
def test_any_history_ends_right(seed: int) -> None:
    """No total is wrong, no state goes back, no message is unaccounted for."""
    played = 0

    @hypothesis.seed(seed)
    @settings(
        max_examples=HISTORIES,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink) if len(wanted.seeds()) == 1 else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(st.randoms(use_true_random=False), st.integers(5, 60))
    def play(draw: object, steps: int) -> None:
        nonlocal played
        with pytest.MonkeyPatch.context() as patch:
            check_history(SimulatedNetwork(draw, patch, hypothesis.note), steps)  # type: ignore[arg-type]
        played += 1

    try:
        play()
    except BaseException:
        wanted.tell(f"seed {seed} failed: make chaos SEEDS={seed} finds its shortest history")
        raise
    wanted.tell(f"seed {seed}: {played} histories")
