"""An agent that is resumed again and again, each time by another process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from firestate import StateManager
from firestate.audit.full import FullAudit
from firestate.limits import MAX_HISTORY
from firestate.queries import OF_AGENT
from tests.chaos.agent_processes import Log, environment_of, process

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from firestate.stores.protocol import Store
    from tests.load.runner import Runner

_PROCESSES = 5


def live_a_session(log: Log, folder: Path | None, agent_id: str, number: int, tasks: int) -> None:
    """Resume, work, remember, and end without a word, as processes do."""
    manager = StateManager(folder=folder, patience_seconds=30.0)
    agent = manager.resume("Developer", agent_id)
    assert agent.fresh
    for task in range(tasks):
        with agent.task(f"{number}-{task:03}", f"kind-{task % 3}", tool="editor"):
            pass
    agent.remember(f"note-{number}", {"type": "fact", "importance": 0.5, "from": number})
    agent.measure(**{f"metric-{number}": number, "sessions": number + 1})
    # What its counters need is left to whoever comes next: that is how processes end.
    assert manager.flush(30)
    log.write(lived=number, session=agent.identity.session_id)


@pytest.mark.parametrize("tasks", [30, 60], ids=["all-in-the-history", "more-than-that"])
@pytest.mark.timeout(300)
def test_five_sessions_by_five_processes_are_one_life(
    tmp_path: Path, empty_pipeline: Runner, tasks: int
) -> None:
    """History, metrics, memory are whole, in order, without duplicates; each task counts once."""
    pipeline, agent_id = empty_pipeline, f"agent-{tasks}"
    log = Log(tmp_path / "log")
    environment = environment_of(pipeline)
    folder = tmp_path / "outbox"
    for number in range(_PROCESSES):
        arguments = (folder, agent_id, number, tasks)
        child = process(environment, live_a_session, tmp_path / "log", *arguments)
        child.join(60)
        assert child.exitcode == 0, list(log.lines())
    pipeline.wait_quiet(60)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        _compare(tmp_path, agent_id, tasks, [line["session"] for line in log.lines()])
    assert FullAudit(pipeline.store).run().drift == 0
    _each_former_session_has_ended(pipeline.store, agent_id)


def _compare(folder: Path, agent_id: str, tasks: int, sessions: list[str]) -> None:
    # An outbox of its own: nothing but what is stored.
    with StateManager(folder=folder / "other", patience_seconds=30.0) as manager:
        answer = manager.load("Developer", agent_id)
        learned = manager.learned("Developer", agent_id).value
    assert answer.fresh
    state = answer.value
    assert state is not None
    expected = [f"{n}-{task:03}" for n in range(_PROCESSES) for task in range(tasks)]
    assert [entry["task_id"] for entry in state.task_history] == expected[-MAX_HISTORY:]
    assert [sessions[int(e["task_id"][0])] for e in state.task_history] == [
        entry["session_id"] for entry in state.task_history
    ]
    made_in = {key: entry["session_id"] for key, entry in state.memory_context.items()}
    assert made_in == {f"note-{n}": session for n, session in enumerate(sessions)}
    metrics: dict[str, Any] = {f"metric-{n}": n for n in range(_PROCESSES)}
    assert state.performance_metrics == metrics | {"sessions": _PROCESSES}
    assert learned.sessions == _PROCESSES
    assert learned.memories == _PROCESSES
    assert sum(kind.tries for kind in learned.kinds) == _PROCESSES * tasks
    assert [(t.name, t.tries, t.successes) for t in learned.tools] == [
        ("editor", _PROCESSES * tasks, _PROCESSES * tasks)
    ]


def _each_former_session_has_ended(store: Store, agent_id: str) -> None:

    query = OF_AGENT.query({"agent_type": "Developer", "agent_id": agent_id})
    newest, *former = store.query(query)
    assert newest.data["status"] != "terminated"
    assert {each.data["status"] for each in former} == {"terminated"}
    assert len(former) == _PROCESSES - 1
