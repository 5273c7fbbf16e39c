"""What is stored, as pydantic models: required fields first, optional ones with defaults.

A model refuses whatever Firestore would refuse or bend, with an error that names the field.
Times are taken as ISO 8601 or `datetime`, a time without a zone as UTC, digits finer than a
microsecond are cut off (Firestore keeps no finer). Unknown fields are refused: a field that this
release does not know would otherwise be lost in silence.
"""

from __future__ import annotations

from typing import Annotated, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    model_validator,
)

from firestate.limits import MAX_DURATION_SECONDS, MAX_FIELDS
from firestate.schema.enums import AgentStatus, CoordinationEventType, TaskStatus
from firestate.schema.field_types import (
    AgentType,
    Count,
    Flag,
    Id,
    InBatches,
    Names,
    Numbers,
    Text,
    UserMap,
    UserMaps,
    UtcTime,
    check_keys,
    check_number,
)

T = TypeVar("T")


class Model(BaseModel):
    """Unknown fields are refused; instances do not change.

    Validators are built when a model is first used: no function uses all of the models, and each
    would pay for all of them at its cold start.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _check_fields(cls, value: T) -> T:
        if isinstance(value, dict) and len(value) > MAX_FIELDS:
            message = f"holds {len(value):,} fields, most of which are unknown"
            raise ValueError(message)
        return value


class Totals(Model):
    """How often something was tried since the session began, and how it went.

    `tries` counts the completed and the failed; what was `cancelled` is neither a try nor a
    failure. `duration_ms` is the sum over the `timed` ones (all tries where `timed` is absent), in
    whole milliseconds. Up to version 1 of messages `tries` counted the cancelled as well.
    """

    tries: Count
    successes: Count
    cancelled: Count = 0
    duration_ms: Count = 0
    timed: Count | None = None
    last_seen: UtcTime | None = None

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        # What is left of the tries is counted as failed, which must not fall below zero.
        if self.successes > self.tries:
            message = "successes are more than tries"
            raise ValueError(message)
        # Clients of version 1 timed the cancelled too.
        if self.timed is not None and self.timed > self.tries + self.cancelled:
            message = "timed is more than tries and cancelled together"
            raise ValueError(message)
        return self


TotalsByName = Annotated[
    dict[str, Totals], InBatches, BeforeValidator(check_number), AfterValidator(check_keys)
]


CountsByName = Annotated[
    dict[str, Count], InBatches, BeforeValidator(check_number), AfterValidator(check_keys)
]


class TaskTotals(Model):
    """Cumulative totals of a session by task kind and by tool, and of failures by error type.

    Where an agent gives them they are counted instead of its task history, which it may then
    trim.
    """

    kinds: TotalsByName = Field(default_factory=dict)
    tools: TotalsByName = Field(default_factory=dict)
    errors: CountsByName = Field(default_factory=dict)


class AgentState(Model):
    """What one agent is in one session: the whole of it, as last published."""

    agent_id: Id
    agent_type: AgentType
    session_id: Id
    status: AgentStatus
    created_at: UtcTime
    last_updated: UtcTime
    last_active: UtcTime
    memory_context: UserMap
    task_history: UserMaps
    performance_metrics: Numbers
    agent_config: UserMap
    tools_enabled: Annotated[list[Text], *Names]
    current_task: Text | None = None
    task_status: TaskStatus | None = None
    parent_agent_id: Id | None = None
    parent_agent_type: AgentType | None = None
    parent_session_id: Id | None = None
    child_agent_ids: Annotated[list[Id], *Names] = Field(default_factory=list)
    collaboration_context: UserMap = Field(default_factory=dict)
    task_totals: TaskTotals | None = None


class CoordinationEvent(Model):
    """What one agent did to another; created once and never changed.

    An event that was `cancelled`, such as a hand-over that was broken off, neither succeeded nor
    failed: it counts by itself, in no success rate.
    """

    event_id: Id
    event_type: CoordinationEventType
    timestamp: UtcTime
    source_agent_id: Id
    source_agent_type: AgentType
    context: UserMap
    task_context: UserMap
    success: Flag
    target_agent_id: Id | None = None
    target_agent_type: AgentType | None = None
    session_id: Id | None = None
    error_message: Text | None = None
    duration_seconds: Annotated[float, Strict(), Field(ge=0, le=MAX_DURATION_SECONDS)] | None = None
    cancelled: Flag = False

    @model_validator(mode="after")
    def _check_outcome(self) -> Self:
        if self.cancelled and self.success:
            message = "success and cancelled exclude each other"
            raise ValueError(message)
        return self


class AgentMemory(Model):
    """What an agent has learned, over all its sessions: a fold of its ledger rows and events."""

    agent_type: AgentType
    agent_id: Id
    memory_count: int
    last_memory_sync: UtcTime
    learning_context: UserMap
    learned_patterns: UserMap
    decision_history: UserMaps
    performance_insights: UserMap
    memory_types_count: dict[str, int]
    importance_distribution: dict[str, int]
    recent_activity: UserMaps


class SystemState(Model):
    """The system as a whole: counters from the shards, settings from the controls."""

    system_version: str
    last_updated: UtcTime
    active_sessions: list[Id]
    total_agents_spawned: int
    current_agent_count: int
    system_metrics: UserMap
    error_counts: UserMap
    feature_flags: dict[str, Flag] = Field(default_factory=dict)
    global_config: UserMap = Field(default_factory=dict)
    emergency_stop: Flag = False
    emergency_reason: Text | None = None
