"""Batches of interleaved agents through the runner, with faults, kills and frozen processes.

Each batch is drawn from its seed, has its own agents, and is checked when it has come to rest;
the totals are those of all batches so far. What threads and processes do between is not drawn:
a failing seed may need a few tries.
"""

from __future__ import annotations

import contextlib
import random
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.chaos.fleet import Fleet
from tests.chaos.mischief import Mischief
from tests.chaos.settings import batches, seeds, tell
from tests.chaos.stage import Stage, wait_all_open

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firestate.client.outgoing import Outgoing

_AGENTS = 30
_MESSAGES = range(100, 125)
_PER_PIPELINE = 25  # more, and most of the time goes into auditing what earlier batches stored
_WINDOW = 20
_DUPLICATED, _LATE = 0.3, 0.05
_ACTIONS = (
    ("control", "sweep"),
    ("control", "kill", "kill"),
    ("control", "freeze", "freeze"),
    ("control", "sweep", "kill", "freeze"),
)


@pytest.mark.parametrize("seed", range(seeds().start, seeds().start + batches()))
def test_batch(stage: Stage, seed: int) -> None:
    """Every message is accounted for, every counter exact, and no state has gone back."""
    draw = random.Random(seed)
    if (seed - seeds().start) % _PER_PIPELINE == 0:
        stage.close()
    with stage.run() as running, again_by(seed):
        fleet = Fleet(draw, f"b{seed}", _AGENTS, datetime.now(UTC))
        fleet.begin()
        wanted = draw.choice(_MESSAGES)
        while len(fleet.sent) < wanted:
            fleet.step()
        before, began = running.router.counts.copy(), time.monotonic()
        with Mischief(running, draw, _ACTIONS[seed % len(_ACTIONS)]) as mischief:
            running.publish(spoiled(fleet.sent, draw))
            running.wait_quiet(120)
        stage.settle(fleet.sent, fleet.bad)
        wait_all_open(running)
        counts = running.router.counts - before
        tell(
            f"seed {seed}: {len(fleet.sent)} messages, {time.monotonic() - began:.1f} s, "
            + ", ".join(
                f"{n} {what}" for what, n in sorted(mischief.done.items()) if what != "none"
            )
            + "".join(
                f", {sum(n for (_, w), n in counts.items() if w == what)} {what}"
                for what in ("delivered", "retried", "unanswered", "failed")
            )
        )


@contextlib.contextmanager
def again_by(seed: int) -> Iterator[None]:
    """Add to a failure how to run this batch alone."""
    try:
        yield
    except BaseException as error:
        error.add_note(f'again: make chaos SEEDS={seed} BATCHES=1 ARGS="-k test_batch"')
        raise


def spoiled(messages: list[Outgoing], draw: random.Random) -> list[Outgoing]:
    """Give them as a bad network would: some twice, out of order nearby, a few very late."""
    placed = []
    for place, message in enumerate(messages):
        for _ in range(2 if draw.random() < _DUPLICATED else 1):
            late = len(messages) if draw.random() < _LATE else 0
            placed.append((place + draw.uniform(0, _WINDOW) + late, message))
    return [message for _, message in sorted(placed, key=lambda one: one[0])]
