"""The tasks of an agent: begun, ended, timed; each is an entry of its history."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from firestate.agents.desk import now
from firestate.agents.values import plain
from firestate.counters.tasks import ENDED
from firestate.schema.enums import AgentStatus, TaskStatus

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Mapping

    from firestate.agents.fields import Fields
    from firestate.schema.ids import Identity


class Tasks:
    """An agent and its tasks; part of Agent."""

    identity: Identity
    _lock: threading.RLock
    _fields: Fields

    if TYPE_CHECKING:

        def _save(self, changes: Mapping[str, Any], *, whole: bool = False) -> None: ...

    def begin_task(self, task_id: str, kind: str, **details: Any) -> Self:  # noqa: ANN401 - the user's own
        """Put a task into the history as in progress; the agent is busy with it."""
        entry = {
            **details,
            "task_id": task_id,
            "kind": kind,
            "status": TaskStatus.IN_PROGRESS,
            "session_id": self.identity.session_id,
            "started_at": now(),
        }
        with self._lock:
            self._save(
                {
                    "status": AgentStatus.BUSY.value,
                    "current_task": task_id,
                    "task_status": TaskStatus.IN_PROGRESS.value,
                    "task_history": [*self._fields["task_history"], plain(entry)],
                }
            )
        return self

    def end_task(self, task_id: str, status: str = "completed", **details: Any) -> Self:  # noqa: ANN401 - the user's own
        """Say how a task ended: completed, failed or cancelled; once it has, it counts.

        One that was never begun is put into the history as it is.
        """
        return self._end(task_id, status, details)

    def _end(self, task_id: str, status: str, details: Mapping[str, Any]) -> Self:
        if status not in ENDED:
            message = f"a task ends as {', '.join(ENDED)}, not {status!r}"
            raise ValueError(message)
        with self._lock:
            history = list(self._fields["task_history"])
            places = range(len(history) - 1, -1, -1)
            place = next((n for n in places if self._runs(history[n], task_id)), None)
            begun = history[place] if place is not None else {"task_id": task_id}
            ended = {
                **begun,
                **details,
                "task_id": task_id,
                "status": status,
                "session_id": self.identity.session_id,
                "ended_at": now(),
            }
            if place is None:
                history.append(plain(ended))
            else:
                history[place] = plain(ended)
            changes: dict[str, Any] = {"task_history": history}
            if self._fields["current_task"] == task_id:
                changes |= self._after(task_id, status, history)
            self._save(changes)
        return self

    @contextmanager
    def task(self, task_id: str, kind: str, **details: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - the user's own
        """Time a task: it completes with the block, or fails with what the block raises.

        What is put into the map that the block gets is kept in the history's entry.
        """
        self.begin_task(task_id, kind, **details)
        more: dict[str, Any] = {}
        started = time.monotonic()
        try:
            yield more
        except BaseException as error:
            more = {"error": f"{type(error).__name__}: {error}", **more}
            self._end(task_id, "failed", {"duration_seconds": time.monotonic() - started, **more})
            raise
        self._end(task_id, "completed", {"duration_seconds": time.monotonic() - started, **more})

    def _after(self, task_id: str, status: str, history: list[Any]) -> dict[str, Any]:
        """Say what the agent does once its current task has ended: another that runs, if any."""
        own = self.identity.session_id
        for entry in reversed(history):
            if entry.get("session_id") == own and self._runs(entry, entry.get("task_id", "")):
                return {"current_task": entry["task_id"], "task_status": TaskStatus.IN_PROGRESS}
        return {"status": AgentStatus.ACTIVE, "current_task": task_id, "task_status": status}

    @staticmethod
    def _runs(entry: Mapping[str, Any], task_id: str) -> bool:
        return entry.get("task_id") == task_id and entry.get("status") == TaskStatus.IN_PROGRESS
