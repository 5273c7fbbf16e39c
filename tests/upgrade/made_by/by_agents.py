"""Agents of a StateManager: children, a long history, an outbox that nobody could empty."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from firestate import StateManager
from firestate.outbox.file import Outbox

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

_TASKS = 260
_NOWHERE = "127.0.0.1:9"
"""Nobody listens here: what is sent to it stays in the outbox."""
_PROJECT = "demo-samples"


def hide_this_machine() -> None:
    """Give this machine another name: those of writers begin with it."""
    socket.gethostname = lambda: "sample-host"


def run_families(folder: Path) -> None:
    """Spawn children of parents that share an agent id, and end some of them."""
    with StateManager(project="", folder=folder) as manager:
        planner = manager.start("Planner", "lead", "sprint_3")
        again = manager.start("Planner", "lead", "sprint_4")
        coder = manager.start("Coder", "lead", "sprint_3")
        planner.spawn("Helper", "help_1")
        second = coder.spawn("Helper", "help_2", session_id="side_1")
        coder.spawn("Helper", "help_3", session_id="alone")
        again.spawn("Helper", "help_4")
        # One agent, a child of each of them in another session.
        planner.spawn("Helper", "shared_1", session_id="left_1")
        coder.spawn("Helper", "shared_1", session_id="right_1")
        grandchild = second.spawn("Probe", "probe_1", context={"why": "to look"})
        gone = coder.spawn("Helper", "help_5")
        grandchild.ended()
        grandchild.terminate()
        gone.delete()
        planner.handed_off(coder, context={"what": "the plan"}, duration_seconds=2.5)
        again.terminate()
        assert manager.settle(60)


def run_long_history(folder: Path) -> None:
    """End more tasks in one session than its history keeps."""
    with StateManager(project="", folder=folder) as manager:
        for session in ("night_shift_1", "day"):
            agent = manager.start("Builder", "long_run", session, tools_enabled=["hammer", "saw"])
            for number in range(_TASKS if session != "day" else 5):
                status, more = _ending(number)
                kind = ("build", "mend")[number % 2]
                tool = ("hammer", "saw")[number % 2]
                agent.end_task(f"t{number:03}", status, kind=kind, tool=tool, **more)
            with suppress(RuntimeError), agent.task("t-last", "build", tool="saw"):
                raise RuntimeError("the saw is blunt")
            agent.remember("lesson", {"type": "insight", "importance": "high", "text": "measure"})
        assert manager.settle(60)


def _ending(number: int) -> tuple[str, dict[str, Any]]:
    if number % 10 == 3:
        return "cancelled", {}
    if number % 10 == 7:
        error = ("ValueError: too short", "TimeoutError: no answer", "it broke")[number % 3]
        return "failed", {"error": error, "duration_seconds": 1.25}
    return "completed", {"duration_seconds": 0.5}


def fill_outbox(folder: Path) -> Path:
    """Fill the outbox of a project that cannot be reached; return its path."""
    with _unreachable(folder) as manager:
        manager.start("QA", "red_team", "lead_9")
        # Its key is the one that the first moves to.
        manager.start("QA", "red_team", "lead_9~8")
        # One row: the agent named in it is the first, the data are of the second.
        manager.start("Worker", "tenant", "3_4").remember("pin", {"text": "of tenant"})
        manager.start("Worker", "tenant_3", "4").remember("own", {"text": "of tenant_3"})
        manager.start("Father", "agent_001", "session_200")
        manager.start("Scout", "s9", "run~7")
        manager.start("Eraser", "z_1", "gone_2").delete()
        manager.start("Closer", "sent_1", "shift_4")
        manager.start("Closer", "done_1", "shift_3")
        manager.start("Guard", "gate", "x_9")
        manager.start("Guard", "gate_x", "9")
        parent = manager.start("Planner", "lead", "sprint_5")
        child = parent.spawn("Helper", "help_6")
        child.handed_off(parent, context={"what": "the answer"})
    path = folder / f"outbox-{_PROJECT}.db"
    outbox = Outbox(path, most_bytes=10_000_000)
    sent = [each for each in outbox.waiting(100) if _was_sent(each.document)]
    assert len(sent) == 3
    outbox.confirm(sent)
    # After ten minutes what was sent is forgotten, but for the order.
    ago = time.time() - 900
    forgotten = [(ago, each.document) for each in sent if "sent_1" not in each.document]
    connection: Any = vars(outbox)["_opened"]  # of the release that runs this
    connection.executemany("UPDATE snapshots SET sent_at = ? WHERE document = ?", forgotten)
    outbox.tidy()
    outbox.note(None)
    outbox.close()
    return path


def _was_sent(document: str) -> bool:
    return document.endswith(("done_1_shift_3", "gate_x_9", "sent_1_shift_4"))


def _unreachable(folder: Path) -> AbstractContextManager[StateManager]:
    os.environ["FIRESTORE_EMULATOR_HOST"] = os.environ["PUBSUB_EMULATOR_HOST"] = _NOWHERE
    return StateManager(project=_PROJECT, folder=folder, patience_seconds=0.1)
