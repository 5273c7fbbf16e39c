"""Every query that the code makes: no other module makes one.

An index belongs to each of them, and Firestore refuses a query that has none; the emulator does
not. So `firestore.indexes.json` is made from this module (`python -m tools.indexes`), and all that
no query here asks for is left unindexed: it costs no write, and no user's payload can overflow an
index. For a new query, add a Shape, and make the file again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from firestate.schema.enums import AgentStatus, CoordinationEventType
from firestate.schema.ids import EVENTS, LEGACY, MEMORIES, PARTS, QUARANTINE, SESSIONS, STATES
from firestate.schema.ids import SHARDS as SHARDS_PATH
from firestate.stores.protocol import Query, Where

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EVERY_STATUS = [each.value for each in AgentStatus]
EVERY_EVENT_TYPE = [each.value for each in CoordinationEventType]
ENDED_STATUSES = [AgentStatus.TERMINATED.value]
CURRENT_STATUSES = [each.value for each in AgentStatus if each not in ENDED_STATUSES]
WORKING_STATUSES = [AgentStatus.ACTIVE.value, AgentStatus.BUSY.value]
"""Of agents that a process runs: it renews them."""
WAITING_OR_NOT = [True, False]


@dataclass(frozen=True, slots=True)
class Shape:
    """A query whose values are left open.

    `equal` are fields that are asked for one value, or for any of a list; `within` is asked for a
    range; the result is sorted by `order_by`; `sums` are (dotted) fields that are added up.
    """

    collection: str
    equal: tuple[str, ...] = ()
    within: str | None = None
    order_by: tuple[str, ...] = ()
    descending: bool = False
    sums: tuple[str, ...] = ()
    group: bool = False

    def query(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        under: str | None = None,
        low: object = None,
        high: object = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> Query:
        """Fill in: `values` for the fields of `equal`; the range from `low` to below `high`.

        `under` is the document that the collection lies below.
        """
        given = {name: (values or {})[name] for name in self.equal}
        where = [
            Where(name, "in" if isinstance(value, list) else "==", value)
            for name, value in given.items()
        ]
        if self.within is not None:
            bounds = ((">=", low), ("<", high))
            where += [Where(self.within, op, value) for op, value in bounds if value is not None]
        collection = f"{under}/{self.collection}" if under else self.collection
        return Query(
            collection,
            where,
            self.order_by,
            descending=self.descending,
            limit=limit,
            fields=fields,
            sums=self.sums,
            group=self.group,
        )


# agent_states. A tombstone has no status: asked for with one, it is left out.
ALL_STATES = Shape(STATES)
BY_PARENT = Shape(STATES, ("parent_agent_id",), order_by=("created_at",))
IN_STATUS_SINCE = Shape(STATES, ("status",), within="status_since", order_by=("status_since",))
IN_TASK_SINCE = Shape(STATES, ("task_status",), within="task_since", order_by=("task_since",))
IN_SESSION = Shape(STATES, ("session_id",), order_by=("status",))
IN_SESSION_BY_STATUS = Shape(STATES, ("session_id", "status"))
BY_TYPE = Shape(STATES, ("agent_type", "status"), order_by=("last_active",), descending=True)
BY_STATUS = Shape(STATES, ("status",), order_by=("last_active",), descending=True)
OF_AGENT = Shape(STATES, ("agent_type", "agent_id"), order_by=("last_active",), descending=True)
FENCED = Shape(STATES, ("fenced_writer",), within="fenced_at", order_by=("fenced_at",))
FENCED_AT_ANY_TIME = Shape(STATES, ("fenced_writer",))
"""Asked by agents of releases up to 0.1 alone: without its index their watch would be refused."""
WITH_LATE = Shape(STATES, ("late_writer",))
STALE = Shape(STATES, ("status",), within="last_active", order_by=("last_active",), descending=True)

# coordination, the newest first
ALL_EVENTS = Shape(EVENTS)
BY_SOURCE = Shape(
    EVENTS, ("source_agent_id",), within="timestamp", order_by=("timestamp",), descending=True
)
BETWEEN_TYPES = Shape(
    EVENTS,
    ("source_agent_type", "target_agent_type"),
    within="timestamp",
    order_by=("timestamp",),
    descending=True,
)
BY_EVENT_ID = Shape(EVENTS, ("event_id",))
BY_SUCCESS = Shape(
    EVENTS, ("event_type", "success"), within="timestamp", order_by=("timestamp",), descending=True
)
BY_EVENT_TYPE = Shape(
    EVENTS, ("event_type",), within="timestamp", order_by=("timestamp",), descending=True
)

# agent_memory, and the ledger rows below it
LATEST_MEMORIES = Shape(MEMORIES, order_by=("last_memory_sync",), descending=True)
MEMORIES_OF_TYPE = Shape(MEMORIES, ("agent_type",), order_by=("last_memory_sync",), descending=True)
LARGEST_OF_TYPE = Shape(
    MEMORIES,
    ("agent_type",),
    order_by=("memory_count", "last_memory_sync"),
    descending=True,
)
LARGEST_MEMORIES = Shape(MEMORIES, order_by=("memory_count", "last_memory_sync"), descending=True)
ALL_MEMORIES = Shape(
    MEMORIES,
    sums=tuple(
        f"learning_context.coordination.{name}" for name in ("total", "succeeded", "duration_ms")
    ),
)
ROWS_OF_AGENT = Shape(SESSIONS)
ALL_ROWS = Shape(
    SESSIONS,
    sums=tuple(
        f"contribution.{name}"
        for name in ("spawned", "current", "tasks.completed", "tasks.failed", "tasks.cancelled")
    ),
    group=True,
)

# system_state/global_config/shards
SHARDS = Shape(SHARDS_PATH)

# quarantine
ALL_KEPT = Shape(QUARANTINE)
KEPT_WITH_ID = Shape(QUARANTINE, within="id")
KEPT_WITH_CODE = Shape(QUARANTINE, ("code", "waiting"), order_by=("last_seen",), descending=True)
KEPT_OF_TOPIC = Shape(QUARANTINE, ("topic", "waiting"), order_by=("last_seen",), descending=True)
KEPT = Shape(QUARANTINE, ("waiting",), order_by=("last_seen",), descending=True)
KEPT_OF_WRITER = Shape(QUARANTINE, ("writer", "waiting"), order_by=("last_seen",), descending=True)
PARTS_OF_KEPT = Shape(PARTS)

# below a migrated state or event
PARTS_OF_OLD = Shape(LEGACY)

SHAPES = {name: each for name, each in list(globals().items()) if isinstance(each, Shape)}
"""All of the above by name."""

# How people look things up: of each, the first that has all its fields asked for is used, and what
# else was asked for is filtered out of what it finds. So any filters can be combined, and where
# they are, no more is read than the documents of one parent, session, agent, or pair of types.
LOOK_UP_AGENTS = (OF_AGENT, BY_PARENT, IN_SESSION_BY_STATUS, IN_SESSION, BY_TYPE, BY_STATUS)
LOOK_UP_STALE = (STALE,)
LOOK_UP_LONG = (IN_STATUS_SINCE,)
LOOK_UP_LONG_TASKS = (IN_TASK_SINCE,)
LOOK_UP_EVENTS = (BY_SOURCE, BETWEEN_TYPES, BY_SUCCESS, BY_EVENT_TYPE)
LOOK_UP_MEMORIES = (MEMORIES_OF_TYPE, LATEST_MEMORIES)
LOOK_UP_LARGEST = (LARGEST_OF_TYPE, LARGEST_MEMORIES)
LOOK_UP_KEPT = (KEPT_WITH_CODE, KEPT_OF_TOPIC, KEPT)


def first_that_fits(shapes: Sequence[Shape], asked: Mapping[str, Any]) -> Shape:
    """Give the first of `shapes` whose fields are all `asked` for; the last one always fits."""
    for shape in shapes[:-1]:
        if all(name in asked for name in shape.equal):
            return shape
    return shapes[-1]
