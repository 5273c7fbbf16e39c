"""What hypothesis draws: values that users send, whole states, events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from firestate.limits import INT64_MAX, INT64_MIN
from firestate.schema.ids import id_problem
from firestate.schema.upgrades import DOCUMENT_VERSION, document_version
from firestate.schema.values import problems_of, time_text

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

times = st.integers(0, 20).map(lambda seconds: NOW + timedelta(seconds=seconds))
"""Few enough that ties come up."""

any_times = st.integers(-62_135_000_000_000_000, 253_402_000_000_000_000).map(
    lambda microseconds: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
)
"""Whatever Firestore can hold: the years 1 to 9999, to the microsecond."""

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ids = st.one_of(
    st.sampled_from(["a", "a_b", "a.b", "ä", "a b", "`a`", "~", "1"]),
    texts.filter(lambda text: id_problem(text) is None),
)
agent_types = st.sampled_from(["Father", "Developer", "QA", "Röle-1"])

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(INT64_MIN, INT64_MAX),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
)
json_values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
"""JSON of any kind, also such as Firestore refuses."""

good_maps = st.dictionaries(texts, json_values, max_size=4).filter(
    lambda value: not list(problems_of(value, ""))
)

words = st.sampled_from(["code", "test", "__x__", "other", "", "ö" * 200, "a.b", "x" * 128])
tasks: SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"status": st.sampled_from(["completed", "failed", "cancelled", "in_progress", 7])},
    optional={
        "task_id": st.sampled_from(["t1", "t2", "", 3, "x" * 500]),
        "id": st.sampled_from(["t1", None]),
        "kind": words,
        "task_type": st.one_of(words, st.none()),
        "tool": st.one_of(words, st.integers(0, 3)),
        "tools": st.lists(st.one_of(words, st.booleans()), max_size=3),
        "duration_seconds": st.one_of(st.floats(-1, 1e10), st.booleans(), st.just("3")),
        "duration_ms": st.integers(-5, 5000),
        "started_at": times.map(time_text),
        "ended_at": st.one_of(times.map(time_text), times, st.just("yesterday"), st.just(5)),
        "completed_at": times.map(time_text),
        "session_id": st.sampled_from(["s1", "s2", "elsewhere", None]),
        "error_type": st.one_of(words, st.integers(0, 3)),
    },
)
memories: SearchStrategy[Any] = st.one_of(
    scalars,
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.one_of(words, st.integers()),
            "memory_type": words,
            "importance": st.one_of(
                st.floats(-2000, 2000), st.floats(0, 1), st.integers(), words, st.booleans()
            ),
            "session_id": st.sampled_from(["s1", "elsewhere", None]),
        },
    ),
)


@st.composite
def totals(draw: st.DrawFn) -> dict[str, Any]:
    """Draw cumulative totals of one task kind or tool."""
    tries = draw(st.integers(0, 50))
    successes = draw(st.integers(0, tries))
    drawn: dict[str, Any] = {"tries": tries, "successes": successes}
    if draw(st.booleans()):
        drawn["cancelled"] = draw(st.integers(0, 50))
    if draw(st.booleans()):
        timed = st.integers(0, tries + drawn.get("cancelled", 0))
        drawn |= {"timed": draw(timed), "duration_ms": draw(st.integers(0, 9999))}
    if draw(st.booleans()):
        drawn["last_seen"] = draw(times)
    return drawn


keys = words.filter(lambda word: word not in ("", "__x__"))
task_totals = st.fixed_dictionaries(
    {},
    optional={
        "kinds": st.dictionaries(keys, totals(), max_size=3),
        "tools": st.dictionaries(keys, totals(), max_size=3),
        "errors": st.dictionaries(keys, st.integers(0, 9), max_size=3),
    },
)
"""As today's release gives them: the tries do not count the cancelled."""


@st.composite
def former_totals(draw: st.DrawFn) -> dict[str, Any]:
    """Draw totals of version 1: the tries count the cancelled."""
    drawn = draw(totals())
    tries = drawn["tries"] + drawn.get("cancelled", 0)
    timed = {"timed": draw(st.integers(0, tries))} if "timed" in drawn else {}
    return drawn | timed | {"tries": tries}


former_task_totals = st.fixed_dictionaries(
    {},
    optional={
        "kinds": st.dictionaries(keys, former_totals(), max_size=3),
        "tools": st.dictionaries(keys, former_totals(), max_size=3),
    },
)


IN_USER_MAPS: dict[str, dict[str, SearchStrategy[Any]]] = {
    "performance_metrics": {},
    "agent_config": {},
    "collaboration_context": {},
}
"""What the counting looks at in the maps of users, whose keys are their own. Today: nothing."""


def _user_map(name: str, values: SearchStrategy[Any]) -> SearchStrategy[dict[str, Any]]:
    known = st.fixed_dictionaries({}, optional=IN_USER_MAPS[name])
    return st.builds(dict.__or__, st.dictionaries(words, values, max_size=2), known)


names = st.sampled_from(["a_1", "b", "c_2"])
ALWAYS_IN_STATES: dict[str, SearchStrategy[Any]] = {
    "agent_id": st.just("a_1"),
    "agent_type": st.just("Developer"),
    "session_id": st.just("s1"),
    "status": st.sampled_from(["idle", "active", "busy", "error", "terminated"]),
    "created_at": times,
    "last_updated": times,
    "last_active": times,
    "memory_context": st.dictionaries(st.sampled_from("abcdef"), memories, max_size=5),
    "task_history": st.lists(tasks, max_size=6),
    "performance_metrics": _user_map("performance_metrics", st.floats(0, 9)),
    "agent_config": _user_map("agent_config", scalars),
    "tools_enabled": st.lists(words, max_size=3),
}
SOMETIMES_IN_STATES: dict[str, SearchStrategy[Any]] = {
    "current_task": words,
    "task_status": st.sampled_from(["pending", "in_progress", "completed", "failed", "cancelled"]),
    "parent_agent_id": names,
    "parent_agent_type": agent_types,
    "parent_session_id": st.sampled_from(["s0", "s1"]),
    "child_agent_ids": st.lists(names, max_size=3),
    "collaboration_context": _user_map("collaboration_context", scalars),
    "task_totals": task_totals,
}
"""Whatever a state can hold, also what is not counted today: a test says if a field is missing."""

MESSAGE_CHANGES: SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "current_task": st.sampled_from(["plan", "test"]),
        "task_status": SOMETIMES_IN_STATES["task_status"],
        "parent_agent_id": names,
        "parent_agent_type": agent_types,
        "parent_session_id": st.sampled_from(["s0", "s1"]),
        "child_agent_ids": st.lists(names, max_size=2),
        "tools_enabled": st.lists(st.sampled_from(["editor", "shell"]), max_size=2),
        "performance_metrics": st.just({"tokens": 5.0}),
    },
)
"""Fields of a message's state that others than those of its status and tasks may depend on."""


def states(
    session_ids: SearchStrategy[str] = st.just("s1"),  # noqa: B008 - a strategy is no state
) -> SearchStrategy[dict[str, Any]]:
    """Draw the fields of a state as they are stored, with their version; some are tombstones."""
    live = st.fixed_dictionaries(
        ALWAYS_IN_STATES | {"session_id": session_ids}, optional=SOMETIMES_IN_STATES
    )
    tombstones = st.fixed_dictionaries({"session_id": session_ids, "deleted": st.just(value=True)})
    versions = st.integers(1, DOCUMENT_VERSION)
    drawn = st.tuples(st.one_of(live, live, live, tombstones), versions)
    return drawn.map(
        lambda both: both[0] | {"schema_version": max(both[1], document_version(both[0]))}
    )


IN_CONTEXT: dict[str, SearchStrategy[Any]] = {"error_type": st.one_of(words, st.integers())}
ALWAYS_IN_EVENTS: dict[str, SearchStrategy[Any]] = {
    "event_id": st.uuids().map(str),
    "event_type": st.sampled_from(["spawn", "handoff", "collaboration", "termination", "error"]),
    "timestamp": times,
    "source_agent_id": st.just("a_1"),
    "source_agent_type": st.just("Developer"),
    "context": st.fixed_dictionaries({}, optional=IN_CONTEXT),
    "success": st.booleans(),
    "task_context": st.dictionaries(words, scalars, max_size=2),
}
SOMETIMES_IN_EVENTS: dict[str, SearchStrategy[Any]] = {
    "error_message": words,
    "target_agent_id": st.just("q"),
    "target_agent_type": st.sampled_from(["QA", "Father", "other"]),
    "session_id": st.sampled_from(["s1", "s2"]),
    "duration_seconds": st.floats(0, 1e9),
    "cancelled": st.booleans(),
}
events = st.fixed_dictionaries(ALWAYS_IN_EVENTS, optional=SOMETIMES_IN_EVENTS).map(
    lambda event: event | {"success": event["success"] and not event.get("cancelled")}
)
"""The fields of events as they are stored."""
