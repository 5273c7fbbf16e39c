"""Agents whose clients are of the release before, drawn step by step; each step gives its messages.

Of their sessions about a third have ids that join in more than one way (agent `red_team7` in
session `lead_3`), or end like a mark (`run~3`). No two of them join to the same text: that release
would rightly refuse one of the two.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from firestate.client.outgoing import Outgoing
from firestate.schema.messages import EVENT_TOPIC, STATE_TOPIC
from tests.upgrade.old_session import TOOLS, Names, OldSession

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

_TYPES = ("Father", "Architect", "Developer", "QA")
_AGENTS = ("agent_{:03}", "coder-{}", "red_team{}", "solo{}")
_PLAIN_SESSIONS = ("session_{}", "s{}", "run-{}")
_OTHER_SESSIONS = ("lead_{}", "x_y_{}", "run~{}")
_LIVE = ("idle", "active", "busy", "error")
_KINDS = ("code", "test", "design", "other", "a.b")
_OUTCOMES = ("completed", "completed", "failed", "cancelled")
_ERRORS = ("ValueError", "TimeoutError", "Crash")
_EVENTS = ("handoff", "collaboration", "termination", "error")
_RECENT = 60
_FIRST_SESSIONS, _FIRST_TASKS = 2, 12
_NEWEST, _OTHERS, _SHARED, _OWN_TOTALS, _TIMED, _FAILING = 0.8, 0.36, 0.5, 0.3, 0.8, 0.2
_STEPS = {
    "heartbeat": 8,
    "begin_task": 3,
    "work": 14,
    "event": 8,
    "start": 1,
    "spawn": 1,
    "take_over": 1,
    "terminate": 1,
    "delete": 1,
}


class OldClients:
    """So many agents, all drawn from `draw`; what they do gives messages, mostly one."""

    def __init__(self, draw: random.Random, agents: int) -> None:
        self._draw = draw
        self._number = 0
        self._agents = [
            (draw.choice(_TYPES), draw.choice(_AGENTS).format(number)) for number in range(agents)
        ]
        self._joined: dict[str, Names] = {}
        self.sent: list[Outgoing] = []
        self.sessions: dict[Names, OldSession] = {}
        self.events: Counter[str] = Counter()

    def begin(self) -> list[Outgoing]:
        """Return the first states of each agent, which has done something in each session."""
        begun = []
        for agent in self._agents * _FIRST_SESSIONS:
            session = self._open(Names(*agent, self._session_id()))
            for _ in range(self._draw.randrange(_FIRST_TASKS)):
                self._end_a_task(session)
            begun.append(self._save(session))
        return begun

    def step(self) -> list[Outgoing]:
        """Let one agent do one thing; return its messages."""
        (chosen,) = self._draw.choices(list(_STEPS), weights=list(_STEPS.values()))
        does: Callable[[OldSession], list[Outgoing]] = getattr(self, f"_{chosen}")
        session = self._one_of_all()
        if session.ended and chosen not in {"event", "start", "take_over"}:
            return self._start_again(session)
        return does(session)

    def long_session(self) -> list[Outgoing]:
        """Return the first states of a session with more than 200 tasks, or soon as many."""
        session = self._open(self._new_names())
        first = self._save(session)
        for _ in range(self._draw.randrange(194, 260)):
            self._end_a_task(session)
        return [first, self._save(session)]

    def outcomes(self) -> Counter[str]:
        """Return how many tasks ended how, as the last message of each session says."""
        return sum((session.outcomes() for session in self.sessions.values()), Counter())

    def _heartbeat(self, session: OldSession) -> list[Outgoing]:
        session.beats += 1
        return [self._save(session)]

    def _begin_task(self, session: OldSession) -> list[Outgoing]:
        if session.running:
            return self._work(session)
        session.begin(self._name("t"), self._draw.choice(_KINDS), _now())
        return [self._save(session)]

    def _work(self, session: OldSession) -> list[Outgoing]:
        session.status = self._draw.choice(_LIVE)
        self._end_a_task(session)
        note: dict[str, Any] = {"type": self._draw.choice(_KINDS)}
        note |= {"importance": self._draw.random(), "session_id": session.names.session_id}
        session.memory = session.memory | {f"m{self._draw.randrange(4)}": note}
        return [self._save(session)]

    def _end_a_task(self, session: OldSession) -> None:
        draw = self._draw
        task_id, kind = session.running or self._name("t"), draw.choice(_KINDS)
        outcome = draw.choice(_OUTCOMES)
        entry = session.entry(task_id, kind, outcome) | {"tool": draw.choice(TOOLS)}
        if session.own_totals or draw.random() < _TIMED:
            entry["duration_seconds"] = draw.randrange(1, 500) / 8
        if outcome == "failed":
            entry["error"] = f"{draw.choice(_ERRORS)}: it went wrong"
        session.end(entry, _now())

    def _start(self, session: OldSession) -> list[Outgoing]:
        """Let an agent begin in a new session, or in one that another has begun."""
        kind, agent_id, _ = self._new_names()
        again = Names(kind, agent_id, session.names.session_id)
        shared = again not in self.sessions and self._draw.random() < _SHARED
        return [self._save(self._open(again if shared else self._new_names()))]

    def _start_again(self, session: OldSession) -> list[Outgoing]:
        """Make a session anew that was deleted or had ended."""
        return [self._save(self._open(session.names, above=session.epoch))]

    def _spawn(self, session: OldSession) -> list[Outgoing]:
        child = self._open(self._new_names())
        child.parent = session.names.agent_id
        session.children = [*session.children, child.names.agent_id]
        told = self._told(session, "spawn", child)
        return [self._save(child), told, self._save(session)]

    def _take_over(self, session: OldSession) -> list[Outgoing]:
        """Carry a session on as another process: what the former one sent may still come."""
        session.writer, session.revision = self._name("w"), 0
        session.epoch = max(_micros(), session.epoch + 1)
        session.deleted, session.status = False, "idle"
        return [self._save(session)]

    def _terminate(self, session: OldSession) -> list[Outgoing]:
        session.status = "terminated"
        return [self._save(session)]

    def _delete(self, session: OldSession) -> list[Outgoing]:
        return [self._send(STATE_TOPIC, session.deletion(_now()))]

    def _event(self, session: OldSession) -> list[Outgoing]:
        target = self._one_of_all() if self._draw.random() < _SHARED else None
        return [self._told(session, self._draw.choice(_EVENTS), target)]

    def _told(self, session: OldSession, kind: str, target: OldSession | None) -> Outgoing:
        failed = kind == "error" or self._draw.random() < _FAILING
        error = self._draw.choice(_ERRORS)
        event: dict[str, Any] = {
            "event_id": self._name("e"),
            "event_type": kind,
            "timestamp": _now().isoformat(),
            "source_agent_id": session.names.agent_id,
            "source_agent_type": session.names.agent_type,
            "session_id": session.names.session_id,
            "target_agent_id": target.names.agent_id if target else None,
            "target_agent_type": target.names.agent_type if target else None,
            "context": {"error_type": error} if failed else {},
            "task_context": {},
            "success": not failed,
            "error_message": f"{error}: it went wrong" if failed else None,
            "duration_seconds": self._draw.choice((None, self._draw.randrange(8000) / 8)),
        }
        self.events[kind] += 1
        return self._send(EVENT_TOPIC, {"schema_version": 1, "event": event})

    def _one_of_all(self) -> OldSession:
        sessions = list(self.sessions.values())
        newest = self._draw.random() < _NEWEST
        return self._draw.choice(sessions[-_RECENT:] if newest else sessions)

    def _new_names(self) -> Names:
        return Names(*self._draw.choice(self._agents), self._session_id())

    def _session_id(self) -> str:
        templates = _OTHER_SESSIONS if self._draw.random() < _OTHERS else _PLAIN_SESSIONS
        return self._name(self._draw.choice(templates))

    def _open(self, names: Names, above: int = 0) -> OldSession:
        joined = "_".join(names)
        assert self._joined.setdefault(joined, names) == names, f"two identities join to {joined}"
        self.sessions.pop(names, None)
        self.sessions[names] = OldSession(
            names=names,
            writer=self._name("w"),
            epoch=max(_micros(), above + 1),
            created_at=_now(),
            own_totals=self._draw.random() < _OWN_TOTALS,
        )
        return self.sessions[names]

    def _save(self, session: OldSession) -> Outgoing:
        return self._send(STATE_TOPIC, session.saved(_now()))

    def _send(self, topic: str, body: dict[str, Any]) -> Outgoing:
        self.sent.append(Outgoing(topic, json.dumps(body).encode()))
        return self.sent[-1]

    def _name(self, template: str) -> str:
        """Return a name with a number that no other has: none ends in another."""
        self._number += 1
        return template.format(self._number) if "{" in template else f"{template}{self._number}"


def _now() -> datetime:
    return datetime.now(UTC)


def _micros() -> int:
    return round(_now().timestamp() * 1_000_000)
