"""What is stored, as pydantic models: required fields first, optional ones with defaults.

A model refuses whatever Firestore would refuse or bend, with an error that names the field.
Times are taken as ISO 8601 or `datetime`, a time without a zone as UTC, digits finer than a
microsecond are cut off (Firestore keeps no finer). Unknown fields are refused: a field that this
release does not know would otherwise be lost in silence.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    WithJsonSchema,
    model_validator,
)

from firestate.limits import MAX_COUNT, MAX_DURATION_SECONDS
from firestate.schema.enums import AgentStatus, CoordinationEventType, TaskStatus
from firestate.schema.ids import agent_type_problem, id_problem
from firestate.schema.values import problems_of, utc

if TYPE_CHECKING:
    from firestate.errors import FieldProblem

T = TypeVar("T")


class MapProblemsError(ValueError):
    """What is wrong inside a value, with paths that begin below the field itself."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        """Say the first few; a map can hold thousands of mistakes."""
        self.problems = problems
        super().__init__("; ".join(map(str, problems[:3])))


_MOST_PROBLEMS = 20


def _check_value(value: T) -> T:
    problems = []
    for problem in problems_of(value, ""):
        problems.append(problem)
        if len(problems) == _MOST_PROBLEMS:
            break
    if problems:
        raise MapProblemsError(problems)
    return value


def _check_keys(value: dict[str, T]) -> dict[str, T]:
    _check_value(dict.fromkeys(value))
    return value


def _check_id(text: str) -> str:
    if problem := id_problem(text):
        raise ValueError(problem)
    return text


def _check_agent_type(text: str) -> str:
    if problem := agent_type_problem(text):
        raise ValueError(problem)
    return text


def _read_time(value: object) -> datetime:
    if isinstance(value, datetime):
        return utc(value)
    if isinstance(value, str):
        try:
            return utc(datetime.fromisoformat(value))
        except (ValueError, OverflowError) as error:
            message = "is no ISO 8601 time"
            raise ValueError(message) from error
    message = f"must be an ISO 8601 time, not {type(value).__name__}"
    raise ValueError(message)


Text = Annotated[str, AfterValidator(_check_value)]
Id = Annotated[
    str,
    AfterValidator(_check_id),
    WithJsonSchema(
        {"type": "string", "minLength": 1, "pattern": r"^(?!\.{1,2}$)(?!__.*__$)[^/]+$"}
    ),
]
AgentType = Annotated[
    str,
    AfterValidator(_check_agent_type),
    WithJsonSchema({"type": "string", "minLength": 1, "pattern": r"^(?!\.{1,2}$)[^/_]+$"}),
]
UtcTime = Annotated[datetime, BeforeValidator(_read_time)]
UserMap = Annotated[dict[str, Any], AfterValidator(_check_value)]
UserMaps = Annotated[list[dict[str, Any]], AfterValidator(_check_value)]
Numbers = Annotated[
    dict[str, Annotated[float, Strict(), Field(allow_inf_nan=False)]], AfterValidator(_check_value)
]
Flag = Annotated[bool, Strict()]
Count = Annotated[int, Strict(), Field(ge=0, le=MAX_COUNT)]


class Model(BaseModel):
    """Unknown fields are refused; instances do not change.

    Validators are built when a model is first used: no function uses all of the models, and each
    would pay for all of them at its cold start.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Totals(Model):
    """How often something was tried since the session began, and how it went.

    `tries` counts what ended: completed, failed and cancelled. `duration_ms` is the sum over the
    `timed` tries (all of them where `timed` is absent), in whole milliseconds.
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
        if self.successes + self.cancelled > self.tries:
            message = "successes and cancelled together are more than tries"
            raise ValueError(message)
        if self.timed is not None and self.timed > self.tries:
            message = "timed is more than tries"
            raise ValueError(message)
        return self


TotalsByName = Annotated[dict[str, Totals], AfterValidator(_check_keys)]


class TaskTotals(Model):
    """Cumulative totals of a session by task kind and by tool.

    Where an agent gives them they are counted instead of its task history, which it may then
    trim.
    """

    kinds: TotalsByName = Field(default_factory=dict)
    tools: TotalsByName = Field(default_factory=dict)


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
    tools_enabled: list[Text]
    current_task: Text | None = None
    task_status: TaskStatus | None = None
    parent_agent_id: Id | None = None
    child_agent_ids: list[Id] = Field(default_factory=list)
    collaboration_context: UserMap = Field(default_factory=dict)
    task_totals: TaskTotals | None = None


class CoordinationEvent(Model):
    """What one agent did to another; created once and never changed."""

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
