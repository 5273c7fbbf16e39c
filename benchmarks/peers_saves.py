"""The saves that `benchmarks/peers.py` measures; it runs this with .venv-frameworks.

Each kind saves the same states of an agent, about 3 KB of JSON each, one after the other. They take
turns in short rounds, each time in another order, so that all see the same machine. Timed is the
one call that returns once the framework says that the state is saved; what it is handed is made
before. After each turn there is a pause, in which whatever goes on in the background ends, and the
first saves of a turn, which find the machine's caches full of another's, are not counted.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

sys.path.insert(0, str(Path(__file__).parents[1]))

from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.integrations.firestore.firestore_session_service import FirestoreSessionService
from google.adk.sessions.base_session_service import GetSessionConfig
from google.cloud import firestore
from langgraph.checkpoint.base import empty_checkpoint
from langgraph_checkpoint_firestore import FirestoreSaver
from rich.console import Console
from rich.table import Table

from benchmarks.peers_states import states_of_an_agent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from benchmarks.peers_states import State

T = TypeVar("T")

PLAIN = "Firestore set"
FIRESTATE = "Firestate update"
PROJECT = os.environ["GOOGLE_CLOUD_PROJECT"]
SAVES = 2_000
ROUNDS = 20
WARM_UP = 50
"""Of each kind, before the rounds."""
LEAD = 3
"""Of each turn, not counted."""
PAUSE_SECONDS = 0.2
PACKAGES = ("google-adk", "langgraph", "langgraph-checkpoint-firestore", "google-cloud-firestore")


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to save states."""

    name: str
    save: Callable[[list[State]], list[float]]
    """Saves one after the other; gives the milliseconds of each."""
    stored: Callable[[], State | None] | None = None
    """Reads back what was saved last."""


def main() -> int:
    """Measure and print; 1 if anything was not stored."""
    saves = int(sys.argv[1]) if len(sys.argv) > 1 else SAVES
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as folder:
        kinds = [plain_set(), langgraph_put(), adk_append_event(runner)]
        try:
            kinds.append(firestate_saver(Path(folder)))
        except ImportError as error:
            print(f"Firestate is left out: {error}")
        found, last = measured(kinds, max(1, saves // ROUNDS))
        lost = [kind.name for kind in kinds if kind.stored and kind.stored() != last]
    print(", ".join(f"{name} {version(name)}" for name in PACKAGES))
    print(f"{len(found[kinds[0].name]):,} saves of each kind, {len(json.dumps(last)):,} bytes each")
    Console(width=100).print(shown(found))
    for line in ratios(found):
        print(line)
    for name in lost:
        print(f"not stored as it was saved: {name}")
    return int(bool(lost))


def measured(kinds: list[Kind], turn: int) -> tuple[dict[str, list[float]], State]:
    """Let the kinds take turns; give the milliseconds by name, and the state saved last."""
    found: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    states = states_of_an_agent()
    for kind in kinds:
        kind.save([next(states) for _ in range(WARM_UP)])
    for number in range(ROUNDS):
        batch = [next(states) for _ in range(LEAD + turn)]
        first = number % len(kinds)
        for kind in kinds[first:] + kinds[:first]:
            time.sleep(PAUSE_SECONDS)
            found[kind.name] += kind.save(batch)[LEAD:]
    return found, batch[-1]


def plain_set() -> Kind:
    """Overwrite one document."""
    document = firestore.Client(PROJECT).document("agents/agent_001")
    return Kind(
        PLAIN,
        lambda states: _timed(document.set, states),
        lambda: document.get().to_dict(),
    )


def langgraph_put() -> Kind:
    """Put a checkpoint whose channels hold the state, as LangGraph does after each step.

    LangGraph puts the writes of each task as well, which is not measured here.
    """
    saver = FirestoreSaver(PROJECT)
    config: dict[str, Any] = {"configurable": {"thread_id": "agent_001", "checkpoint_ns": ""}}

    def checkpoint(state: State) -> dict[str, Any]:
        versions = dict.fromkeys(state, state["performance_metrics"]["steps"])
        return {**empty_checkpoint(), "channel_values": state, "channel_versions": versions}

    def put(made: dict[str, Any]) -> None:
        nonlocal config
        step = {"source": "loop", "step": made["channel_versions"]["task_history"], "parents": {}}
        config = saver.put(config, made, step, made["channel_versions"])

    def stored() -> State | None:
        found = saver.get_tuple(config)
        return found.checkpoint["channel_values"] if found else None

    return Kind(
        "LangGraph put",
        lambda states: _timed(put, [checkpoint(state) for state in states]),
        stored,
    )


def adk_append_event(runner: asyncio.Runner) -> Kind:
    """Append an event whose delta holds the state."""
    names = {"app_name": "peers", "user_id": "user_001"}

    async def started() -> tuple[Any, Any]:
        service = FirestoreSessionService(firestore.AsyncClient(PROJECT))
        return service, await service.create_session(**names, session_id="agent_001")

    service, session = runner.run(started())

    def event(state: State) -> Any:  # noqa: ANN401 - mypy does not see the framework
        actions = EventActions(state_delta=state)
        return Event(invocation_id="invocation_001", author="developer", actions=actions)

    async def append(made: Any) -> None:  # noqa: ANN401 - mypy does not see the framework
        await service.append_event(session, made)

    async def stored() -> State | None:
        config = GetSessionConfig(num_recent_events=1)
        found = await service.get_session(**names, session_id="agent_001", config=config)
        return found.state if found else None

    return Kind(
        "ADK append_event",
        lambda states: runner.run(_timed_awaited(append, [event(state) for state in states])),
        lambda: runner.run(stored()),
    )


def firestate_saver(folder: Path) -> Kind:
    """Update an agent; raise ImportError where this Firestate has no StateManager."""
    from firestate import StateManager  # noqa: PLC0415 - may be none

    manager = StateManager(project=PROJECT, folder=folder)
    agent = manager.start("Developer", "agent_001")
    return Kind(FIRESTATE, lambda states: _timed(lambda s: agent.update(**s), states))


def shown(found: dict[str, list[float]]) -> Table:
    """Give the table."""
    table = Table("kind", "p50 ms", "p90 ms", "p99 ms", "max ms", box=None)
    for name, times in found.items():
        numbers = [percentile(times, share) for share in (0.5, 0.9, 0.99, 1.0)]
        table.add_row(name, *(f"{number:.2f}" for number in numbers))
    return table


def ratios(found: dict[str, list[float]]) -> Iterator[str]:
    """Say how many times as long as Firestate, or as a plain write, each of the others takes."""
    base = FIRESTATE if FIRESTATE in found else PLAIN
    for name in (name for name in found if name != base):
        p50, p99 = (
            percentile(found[name], share) / percentile(found[base], share) for share in (0.5, 0.99)
        )
        yield f"{name} / {base}: p50 {p50:.2f}, p99 {p99:.2f}"


def percentile(times: list[float], share: float) -> float:
    """Give the smallest time that `share` of all do not exceed."""
    return sorted(times)[math.ceil(share * len(times)) - 1]


def _timed(save: Callable[[T], object], those: Iterable[T]) -> list[float]:
    times = []
    for each in those:
        began = time.perf_counter()
        save(each)
        times.append((time.perf_counter() - began) * 1_000)
    return times


async def _timed_awaited(save: Callable[[T], Awaitable[object]], those: Iterable[T]) -> list[float]:
    times = []
    for each in those:
        began = time.perf_counter()
        await save(each)
        times.append((time.perf_counter() - began) * 1_000)
    return times


if __name__ == "__main__":
    sys.exit(main())
