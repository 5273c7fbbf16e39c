"""Recorded runs of multi-agent systems, as the messages that their agents would have published.

Two shapes are known, both of the Who&When data set: each turn of `history` has a `name` (AG2
groups), or a `role` that names the speaker, perhaps with a remark: `Orchestrator (thought)`.

Each turn makes the speaker's state; a change of speaker is a handoff; a speaker's first turn is a
spawn by the one before; the end terminates all; a run that failed (`mistake_agent`, at
`mistake_step`) has an error at that step by that agent. The run is the session.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from firestate.client.outgoing import Outgoing, outgoing
from firestate.errors import FieldProblem, InvalidMessageError
from firestate.schema.values import time_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TURN = timedelta(seconds=1)
_WRITER = "replay"


def is_transcript(raw: Any) -> bool:  # noqa: ANN401 - any JSON
    """Whether `raw` is a run with turns by named speakers."""
    history = raw.get("history") if isinstance(raw, dict) else None
    return (
        isinstance(history, list)
        and bool(history)
        and all(isinstance(turn, dict) and _names_speaker(turn) for turn in history)
    )


def _names_speaker(turn: dict[str, Any]) -> bool:
    name = turn.get("name") or turn.get("role")
    return isinstance(name, str) and bool(name.partition(" (")[0])


def read_transcript(path: Path, start: datetime) -> list[Outgoing]:
    """Read the run in `path`, its first turn at `start`, one second a turn.

    Raises InvalidMessageError if it is no transcript.
    """
    raw = json.loads(path.read_bytes())
    if not is_transcript(raw):
        problem = FieldProblem(str(path), "is no transcript: `history` must be a list of turns")
        raise InvalidMessageError("transcript", [problem])
    run = TranscriptRun(f"{path.parent.name}-{path.stem}", start)
    try:
        return [outgoing(message) for message in run.play(raw)]
    except (ValueError, OverflowError) as error:
        problem = FieldProblem(str(path), f"cannot be replayed: {error}")
        raise InvalidMessageError("transcript", [problem]) from error


def speaker_of(turn: dict[str, Any]) -> str:
    """Give who speaks: `name`, or `role` without its remark."""
    name: str = turn.get("name") or turn["role"].partition(" (")[0]
    return name


@dataclass(slots=True)
class _TranscriptAgent:
    name: str
    created_at: datetime
    parent: str | None
    revision: int = 0
    children: list[str] = field(default_factory=list)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    last_message: dict[str, Any] = field(default_factory=dict)


class TranscriptRun:
    """One run being played: who is there, and what each has done."""

    def __init__(self, session_id: str, start: datetime) -> None:
        """Name the run; `start` is the time of its first turn."""
        self._session_id = session_id
        self._start = start
        self._agents: dict[str, _TranscriptAgent] = {}

    def play(self, raw: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Give the messages of the whole run, in order."""
        history = raw["history"]
        labelled = raw.get("mistake_agent") and raw.get("mistake_step") is not None
        step_of_mistake = int(raw["mistake_step"]) if labelled else None
        before: _TranscriptAgent | None = None
        for step, turn in enumerate(history):
            at = self._start + step * _TURN
            name = speaker_of(turn)
            if before is not None and name != before.name:
                if name not in self._agents:
                    before.children.append(name)
                    yield self._event("spawn", step, at, before.name, name)
                yield self._event("handoff", step, at, before.name, name)
            agent = self._agents.setdefault(
                name, _TranscriptAgent(name, at, before.name if before else None)
            )
            failed = step == step_of_mistake
            agent.tasks.append(
                {
                    "task_id": f"turn-{step}",
                    "kind": "turn",
                    "status": "failed" if failed else "completed",
                    "ended_at": time_text(at),
                }
            )
            agent.last_message = {"type": "message", "text": turn.get("content") or ""}
            yield self._state(agent, at, "error" if failed else "active")
            if failed:
                yield self._mistake(raw, step, at)
            before = agent
        end = self._start + len(history) * _TURN
        for agent in self._agents.values():
            yield self._event("termination", len(history), end, agent.name, agent.name)
            yield self._state(agent, end, "terminated")

    def _state(self, agent: _TranscriptAgent, at: datetime, status: str) -> dict[str, Any]:
        agent.revision += 1
        state = {
            "agent_id": agent.name,
            "agent_type": agent_type(agent.name),
            "session_id": self._session_id,
            "status": status,
            "created_at": time_text(agent.created_at),
            "last_updated": time_text(at),
            "last_active": time_text(at),
            "memory_context": {"last_message": dict(agent.last_message)},
            "task_history": list(agent.tasks),
            "performance_metrics": {"turns": float(len(agent.tasks))},
            "agent_config": {},
            "tools_enabled": [],
            "child_agent_ids": list(agent.children),
        }
        if agent.parent is not None:
            state["parent_agent_id"] = agent.parent
        return {
            "schema_version": 1,
            "epoch": round(self._start.timestamp() * 1_000_000),
            "revision": agent.revision,
            "writer": _WRITER,
            "state": state,
        }

    def _event(
        self, kind: str, step: int, at: datetime, source: str, target: str
    ) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "event": {
                "event_id": f"{self._session_id}-{step}-{kind}-{agent_type(source)}",
                "event_type": kind,
                "timestamp": time_text(at),
                "source_agent_id": source,
                "source_agent_type": agent_type(source),
                "target_agent_id": target,
                "target_agent_type": agent_type(target),
                "session_id": self._session_id,
                "context": {"step": step},
                "task_context": {},
                "success": True,
            },
        }

    def _mistake(self, raw: dict[str, Any], step: int, at: datetime) -> dict[str, Any]:
        # The label counts, also where it is not that step's speaker.
        message = self._event("error", step, at, raw["mistake_agent"], raw["mistake_agent"])
        message["event"] |= {
            "success": False,
            "error_message": str(raw.get("mistake_reason", "")),
            "context": {"step": step, "error_type": "mistake"},
        }
        return message


def agent_type(name: str) -> str:
    """Give the agent type for a foreign name: what has underscores there has hyphens here."""
    return name.replace("_", "-")
