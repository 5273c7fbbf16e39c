"""What is made of what was found: success rates, and what was learned as lines for a prompt."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from firestate.agents.reading.experience import Experience, Pattern, experience_from
from firestate.agents.reading.success_rates import SuccessRate, success_rates_of
from firestate.schema.models import AgentMemory, CoordinationEvent
from tests.harness import event_message

AT = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)

events = st.builds(
    lambda number, kind, success, target, minutes: CoordinationEvent.model_validate(
        event_message(
            f"e{number}",
            kind,
            success=success,
            target_agent_type=target,
            timestamp=AT + timedelta(minutes=minutes),
        )["event"]
    ),
    st.integers(),
    st.sampled_from(["spawn", "handoff", "error"]),
    st.booleans(),
    st.sampled_from(["QA", "Father", None]),
    st.integers(0, 200),
)


@given(st.lists(events))
def test_rates_count_each_event_once_in_each_way(found: list[CoordinationEvent]) -> None:
    rates = success_rates_of(found)

    def counted(keys: list[Any]) -> dict[Any, SuccessRate]:
        total = Counter(keys)
        good = Counter(key for key, event in zip(keys, found, strict=True) if event.success)
        return {key: SuccessRate(total[key], good[key]) for key in total if key is not None}

    assert rates.overall == SuccessRate(len(found), sum(event.success for event in found))
    assert rates.by_type == counted([event.event_type.value for event in found])
    assert rates.by_pair == counted(
        [e.target_agent_type and ("Developer", e.target_agent_type) for e in found]
    )
    hours = [datetime.combine(e.timestamp, datetime.min.time(), UTC) for e in found]
    hours = [at + timedelta(hours=e.timestamp.hour) for at, e in zip(hours, found, strict=True)]
    assert rates.by_hour == counted(hours)
    assert list(rates.by_hour) == sorted(rates.by_hour)


def test_of_no_events_the_rate_is_nothing() -> None:
    assert (success_rates_of([]).overall.rate, SuccessRate(3, 2).rate) == (0.0, 2 / 3)
    assert SuccessRate(1, 1) + SuccessRate(2, 0) == SuccessRate(3, 1)


def memory(agent: str, **patterns: Any) -> AgentMemory:
    return AgentMemory(
        agent_type="Developer",
        agent_id=agent,
        memory_count=2,
        last_memory_sync=AT,
        learning_context={"sessions": 3},
        learned_patterns=patterns,
        decision_history=[],
        performance_insights={},
        memory_types_count={},
        importance_distribution={},
        recent_activity=[],
    )


def tried(tries: int, successes: int, **more: Any) -> dict[str, Any]:
    return {"tries": tries, "successes": successes, "timed": 0, "duration_ms": 0} | more


def test_memories_add_up_and_the_best_comes_first() -> None:
    learned = experience_from(
        [
            memory("a", kinds={"code": tried(4, 2, timed=2, duration_ms=3_000, last_seen=AT)}),
            memory("b", kinds={"code": tried(1, 1), "test": tried(1, 1)}, tools={"x": tried(2, 1)}),
        ]
    )
    assert (learned.agents, learned.sessions, learned.memories) == (2, 6, 4)
    assert learned.kinds == (
        Pattern("test", 1, 1, None, None),
        Pattern("code", 5, 3, 1_500.0, AT),
    )
    assert (learned.best_kind, learned.worst_kind) == learned.kinds
    assert (learned.best_tool, learned.worst_tool) == (Pattern("x", 2, 1, None, None), None)
    assert experience_from([]) == Experience()


def test_a_prompt_tells_what_was_learned_in_a_few_lines() -> None:
    kinds = tuple(Pattern(f"k{n}", 10, 10 - n, 1_500.0 if n else None, AT) for n in range(7))
    decisions = [
        {"decision": "task", "kind": "k1", "id": "t1", "outcome": "failed", "at": AT},
        {"decision": "handoff", "target_agent_type": "QA", "id": "e", "outcome": "ok", "at": AT},
        {"decision": "task", "kind": "k2", "outcome": "completed", "at": AT},
    ]
    learned = Experience(2, 5, 0, kinds, (Pattern("editor", 1, 1, 500.0, AT),), tuple(decisions))
    assert learned.as_prompt("k1").splitlines() == [
        "Experience from 5 sessions of 2 agents:",
        "- tasks of the kind 'k1': 9 of 10 tries succeeded, 1.5 s on average",
        "- tasks with the tool 'editor': 1 of 1 tries succeeded, 0.5 s on average",
        "- earlier: task k1 (t1): failed",
    ]
    lines = learned.as_prompt().splitlines()
    assert lines[1] == "- tasks of the kind 'k0': 10 of 10 tries succeeded"
    assert lines[6] == (
        "- worst: tasks of the kind 'k6': 4 of 10 tries succeeded, 1.5 s on average"
    )
    assert lines[8:] == [
        "- earlier: task k1 (t1): failed",
        "- earlier: handoff QA (e): ok",
        "- earlier: task k2 (): completed",
    ]
    assert Experience().as_prompt() == Experience().as_prompt("k1") == "No experience yet."
