"""A process is frozen while it works on a delivery, another one does it all, then it goes on."""

from __future__ import annotations

import random
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.chaos.fleet import Fleet
from tests.chaos.frozen_process import FreezingListener, FrozenDelivery
from tests.chaos.settings import rounds, seeds, tell

if TYPE_CHECKING:
    from tests.chaos.running_pipeline import RunningPipeline
    from tests.load.runner import Runner

_FUNCTIONS = ("ingest_state", "ingest_event", "derive_state", "derive_event", "roll_up_shards")
_LIMIT_SECONDS = 0.5
_MOST_DELAY_SECONDS = 0.015
_TRIES, _MOST_TRIES = 50, 10


@pytest.mark.timeout(1200)
def test_frozen_in_the_middle(stage: RunningPipeline) -> None:
    """What comes back late changes nothing: no effect is doubled, and no state goes back."""
    draw = random.Random(seeds().start)
    fleet = Fleet(draw, f"frozen{seeds().start}", 10, datetime.now(UTC))
    met: list[FrozenDelivery] = []
    with stage.run(two_roll_ups=True) as running:
        running.publish(fleet.begin())
        stage.settle(fleet.sent, fleet.bad)
        running.router.limit_seconds, limit = _LIMIT_SECONDS, running.router.limit_seconds
        checked = len(fleet.sent)
        number, haste = 0, dict.fromkeys(_FUNCTIONS, 1.0)
        while number < rounds() or (not _shows(met) and number < _MOST_TRIES * rounds()):
            function, began = _FUNCTIONS[number % len(_FUNCTIONS)], time.monotonic()
            delay = draw.uniform(0, _MOST_DELAY_SECONDS) * haste[function]
            met.append(_round(running, fleet, FreezingListener(running, function, delay)))
            stage.settle(fleet.sent[checked:], [m for m in fleet.bad if m in fleet.sent[checked:]])
            checked = len(fleet.sent)
            # On a busy machine it takes long until a process stands still.
            haste[function] *= 1 if met[-1].line else 0.5
            tell(
                f"round {number}: {function} frozen {met[-1].seconds:.2f} s after "
                f"{1000 * delay:.1f} ms, then {met[-1].line.get('outcome', 'nothing left to do')}, "
                f"{'in the middle' if met[-1].in_the_middle else 'before or after'}, "
                f"{time.monotonic() - began:.1f} s"
            )
            number += 1
        running.router.limit_seconds = limit
    late = [frozen for frozen in met if frozen.line]
    middle = sum(frozen.in_the_middle for frozen in late)
    outcomes = Counter(frozen.line["outcome"] for frozen in late)
    tell(f"{len(met)} rounds, {len(late)} came back late, {middle} in the middle: {outcomes}")
    # Otherwise this would have shown nothing.
    assert 2 * len(late) >= rounds()
    assert middle


def _shows(met: list[FrozenDelivery]) -> bool:
    late = [frozen for frozen in met if frozen.line]
    return 2 * len(late) >= rounds() and any(frozen.in_the_middle for frozen in late)


def _round(running: Runner, fleet: Fleet, freezing: FreezingListener) -> FrozenDelivery:
    running.router.listeners.append(freezing)
    for _ in range(_TRIES):
        for _ in range(3):
            running.publish(fleet.step())
        if freezing.begun.wait(0.3):
            break
    frozen = freezing.result()
    running.router.listeners.remove(freezing)
    return frozen
