"""The words that messages and rules use."""

from __future__ import annotations

from enum import StrEnum


class AgentStatus(StrEnum):
    """What an agent is doing."""

    IDLE = "idle"
    ACTIVE = "active"
    BUSY = "busy"
    ERROR = "error"
    TERMINATED = "terminated"


class TaskStatus(StrEnum):
    """How far a task has come."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class CoordinationEventType(StrEnum):
    """What one agent did to another."""

    SPAWN = "spawn"
    HANDOFF = "handoff"
    COLLABORATION = "collaboration"
    TERMINATION = "termination"
    ERROR = "error"


class Role(StrEnum):
    """What somebody who signs in may do; firestore.rules says it exactly."""

    VIEWER = "viewer"
    OPERATOR = "operator"
