"""Signals at any moment, of a timer or of another process: no hang, and nothing is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.chaos import settings
from tests.interruptions import forked

TIMERS = [(mode, where) for mode in ("raise", "call") for where in ("memory", "disk")]
SIGNALS = [
    *((name, pace) for name in ("SIGINT", "SIGALRM", "SIGTERM") for pace in ("tight", "tasks")),
    ("SIGINT", "asyncio"),
    ("SIGTERM", "asyncio"),
]
_AT_ONCE = 4  # most of their time they wait

Told = dict[tuple[str, ...], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def told() -> Told:
    """Run all programs, some beside each other."""
    share = max(settings.timers() // len(TIMERS), 1)
    calls: list[tuple[object, ...]] = [
        ("timers", *way, share, seed) for seed, way in enumerate(TIMERS)
    ]
    calls += [("signalled", *way, settings.signals()) for way in SIGNALS]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(lambda call: forked.program(*call), calls)
        return dict(zip([*TIMERS, *SIGNALS], found, strict=True))


@pytest.mark.parametrize(("mode", "where"), TIMERS)
@pytest.mark.timeout(7_200)  # the first test waits for the programs
def test_a_timer_at_random_microseconds_does_no_harm(told: Told, mode: str, where: str) -> None:
    """Its handler raises, or calls the agent; afterwards all is as it was acknowledged."""
    records = told[mode, where]
    signals = sum(each.get("signals", 0) for each in records)
    settings.tell(f"timer, {mode}, {where}: {signals} signals")
    assert [each for each in records if "problem" in each] == []
    assert signals >= settings.timers() // len(TIMERS)


@pytest.mark.parametrize(("name", "pace"), SIGNALS)
@pytest.mark.timeout(7_200)
def test_a_signal_to_a_process_of_agents_does_no_harm(told: Told, name: str, pace: str) -> None:
    """SIGINT and SIGALRM raise, and the process goes on; SIGTERM ends the agent and the process."""
    records = told[name, pace]
    sent = sum(each.get("sent", 0) for each in records)
    settings.tell(f"{name}, {pace}: {sent} signals")
    assert [each for each in records if "problem" in each] == []
    assert sent == settings.signals()
