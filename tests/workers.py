"""How the tests are shared out among processes, where several run them: a plugin of pytest-xdist.

    python -m pytest -p tests.workers -n auto

What needs a pipeline or an emulator suite goes to one process, which starts it once; of the rest
each module does. What takes long comes first. Many tests wait for other processes, or for time to
pass: there is one process more than processors.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped] # has no types

TOGETHER = {
    "pipeline": (
        "tests/agents/test_contention.py",
        "tests/agents/test_clocks.py",
        "tests/agents/test_events.py",
        "tests/agents/test_identities.py",
        "tests/agents/test_refusals.py",
        "tests/agents/test_states.py",
        "tests/chaos/test_network_outage.py",
        "tests/chaos/test_fenced_agents.py",
        "tests/chaos/test_five_processes.py",
        "tests/chaos/test_save_flood.py",
        "tests/chaos/test_frozen_process.py",
        "tests/chaos/test_killed_agents.py",
        "tests/chaos/test_killed_migrations.py",
        "tests/chaos/test_runner_batches.py",
        "tests/chaos/test_take_overs.py",
        "tests/chaos/test_adoptions.py",
    ),
    "suite": ("tests/end_to_end/",),
}
"""What runs on one thing, by how its tests begin; in the order in which they are begun."""

_LONG = (
    "tests/load/",
    "tests/frameworks/",
    "tests/migration/",
)
"""What takes long besides."""


@pytest.hookimpl(tryfirst=True)  # xdist has one of its own
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return one process more than processors; none besides this one for tests that are picked."""
    options = config.option
    picked = options.keyword or options.markexpr or options.capture == "no"
    if picked or any("::" in each or each.endswith(".py") for each in config.args):
        return 0
    return len(os.sched_getaffinity(0)) + 1


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Keep together what is to be, and begin with what takes long."""
    return _Scheduling(config, log)


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc] # of a class without types
    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        self.config.option.loadscopereorder = False  # by how many tests there are of each

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put them in the order in which they are to be begun."""
    items.sort(key=lambda item: place_of(item.nodeid))


def scope_of(nodeid: str) -> str:
    """Say with what a test is to stay together: a name from above, or its module."""
    for name, beginnings in TOGETHER.items():
        if nodeid.startswith(beginnings):
            return name
    return nodeid.partition("::")[0]


def place_of(nodeid: str) -> int:
    """Say how early a test is to begin."""
    names = list(TOGETHER)
    scope = scope_of(nodeid)
    if scope in names:
        return names.index(scope)
    return len(names) + (0 if nodeid.startswith(_LONG) else 1)
