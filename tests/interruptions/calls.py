"""Every public call of StateManager, Agent and Controls, and what its effect consists of.

`parts` says of each part of an effect whether it is there, as read from what is stored. A call that
has returned has all of them; one that was interrupted has all of them, or none.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from firestate import Agent, StateManager
from firestate.agents.runtime import _OPEN
from firestate.agents.submitter import Submitter
from firestate.schema.ids import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from firestate import AgentState
    from tests.interruptions.world import World


def _nothing(_: World, __: int) -> None:
    return None


def _worker(world: World, _: int) -> Agent:
    return world.agent


def _own(world: World, number: int) -> Agent:
    return world.made[number]


@dataclass(frozen=True)
class Case:
    """One call, with a number that no other has; `subject` is the agent that saves afterwards."""

    name: str
    call: Callable[[World, int], Any]
    parts: Callable[[World, int], Sequence[bool]] | None = None
    prepare: Callable[[World, int], Any] = _nothing
    subject: Callable[[World, int], Agent] = _worker
    lasting: bool = True
    """Whether the effect is still to be seen when others have followed."""
    nested: bool = True
    """Whether what a nested call changes must stay: not where the outer one replaces it all."""
    fresh: bool = False
    """Whether it needs a world of its own."""

    def __str__(self) -> str:
        return self.name


def _start(world: World, number: int, kind: str, **given: Any) -> Agent:
    world.made[number] = world.manager.start(kind, f"{kind}{number}", session_id="s", **given)
    return world.made[number]


def _former(world: World, number: int) -> None:
    agent = world.manager.start("Former", f"r{number}", session_id="first")
    agent.remember("past", number)


def _resumed(world: World, number: int) -> list[bool]:
    old = world.state_of("Former", f"r{number}", "first")
    new = world.state_of("Former", f"r{number}", "second")
    assert old is not None
    return [
        new is not None and new.memory_context.get("past") == number,
        old.status == "terminated",
        old.collaboration_context.get("resumed_as") == "second",
    ]


@contextlib.contextmanager
def _beside_others(world: World, *ids: str) -> Iterator[None]:
    """Have others save a session twice, each time just before something that follows is put."""
    runtime = world.manager._runtime
    submitter, left, saving = runtime.submitter, [1, 2], list[int]()

    def put(*entries: Any) -> bool:
        path = Identity(*ids).state_path
        if left and not saving and any(each.document == path for each in entries):
            saving.append(left.pop())
            other = runtime.registry._kept(Identity(*ids))
            if other is not None:
                other.remember("other", saving[0])
            saving.clear()
        return Submitter.put(submitter, *entries)

    submitter.put = put  # type: ignore[method-assign]
    try:
        yield
    finally:
        submitter.__dict__.pop("put", None)


def _resume_beside_others(world: World, number: int) -> None:
    with _beside_others(world, "Former", f"r{number}", "first"):
        world.manager.resume("Former", f"r{number}", "second")


def _take_up_beside_others(world: World, number: int) -> None:
    with _beside_others(world, "Taken", f"Taken{number}", "s"):
        _take_up(world, number)


def _remember_beside_others(world: World, number: int) -> None:
    with _beside_others(world, *world.agent.identity):
        world.agent.remember(f"beside{number}", number)


def _end_long_ago(world: World, number: int) -> None:
    at = (datetime.now(UTC) - timedelta(days=60)).isoformat()
    ended = {"agent_type": "Ended", "agent_id": f"ended{number}", "status": "terminated"}
    world.manager.save({**_whole_state(number), **ended, "last_active": at})


def _die_long_ago(world: World, number: int) -> None:
    at = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    dead = {"agent_type": "Dead", "agent_id": f"dead{number}", "status": "busy"}
    world.manager.save({**_whole_state(number), **dead, "last_active": at})
    world.manager.flush()


def _is_renewed(world: World, number: int) -> bool:
    # What is under way on a thread of ours goes on there when the call is interrupted.
    world.manager._runtime._worker.run(lambda: None)
    state = world.state_of("Dead", f"dead{number}", "s")
    return state is not None and state.last_active > datetime.now(UTC) - timedelta(hours=1)


def _ended_former(world: World, number: int) -> None:
    _former(world, number)
    world.manager.agent("Former", f"r{number}", "first").terminate()


def _remembers(state: AgentState | None, number: int) -> bool:
    return state is not None and state.memory_context.get("own") == number


def _whole_state(number: int) -> dict[str, Any]:
    at = datetime.now(UTC).isoformat()
    return {
        "agent_type": "Whole",
        "agent_id": f"whole{number}",
        "session_id": "s",
        "status": "idle",
        "created_at": at,
        "last_updated": at,
        "last_active": at,
        "memory_context": {"own": number},
        "task_history": [],
        "performance_metrics": {},
        "agent_config": {},
        "tools_enabled": [],
    }


def _whole_task(world: World, number: int) -> None:
    with world.agent.task(f"task{number}", "code") as notes:
        notes["lines"] = number


def _failing_task(world: World, number: int) -> None:
    with contextlib.suppress(ValueError), world.agent.task(f"failing{number}", "code"):
        raise ValueError(number)


def _task_parts(world: World, number: int) -> list[bool]:
    entry = world.task(f"task{number}")
    done = entry.get("status") == "completed"
    return [done, done and entry.get("lines") == number]


def _failing_task_parts(world: World, number: int) -> list[bool]:
    entry = world.task(f"failing{number}")
    failed = entry.get("status") == "failed" and entry.get("error_type") == "ValueError"
    return [failed, failed and "ended_at" in entry]


def _handoff(world: World, number: int) -> None:
    context = {"case": "handoff", "n": number}
    with world.agent.handoff(world.other, context=context) as under_way:
        under_way.task_context["n"] = number


def _failing_handoff(world: World, number: int) -> None:
    context = {"case": "failing", "n": number}
    with contextlib.suppress(ValueError), world.agent.handoff(world.other, context=context):
        raise ValueError(number)


def _spawn(world: World, number: int) -> None:
    world.agent.spawn("Child", f"c{number}", context={"case": "spawn", "n": number})


def spawn_parts(world: World, number: int) -> list[bool]:
    return [
        world.state_of("Child", f"c{number}", world.agent.identity.session_id) is not None,
        world.has_event("spawn", number),
        f"c{number}" in world.state.child_agent_ids,
    ]


def _replace(world: World, number: int) -> None:
    metrics = {"replaced": float(number)}
    world.agent.replace(world.agent.state.model_copy(update={"performance_metrics": metrics}))


def _details(case: str, number: int) -> dict[str, Any]:
    return {"context": {"case": case, "n": number}}


def _event(case: str, call: Callable[[World, dict[str, Any]], Any]) -> Case:
    return Case(
        f"Agent.{case}",
        lambda world, number: call(world, _details(case, number)),
        lambda world, number: [world.has_event(case, number)],
    )


AGENT = (
    Case("Agent.state", lambda world, _: world.agent.state),
    Case("Agent.epoch", lambda world, _: world.agent.epoch),
    Case("Agent.fenced", lambda world, _: world.agent.fenced),
    Case("Agent.on_fenced", lambda world, _: world.agent.on_fenced(lambda _: None)),
    Case("Agent.on_nearly_full", lambda world, _: world.agent.on_nearly_full(lambda _: None)),
    Case(
        "Agent.update",
        lambda world, n: world.agent.update(agent_config={"n": n}, performance_metrics={"n": n}),
        lambda world, n: [
            world.state.agent_config == {"n": n},
            world.state.performance_metrics == {"n": n},
        ],
        lasting=False,
    ),
    Case("Agent.save", lambda world, _: world.agent.save()),
    Case(
        "Agent.terminate",
        lambda world, n: world.made[n].terminate(),
        lambda world, n: [
            getattr(world.state_of(*world.made[n].identity), "status", "") == "terminated"
        ],
        prepare=lambda world, n: _start(world, n, "Mortal"),
        subject=_own,
    ),
    Case(
        "Agent.remember",
        lambda world, n: world.agent.remember(
            f"k{n}", {"type": "fact", "importance": 0.5, "text": str(n)}
        ),
        lambda world, n: [f"k{n}" in world.state.memory_context],
    ),
    Case(
        "Agent.forget",
        lambda world, n: world.agent.forget(f"f{n}"),
        lambda world, n: [f"f{n}" not in world.state.memory_context],
        prepare=lambda world, n: world.agent.remember(f"f{n}", n),
    ),
    Case(
        "Agent.measure",
        lambda world, n: world.agent.measure(a=n, b=n),
        lambda world, n: [world.state.performance_metrics.get(name) == n for name in "ab"],
        lasting=False,
    ),
    Case(
        "Agent.begin_task",
        lambda world, n: world.agent.begin_task(f"begun{n}", "code"),
        lambda world, n: [
            world.task(f"begun{n}").get("status") == "in_progress",
            world.state.current_task == f"begun{n}",
        ],
        lasting=False,
    ),
    Case(
        "Agent.end_task",
        lambda world, n: world.agent.end_task(f"ended{n}", lines=n),
        lambda world, n: [
            world.task(f"ended{n}").get("status") == "completed",
            world.task(f"ended{n}").get("lines") == n,
        ],
        prepare=lambda world, n: world.agent.begin_task(f"ended{n}", "code"),
    ),
    Case("Agent.task", _whole_task, _task_parts),
    Case("Agent.task, failing", _failing_task, _failing_task_parts),
    Case(
        "Agent.remember, beside others",
        _remember_beside_others,
        lambda world, n: [f"beside{n}" in world.state.memory_context],
    ),
    _event(
        "record",
        lambda world, details: world.agent.record("collaboration", world.other, **details),
    ),
    _event("handed_off", lambda world, details: world.agent.handed_off(world.other, **details)),
    _event("collaborated", lambda world, details: world.agent.collaborated(world.other, **details)),
    _event("spawned", lambda world, details: world.agent.spawned(("Child", "c"), **details)),
    _event("ended", lambda world, details: world.agent.ended(world.other, **details)),
    _event("failed", lambda world, details: world.agent.failed(ValueError("x"), **details)),
    Case("Agent.handoff", _handoff, lambda world, n: [world.has_event("handoff", n)]),
    Case(
        "Agent.handoff, failing",
        _failing_handoff,
        lambda world, n: [world.has_event("failing", n)],
    ),
    Case("Agent.spawn", _spawn, spawn_parts),
    Case(
        "Agent.release",
        lambda world, n: world.made[n].release(),
        prepare=lambda world, n: _start(world, n, "Released"),
        subject=_own,
    ),
    Case(
        "Agent.delete",
        lambda world, n: world.made[n].delete(),
        lambda world, n: [world.state_of(*world.made[n].identity) is None],
        prepare=lambda world, n: _start(world, n, "Deleted"),
    ),
    Case(
        "Agent.replace",
        _replace,
        lambda world, n: [world.state.performance_metrics == {"replaced": n}],
        lasting=False,
        nested=False,
    ),
)


def _started(world: World, number: int) -> list[bool]:
    state = world.state_of("Started", f"Started{number}", "s")
    return [state is not None, state is not None and state.memory_context == {"own": number}]


def _take_up(world: World, number: int) -> None:
    world.results[number] = world.manager.take_up("Taken", f"Taken{number}", "s")


def _taken(world: World, number: int) -> Agent:
    """Return the agent that was taken up, or else take it up once more."""
    found = world.results.get(number)
    return found or world.manager.take_up("Taken", f"Taken{number}", "s")


def _watch(world: World, _: int) -> None:
    world.manager.watch("Worker", "w", "s", lambda _: None).close()


def _watch_children(world: World, _: int) -> None:
    world.manager.watch_children("w", lambda _: None).close()


def _save_and_flush(world: World, _: int) -> None:
    world.agent.save()
    assert world.manager.flush(30)


def _in_a_block(world: World, _: int) -> None:
    with world.manager:
        world.agent.save()


def _open(world: World, _: int) -> None:
    with _closing_what_is_left():
        StateManager(project="", folder=world.folder, snapshot_interval_seconds=0.02).close()


def _open_in_memory(_: World, __: int) -> None:
    with _closing_what_is_left():
        StateManager.in_memory().close()


@contextlib.contextmanager
def _closing_what_is_left() -> Iterator[None]:
    """Close what was interrupted before anybody had it: its threads would slow what follows."""
    before = set(_OPEN)
    try:
        yield
    finally:
        for each in set(_OPEN) - before:
            each.close(0.0)


MANAGER = (
    Case("StateManager.__init__", _open, fresh=True),
    Case("StateManager.in_memory", _open_in_memory, fresh=True),
    Case("StateManager.__enter__", _in_a_block, fresh=True),
    Case("StateManager.close", lambda world, _: world.manager.close(), fresh=True),
    Case(
        "StateManager.start",
        lambda world, n: _start(world, n, "Started", memory_context={"own": n}),
        _started,
    ),
    Case(
        "StateManager.start, unnamed",
        lambda world, n: world.manager.start("Unnamed", f"unnamed{n}"),
        lambda world, n: [world.manager.load("Unnamed", f"unnamed{n}").value is not None],
    ),
    Case(
        "StateManager.agent",
        lambda world, n: world.manager.agent("Asked", f"asked{n}", "s").remember("own", n),
        lambda world, n: [_remembers(world.state_of("Asked", f"asked{n}", "s"), n)],
    ),
    Case(
        "StateManager.agent, newest",
        lambda world, n: world.manager.agent("Former", f"r{n}").remember("own", n),
        lambda world, n: [_remembers(world.manager.load("Former", f"r{n}").value, n)],
        prepare=_ended_former,
    ),
    Case("StateManager.stale", lambda world, _: world.manager.stale(limit=3)),
    Case("StateManager.on_stale", lambda world, _: world.manager.on_stale(_ignore)),
    Case(
        "StateManager.adopt",
        lambda world, n: world.manager.adopt("Dead", f"dead{n}"),
        lambda world, n: [_is_renewed(world, n)],
        prepare=_die_long_ago,
    ),
    Case(
        "StateManager.take_up",
        _take_up,
        prepare=lambda world, n: world.manager.start("Taken", f"Taken{n}", "s"),
        subject=_taken,
    ),
    Case(
        "StateManager.take_up, or_start",
        lambda world, n: world.manager.take_up("New", f"new{n}", "s", or_start=True),
        lambda world, n: [world.state_of("New", f"new{n}", "s") is not None],
    ),
    Case(
        "StateManager.resume",
        lambda world, n: world.manager.resume("Former", f"r{n}", "second"),
        _resumed,
        prepare=_former,
    ),
    Case(
        "StateManager.take_up, beside others",
        _take_up_beside_others,
        prepare=lambda world, n: world.manager.start("Taken", f"Taken{n}", "s"),
        subject=_taken,
    ),
    Case(
        "StateManager.resume, beside others",
        _resume_beside_others,
        _resumed,
        prepare=_former,
    ),
    Case(
        "StateManager.resume_from",
        lambda world, n: world.manager.resume_from("Former", f"r{n}", "first", "second"),
        _resumed,
        prepare=_former,
    ),
    Case(
        "StateManager.save",
        lambda world, n: world.manager.save(_whole_state(n)),
        lambda world, n: [world.state_of("Whole", f"whole{n}", "s") is not None],
    ),
    Case(
        "StateManager.delete",
        lambda world, n: world.manager.delete(*world.made[n].identity),
        lambda world, n: [world.state_of(*world.made[n].identity) is None],
        prepare=lambda world, n: _start(world, n, "Removed"),
    ),
    Case(
        "StateManager.clean_up",
        lambda world, _: world.manager.clean_up(30),
        lambda world, n: [world.state_of("Ended", f"ended{n}", "s") is None],
        prepare=_end_long_ago,
        lasting=False,  # what an interrupted one has left the next one deletes
    ),
    Case(
        "StateManager.clean_up, dry_run", lambda world, _: world.manager.clean_up(30, dry_run=True)
    ),
    Case("StateManager.load", lambda world, _: world.manager.load("Worker", "w")),
    Case(
        "StateManager.load.aio",
        lambda world, _: asyncio.run(_awaited(world.manager)),
    ),
    Case("StateManager.active", lambda world, _: world.manager.active(agent_type="Worker")),
    Case("StateManager.children", lambda world, _: world.manager.children("Worker", "w")),
    Case("StateManager.events", lambda world, _: world.manager.events(limit=3)),
    Case("StateManager.success_rates", lambda world, _: world.manager.success_rates(limit=3)),
    Case("StateManager.learned", lambda world, _: world.manager.learned("Worker", "w")),
    Case("StateManager.learned_by_type", lambda world, _: world.manager.learned_by_type("Worker")),
    Case("StateManager.system", lambda world, _: world.manager.system()),
    Case("StateManager.watch", _watch),
    Case("StateManager.watch_children", _watch_children),
    Case("StateManager.connection", lambda world, _: world.manager.connection),
    Case("StateManager.on_connection", lambda world, _: world.manager.on_connection(_ignore)),
    Case("StateManager.on_refused", lambda world, _: world.manager.on_refused(_ignore)),
    Case("StateManager.flush", _save_and_flush),
    Case("StateManager.settle", lambda world, _: world.manager.settle(30)),
)


async def _awaited(manager: StateManager) -> Any:
    return await manager.load.aio("Worker", "w")


def _ignore(*_: Any) -> None:
    return None


CONTROLS = (
    Case("Controls.flag", lambda world, _: world.manager.controls.flag("x")),
    Case("Controls.settings", lambda world, _: world.manager.controls.settings),
    Case("Controls.emergency_stop", lambda world, _: world.manager.controls.emergency_stop),
    Case("Controls.check", lambda world, _: world.manager.controls.check()),
    Case("Controls.on_change", lambda world, _: world.manager.controls.on_change(_ignore)),
    Case("Controls.on_emergency", lambda world, _: world.manager.controls.on_emergency(_ignore)),
)


CASES = {each.name: each for each in (*AGENT, *MANAGER, *CONTROLS)}

_OF_A_FORK = "called around a fork, which no signal handler of Python interrupts"
_OF_THE_REGISTRY = "called by the registry, on a thread of its own or within a call of the table"
_OF_MEMORY = "a look at memory, which changes nothing"
_OF_A_BLOCK = "called at the end of a block of `task` or `handoff`, which are in the table"
EXEMPT = {
    "Agent.__init__": "called by the registry, within `start`, `resume` and `take_up`",
    "Agent.carry_on": _OF_THE_REGISTRY,
    "Agent.child_ended": _OF_THE_REGISTRY,
    "Agent.fence": _OF_THE_REGISTRY,
    "Agent.rise_above": _OF_THE_REGISTRY,
    "Agent.begin_block": _OF_A_BLOCK,
    "Agent.end_block": _OF_A_BLOCK,
    "Agent.hand_over": _OF_A_BLOCK,
    "Agent.first_entries": _OF_THE_REGISTRY,
    "Agent.has_merged": _OF_THE_REGISTRY,
    "Agent.live": _OF_THE_REGISTRY,
    "Agent.merge": _OF_THE_REGISTRY,
    "Agent.merge_apart": _OF_THE_REGISTRY,
    "Agent.merge_stored": _OF_THE_REGISTRY,
    "Agent.merge_unsaved": _OF_THE_REGISTRY,
    "Agent.renew": _OF_THE_REGISTRY,
    "Agent.rest": _OF_THE_REGISTRY,
    "Agent.resumed_elsewhere": _OF_THE_REGISTRY,
    "Agent.save_first": _OF_THE_REGISTRY,
    "Agent.take": _OF_THE_REGISTRY,
    "Agent.take_again": _OF_THE_REGISTRY,
    "Agent.goes_on_as": _OF_MEMORY,
    "Agent.is_deleted": _OF_MEMORY,
    "Agent.resumed_from": _OF_MEMORY,
    "Agent.seen": "an attribute",
    "Agent.saved_first": _OF_THE_REGISTRY,
    "Agent.is_usable": _OF_THE_REGISTRY,
    "Agent.lists": _OF_THE_REGISTRY,
    "Agent.identity": "an attribute",
    "Agent.fresh": "an attribute",
    "Agent.is_held": "an attribute",
    "Agent.is_above": "an attribute",
    "StateManager.__exit__": "run by the case of `StateManager.__enter__`",
    "StateManager.controls": "an attribute; its own calls are in the table",
    "Controls.__init__": "called by the runtime, within `StateManager()`",
    "Controls.close": "called by the runtime, within `StateManager.close`",
    **{
        f"{owner}.{name}": _OF_A_FORK
        for owner in ("Agent", "Controls", "StateManager")
        for name in ("before_fork", "after_fork_in_parent", "after_fork", "leak")
    },
}
"""Public names that are not in the table, each with its reason."""
