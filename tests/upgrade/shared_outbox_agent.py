"""An agent's process of either release, which `shared_outbox` starts and kills; run as a script.

    shared_outbox_agent.py FOLDER SLOT LOG

It takes up the agent of its slot, which processes of its release alone hold, and now and then one
that all processes take from each other. What has returned is written into the log: a line that is
there tells of a call that was acknowledged.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
from typing import TYPE_CHECKING, Any

from firestate import StateManager
from firestate.errors import FencedError, UnknownSessionError

if TYPE_CHECKING:
    from firestate import Agent

SESSION = "s"
KEYS = 12
SHARED_EVERY = 25
SHARED = ("Shared", "all")


def main(folder: str, slot: str, log: str) -> None:
    """Save until somebody kills this process."""
    lines = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    # Numbers of later processes are higher.
    first = os.fstat(lines).st_size * 1_000
    manager = StateManager(project="", folder=folder, snapshot_interval_seconds=0.05)
    own = held(manager, "Worker", slot)
    shared = held(manager, *SHARED)

    def tell(**what: Any) -> None:
        os.write(lines, json.dumps(what).encode() + b"\n")

    tell(held=True)
    for number in itertools.count(first):
        own.remember(f"k{number % KEYS}", number)
        tell(note=number)
        if random.random() < 0.3:
            own.begin_task(f"t{number}", "code")
            own.end_task(f"t{number}")
            tell(task=f"t{number}")
        if random.random() < 0.1:
            tell(event=own.handed_off(SHARED, context={"n": number}).event_id)
        if number % SHARED_EVERY == 0:
            try:
                shared.remember(slot, number)
            except FencedError:
                shared = held(manager, *SHARED)


def held(manager: StateManager, agent_type: str, agent_id: str) -> Agent:
    """Return an agent that this process holds from now on: there already, or begun."""
    try:
        return manager.take_up(agent_type, agent_id, SESSION)
    except UnknownSessionError:
        return manager.start(agent_type, agent_id, session_id=SESSION)


if __name__ == "__main__":
    main(*sys.argv[1:])
