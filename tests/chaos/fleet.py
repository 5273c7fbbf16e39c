"""A fleet of agents as its clients see it: drawn step by step, each step gives its messages.

Everything that a client may rightly do comes up: heartbeats, ended tasks, deletes, re-creations,
sessions taken up by another writer while the former one goes on, agents resumed in a new session
with their history, events. And what it may do wrongly: two writers in one place of the order, one
event id with two contents, nonsense. What conflicts differs in nothing that is counted, so that the
totals are known whichever of the two comes first.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from firestate.client.outgoing import Outgoing, outgoing
from firestate.schema.messages import EVENT_TOPIC, STATE_TOPIC
from firestate.schema.values import time_text
from tests.chaos.client_session import ClientSession
from tests.chaos.document_order import place_of

if TYPE_CHECKING:
    import random
    from datetime import datetime

_TYPES = ("Father", "Architect", "Developer", "QA")
_LIVE = ("idle", "active", "busy", "error")
_KINDS = ("code", "test", "design", "other", "a.b")
_EVENTS = ("spawn", "handoff", "collaboration", "termination", "error")
_STEPS = {
    "heartbeat": 3,
    "work": 6,
    "event": 5,
    "terminate": 1,
    "delete": 1,
    "begin_again": 2,
    "take_over": 2,
    "zombie": 2,
    "resume": 2,
    "rival_state": 1,
    "rival_event": 1,
    "reworded": 1,
    "nonsense": 1,
}
_NONSENSE = (
    b"",
    b"\xff\xfe",
    b"[1]",
    b'{"epoch": 1, "revision"',
    b'{"event": {"event_id": "a/b"}}',
    b'{"state": {"agent_id": "x"}, "epoch": -1}',
)


class Fleet:
    """So many agents; `name` keeps the ids of one fleet apart from another's."""

    def __init__(self, draw: random.Random, name: str, agents: int, now: datetime) -> None:
        self._draw = draw
        self._name = name
        self._number = 0
        self.now = now
        self.bad: list[Outgoing] = []
        self.rivals: set[tuple[str, int, int]] = set()
        self.sessions: list[ClientSession] = []
        self._former: list[ClientSession] = []
        self._sent: list[Outgoing] = []
        self._first = [self._session(f"{name}-{number}") for number in range(agents)]

    @property
    def sent(self) -> list[Outgoing]:
        """All messages so far, in the order in which they were made."""
        return list(self._sent)

    def begin(self) -> list[Outgoing]:
        """Give the first state of each agent."""
        return [message for session in self._first for message in self._start(session)]

    def step(self) -> list[Outgoing]:
        """Let one agent do one thing; give its messages, mostly one."""
        self.now += timedelta(milliseconds=self._draw.randrange(1, 2_000))
        names = list(_STEPS)
        (chosen,) = self._draw.choices(names, weights=list(_STEPS.values()))
        made: list[Outgoing] = getattr(self, f"_{chosen}")(self._draw.choice(self.sessions))
        return made

    def farewell(self) -> list[Outgoing]:
        """Let each session send its latest state once more."""
        self.now += timedelta(seconds=1)
        return [
            message
            for one in self.sessions
            for message in (self._delete(one) if one.deleted else [self._save(one)])
        ]

    def awakened(self) -> list[Outgoing]:
        """Let each former writer go on, after however long."""
        return [message for one in self._former for message in self._go_on(one)]

    def _heartbeat(self, one: ClientSession) -> list[Outgoing]:
        if one.deleted or one.status == "terminated":
            return self._begin_again(one)
        one.beats += 1
        return [self._save(one)]

    def _work(self, one: ClientSession) -> list[Outgoing]:
        if one.deleted or one.status == "terminated":
            return self._begin_again(one)
        one.status = self._draw.choice(_LIVE)
        outcome = self._draw.choice(("completed", "completed", "failed", "cancelled"))
        kind, seconds = self._draw.choice(_KINDS), self._draw.randrange(1, 500) / 8
        self._number += 1
        one.work(f"t{self._number}", kind, outcome, seconds, self.now)
        note = {"type": kind, "importance": 0.5, "session_id": one.session_id}
        one.memory = one.memory | {f"m{self._draw.randrange(4)}": note}
        return [self._save(one)]

    def _terminate(self, one: ClientSession) -> list[Outgoing]:
        if one.deleted:
            return self._begin_again(one)
        one.status = "terminated"
        return [self._save(one)]

    def _delete(self, one: ClientSession) -> list[Outgoing]:
        return [self._send(outgoing(one.deletion(self.now)))]

    def _begin_again(self, one: ClientSession) -> list[Outgoing]:
        """Make a session anew that was deleted or had ended, or take up the running one."""
        again = self._session(one.agent_id, one.agent_type, one.session_id)
        again.epoch = max(again.epoch, one.epoch + 1)
        self.sessions.remove(one)
        return self._start(again)

    def _take_over(self, one: ClientSession) -> list[Outgoing]:
        """Carry a session on as another writer; the former one does not know of it."""
        self._number += 1
        epoch = max(self._micros(), one.epoch + 1)
        writer = f"w{self._number}"
        taken = replace(one, writer=writer, epoch=epoch, revision=0, deleted=False, status="idle")
        self.sessions.remove(one)
        self._former.append(one)
        return self._start(taken)

    def _zombie(self, one: ClientSession) -> list[Outgoing]:
        """Let a former writer go on: all that it sends has been replaced."""
        if not self._former:
            return self._heartbeat(one)
        return self._go_on(self._draw.choice(self._former))

    def _go_on(self, former: ClientSession) -> list[Outgoing]:
        former.status = self._draw.choice(_LIVE)
        former.deleted = False
        former.tasks = [*former.tasks, *former.tasks[:1]]
        return [self._save(former)]

    def _resume(self, one: ClientSession) -> list[Outgoing]:
        """Go on in a new session that carries history and memory along; the old one may end."""
        self._number += 1
        new = self._session(one.agent_id, one.agent_type, f"{one.session_id[:40]}+{self._number}")
        new.tasks, new.memory = list(one.tasks), dict(one.memory)
        ended = self._terminate(one) if self._draw.random() < 0.7 and not one.deleted else []
        return [*ended, *self._start(new)]

    def _rival_state(self, one: ClientSession) -> list[Outgoing]:
        """Two writers in one place of the order; they differ in nothing that is counted."""
        if one.deleted:
            return self._begin_again(one)
        first = self._save(one)
        body = json.loads(first.data)
        body["state"]["performance_metrics"] = {"rival": 1.0}
        return self._rival(first, body)

    def _event(self, one: ClientSession) -> list[Outgoing]:
        self._number += 1
        success = self._draw.random() < 0.8
        event: dict[str, Any] = {
            "event_id": f"{self._name}-e{self._number}",
            "event_type": self._draw.choice(_EVENTS),
            "timestamp": time_text(self.now),
            "source_agent_id": one.agent_id,
            "source_agent_type": one.agent_type,
            "context": {} if success else {"error_type": self._draw.choice(("Crash", "Timeout"))},
            "task_context": {},
            "success": success,
            "session_id": one.session_id,
        }
        if self._draw.random() < 0.5:
            event["duration_seconds"] = self._draw.randrange(8000) / 8
        if self._draw.random() < 0.5:
            target = self._draw.choice(self.sessions)
            event |= {"target_agent_id": target.agent_id, "target_agent_type": target.agent_type}
        return [self._send(outgoing({"event": event}))]

    def _rival_event(self, one: ClientSession) -> list[Outgoing]:
        (first,) = self._event(one)
        body = json.loads(first.data)
        body["event"]["task_context"] = {"rival": True}
        return self._rival(first, body)

    def _rival(self, first: Outgoing, body: dict[str, Any]) -> list[Outgoing]:
        self.rivals.add(place_of(first))
        return [first, self._send(outgoing(body))]

    def _reworded(self, one: ClientSession) -> list[Outgoing]:
        """The content of an earlier message in other bytes, as another client would resend it."""
        del one
        earlier = self._draw.choice([m for m in self._sent if m not in self.bad])
        data = json.dumps(json.loads(earlier.data), sort_keys=True, indent=1).encode()
        return [self._send(Outgoing(earlier.topic, data))]

    def _nonsense(self, one: ClientSession) -> list[Outgoing]:
        del one
        self._number += 1
        data = self._draw.choice(_NONSENSE) + b" " * self._number
        message = Outgoing(self._draw.choice((STATE_TOPIC, EVENT_TOPIC)), data)
        self.bad.append(message)
        return [self._send(message)]

    def _session(
        self, agent_id: str, agent_type: str | None = None, session_id: str | None = None
    ) -> ClientSession:
        self._number += 1
        return ClientSession(
            agent_type=agent_type or self._draw.choice(_TYPES),
            agent_id=agent_id,
            session_id=session_id or f"{self._name}-s{self._draw.randrange(5)}",
            writer=f"w{self._number}",
            epoch=self._micros(),
            created_at=self.now,
            uses_totals=self._draw.random() < 0.3,
        )

    def _start(self, session: ClientSession) -> list[Outgoing]:
        self.sessions.append(session)
        return [self._save(session)]

    def _save(self, one: ClientSession) -> Outgoing:
        return self._send(outgoing(one.saved(self.now)))

    def _send(self, message: Outgoing) -> Outgoing:
        self._sent.append(message)
        return message

    def _micros(self) -> int:
        return round(self.now.timestamp() * 1_000_000)
