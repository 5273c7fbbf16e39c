"""Batches of interleaved agents through the runner, with faults, kills and frozen processes.

Each batch is drawn from its seed and has its own agents. Two go together, which saves waiting, and
are checked when they have come to rest; the totals are those of all batches so far. What threads
and processes do between is not drawn: a failing seed may need a few tries.
"""

from __future__ import annotations

import contextlib
import random
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.chaos.fault_injection import FaultInjection
from tests.chaos.fleet import Fleet
from tests.chaos.running_pipeline import RunningPipeline, wait_all_open
from tests.chaos.settings import batches, seeds, tell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firestate.client.outgoing import Outgoing

_AGENTS = 30
_MESSAGES = range(100, 125)
_TOGETHER = 2
_PER_PIPELINE = 24  # more, and most of the time goes into auditing what earlier batches stored
_WINDOW = 20
_PATIENCE_SECONDS = 120
_DUPLICATED, _LATE = 0.3, 0.05
_ACTIONS = (
    ("control", "sweep"),
    ("control", "kill", "kill"),
    ("control", "freeze", "freeze"),
    ("control", "sweep", "kill", "freeze"),
)


def volleys() -> list[range]:
    """Give the seeds of the batches that go together."""
    first, end = seeds().start, seeds().start + batches()
    return [range(seed, min(seed + _TOGETHER, end)) for seed in range(first, end, _TOGETHER)]


@pytest.mark.parametrize("together", volleys(), ids=lambda seeds: "-".join(map(str, seeds)))
def test_batches(stage: RunningPipeline, together: range) -> None:
    """Every message is accounted for, every counter exact, and no state has gone back."""
    draw = random.Random(together.start)
    if (together.start - seeds().start) % _PER_PIPELINE == 0:
        stage.end()
    with stage.run() as running, again_by(together):
        fleets = [_fleet(seed) for seed in together]
        sent = [message for fleet in fleets for message in fleet.sent]
        actions = [action for seed in together for action in _ACTIONS[seed % len(_ACTIONS)]]
        before, began = running.router.counts.copy(), time.monotonic()
        with FaultInjection(running, draw, actions) as mischief:
            running.publish(interleaved([spoiled(fleet.sent, draw) for fleet in fleets], draw))
            running.wait_quiet(_PATIENCE_SECONDS)
        if {"kill", "freeze"} & set(actions):
            assert mischief.done["kill"] + mischief.done["freeze"], "it all came too late"
        stage.settle(sent, [message for fleet in fleets for message in fleet.bad])
        wait_all_open(running)
        counts = running.router.counts - before
        done = [f"{n} {what}" for what, n in sorted(mischief.done.items()) if what != "none"]
        done += [
            f"{sum(n for (_, each), n in counts.items() if each == what)} {what}"
            for what in ("delivered", "retried", "unanswered", "failed")
        ]
        tell(
            f"seeds {', '.join(map(str, together))}: {len(sent)} messages, "
            f"{time.monotonic() - began:.1f} s, {', '.join(done)}"
        )


def _fleet(seed: int) -> Fleet:
    draw = random.Random(seed)
    fleet = Fleet(draw, f"b{seed}", _AGENTS, datetime.now(UTC))
    fleet.begin()
    wanted = draw.choice(_MESSAGES)
    while len(fleet.sent) < wanted:
        fleet.step()
    return fleet


@contextlib.contextmanager
def again_by(together: range) -> Iterator[None]:
    """Add to a failure how to run these batches alone."""
    try:
        yield
    except BaseException as error:
        wanted = f"SEEDS={together.start} BATCHES={len(together)}"
        error.add_note(f'again: make chaos {wanted} ARGS="-k test_batches"')
        raise


def spoiled(messages: list[Outgoing], draw: random.Random) -> list[Outgoing]:
    """Give them as a bad network would: some twice, out of order nearby, a few very late."""
    placed = []
    for place, message in enumerate(messages):
        for _ in range(2 if draw.random() < _DUPLICATED else 1):
            late = len(messages) if draw.random() < _LATE else 0
            placed.append((place + draw.uniform(0, _WINDOW) + late, message))
    return [message for _, message in sorted(placed, key=lambda one: one[0])]


def interleaved(streams: list[list[Outgoing]], draw: random.Random) -> list[Outgoing]:
    """Give the messages of all streams, each in its order."""
    placed = [
        ((place + draw.random()) / len(stream), message)
        for stream in streams
        for place, message in enumerate(stream)
    ]
    return [message for _, message in sorted(placed, key=lambda one: one[0])]
