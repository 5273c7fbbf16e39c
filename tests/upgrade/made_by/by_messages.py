"""States, tombstones and events that are published as messages, and messages that are refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from firestate.client.outgoing import Outgoing, outgoing
from firestate.schema.ids import Identity
from firestate.schema.messages import EVENT_TOPIC, STATE_TOPIC

if TYPE_CHECKING:
    from datetime import datetime

    from firestate.local.engine import LocalEngine

_LONG = ("n" * 199 + "_" + "n" * 200, "s" * 199 + "_" + "s" * 200)

STORED = (
    # Each of these shares its document with others, which come into quarantine below.
    Identity("QA", "red_team", "lead_7"),
    Identity("Worker", "tenant", "1_2"),
    Identity("Tester", "web_1", "9"),
    Identity("Nurse", "ward_session", "3"),
    Identity("Guard", "gate", "north_1"),
    Identity("Trader", "desk", "a_b_1"),
    Identity("Auditor", "deep", "scan_5"),
    # Its document has the id that the first of all moves to.
    Identity("QA", "red_team", "lead_7~8"),
    # As most are.
    Identity("Father", "agent_001", "session_123"),
    Identity("Mother", "agent_002", "session_124"),
    Identity("Scout", "s1", "morning"),
    Identity("Scout", "s_2", "evening"),
    # The word "session", where it stands otherwise.
    Identity("Nurse", "a_session_b", "session_c"),
    Identity("Nurse", "c_session", "session_4"),
    Identity("Nurse", "x", "session_"),
    Identity("Nurse", "b", "session_1_2"),
    # `~` with and without digits.
    Identity("Scout", "s1", "run~7"),
    Identity("Scout", "s1", "run_1~7"),
    Identity("Scout", "s2", "run~x"),
    Identity("Scout", "s3", "~12"),
    Identity("Scout", "s4", "ends~"),
    Identity("Scout", "s5", "x~٣"),  # a digit, but none of 0-9
    Identity("Scout", "s~6", "noon"),
    # Other alphabets, one character, and as long as an id may be.
    Identity("Prüfer", "für_größe", "maß_1"),
    Identity("Prüfer", "für_größe", "maß"),
    Identity("翻訳", "校正", "会_1"),
    Identity("Emoji", "🦊_fox", "den_1"),
    Identity("A", "b", "c_d"),
    Identity("A", "_", "_"),
    Identity("Long", *_LONG),
    # Those that end, or go.
    Identity("Closer", "shift_a", "day_1"),
    Identity("Closer", "shift", "day"),
    Identity("Eraser", "x_1", "y_2"),
    Identity("Eraser", "x_1", "y"),
    # Its agent has counted by itself, as older clients do.
    Identity("Porter", "cart_1", "dock_2"),
    # A child without a spawn event.
    Identity("Helper", "foundling_1", "door_step"),
)
TERMINATED = frozenset({Identity("Closer", "shift_a", "day_1"), Identity("Closer", "shift", "day")})
DELETED = frozenset(
    {
        Identity("Auditor", "deep", "scan_5"),
        Identity("Eraser", "x_1", "y_2"),
        Identity("Eraser", "x_1", "y"),
    }
)
NEVER_THERE = Identity("Eraser", "x_1", "never_2")
"""Of it only the tombstone came."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Publishes to an engine, and insists on what is to become of each message."""

    engine: LocalEngine
    start: datetime

    def send(self, message: Outgoing | dict[str, Any], outcome: str, code: str = "") -> None:
        """Publish; raise AssertionError where something else becomes of it."""
        sent = outgoing(message) if isinstance(message, dict) else message
        report = self.engine.publish(sent)
        assert (report.outcome, report.detail) == (outcome, code), (report, message)

    def at(self, seconds: float) -> str:
        """Return a time so long after the start, as messages have it."""
        return (self.start + timedelta(seconds=seconds)).isoformat()

    @property
    def epoch(self) -> int:
        """The epoch of all sessions here."""
        return int(self.start.timestamp() * 1_000_000)

    def state(
        self, identity: Identity, revision: int, changes: dict[str, Any] | None = None, **more: Any
    ) -> dict[str, Any]:
        """Return the message of a state; `changes` are of its fields, `more` of the envelope."""
        state = {
            **identity._asdict(),
            "status": "active",
            "created_at": self.at(0),
            "last_updated": self.at(revision),
            "last_active": self.at(revision),
            "memory_context": {"plan": {"type": "note", "importance": 0.7, "text": f"{revision}"}},
            "task_history": [self.task(number) for number in range(revision)],
            "performance_metrics": {"speed": 0.5 * revision},
            "agent_config": {"model": "small"},
            "tools_enabled": ["editor"],
        }
        writer = f"sample-writer-{identity.agent_type}"
        envelope = {"epoch": self.epoch, "revision": revision, "writer": writer}
        return envelope | more | {"state": state | (changes or {})}

    def tombstone(self, identity: Identity, revision: int) -> dict[str, Any]:
        """Return the message that a state is deleted."""
        message = self.state(identity, revision)
        del message["state"]
        return message | {"deleted": {**identity._asdict(), "deleted_at": self.at(revision)}}

    def task(self, number: int) -> dict[str, Any]:
        """Return an entry of a history: every third one failed, or was cancelled."""
        status = ("completed", "failed", "cancelled")[number % 3]
        error = {"error": "ValueError: the page is empty"} if status == "failed" else {}
        return {
            "task_id": f"t{number}",
            "kind": "review",
            "tool": "editor",
            "status": status,
            "duration_seconds": 1.5,
            "ended_at": self.at(number),
            **error,
        }

    def event(self, event_id: str, kind: str, source: Identity, **changes: Any) -> dict[str, Any]:
        """Return the message of an event."""
        event = {
            "event_id": event_id,
            "event_type": kind,
            "timestamp": self.at(60),
            "source_agent_id": source.agent_id,
            "source_agent_type": source.agent_type,
            "session_id": source.session_id,
            "context": {},
            "task_context": {},
            "success": kind != "error",
        }
        return {"event": event | changes}


def publish_stored(sender: Sender) -> None:
    """Publish what is stored: of each session three states, of some more or less."""
    for identity in STORED:
        more: dict[str, Any] = {}
        if identity.agent_type == "Porter":
            hauls = {"tries": 12, "successes": 7, "cancelled": 3, "duration_ms": 9_000}
            more = {"task_totals": {"kinds": {"haul": hauls}, "tools": {"lift": hauls}}}
        if identity.agent_id == "foundling_1":
            more = {"parent_agent_id": "lead"}
        for revision in (1, 2, 3):
            sender.send(sender.state(identity, revision, more), "stored")
        if identity in TERMINATED:
            sender.send(sender.state(identity, 4, {"status": "terminated"}), "stored")
        if identity in DELETED:
            sender.send(sender.tombstone(identity, 4), "stored")
    sender.send(sender.tombstone(NEVER_THERE, 1), "stored")
    red_team, tenant, web, *_ = STORED
    target = {"target_agent_id": web.agent_id, "target_agent_type": web.agent_type}
    sender.send(sender.event("e-handoff", "handoff", red_team, **target), "stored")
    sender.send(sender.event("e-together", "collaboration", tenant, **target), "stored")
    error = {"error_message": "no answer", "context": {"error_type": "TimeoutError"}}
    sender.send(sender.event("e-error", "error", tenant, **error), "stored")


def publish_other_identities(sender: Sender) -> None:
    """Publish messages of agents whose document is another's: all come into quarantine."""
    red = Identity("QA", "red", "team_lead_7")
    tenant = Identity("Worker", "tenant_1", "2")
    web = Identity("Tester", "web", "1_9")
    ward = Identity("Nurse", "ward", "session_3")
    trader, third = Identity("Trader", "desk_a", "b_1"), Identity("Trader", "desk_a_b", "1")
    scan = Identity("Auditor", "deep_scan", "5")
    old = Identity("Guard", "gate_north", "1")
    for message in (
        sender.state(red, 1),
        sender.state(red, 3),
        sender.state(red, 2),  # late: a later one has come before
        sender.tombstone(red, 4),
        sender.state(tenant, 1),
        sender.state(tenant, 1),  # once more: it is counted as a second delivery
        sender.state(tenant, 2),
        sender.state(web, 1, migration=True, epoch=0),
        sender.state(web, 2),
        sender.state(ward, 1),
        sender.state(trader, 1),
        sender.state(third, 1),
        sender.state(scan, 1),
        # Too late as well, which shows when its document is its own.
        sender.state(old, 1, _forty_days_ago(sender)),
    ):
        sender.send(message, "quarantined", "identity")


def publish_refused(sender: Sender) -> None:
    """Publish what is refused for other reasons."""
    father, aunt = Identity("Father", "agent_001", "session_123"), Identity("Aunt", "a_1", "s_1")
    moved = Identity("Worker", "tenant", "1_2")
    other = {"memory_context": {"other": True}}
    known = sender.event("e-handoff", "handoff", moved)
    for code, message in (
        ("schema", sender.state(aunt, 1, {"colour": "red"})),
        ("schema", sender.state(aunt, 2, {"status": "asleep"}, migration=True)),
        ("schema", sender.state(aunt, 3, {"agent_type": "Aunt_of"})),
        ("schema", sender.state(aunt, 4, schema_version=2)),
        ("schema", sender.event("e-wrong", "wave", moved)),
        ("conflict", sender.state(father, 3, other)),
        ("conflict", sender.state(moved, 3, other)),
        ("conflict", sender.state(moved, 3, other, migration=True)),
        ("conflict", known),
        ("conflict", known | {"migration": True}),
        ("too_late", sender.state(aunt, 5, _forty_days_ago(sender))),
        ("too_late", sender.event("e-old", "handoff", moved, timestamp=sender.at(-40 * 86_400))),
        ("too_early", sender.state(aunt, 6, {"last_updated": sender.at(9 * 86_400)})),
    ):
        sender.send(message, "quarantined", code)
    sender.send(Outgoing(STATE_TOPIC, b'{"epoch": 1,'), "quarantined", "json")
    sender.send(Outgoing(EVENT_TOPIC, json.dumps([1]).encode()), "quarantined", "schema")


def _forty_days_ago(sender: Sender) -> dict[str, Any]:
    names = ("created_at", "last_updated", "last_active")
    return dict.fromkeys(names, sender.at(-40 * 86_400))
