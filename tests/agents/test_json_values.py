"""Values as Python has them: taken as documented, or refused by name before anything is kept."""

from __future__ import annotations

import enum
import uuid
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from firestate import StateManager
from firestate.agents.state.json_values import to_json_values
from firestate.errors import InvalidMessageError
from firestate.schema.enums import AgentStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firestate.agents.agent import Agent


class Colour(enum.Enum):
    RED = "red"
    DEEP = 7


@dataclass
class Point:
    x: int
    seen: datetime


class Plan(BaseModel):
    steps: list[str]
    owner: uuid.UUID | None = None


Pair = namedtuple("Pair", "one other")  # noqa: PYI024 - as users have them

NOON = datetime(2026, 1, 2, 12, 0, 0, 5000, tzinfo=UTC)
ID = uuid.UUID(int=5)


@pytest.fixture(scope="module")
def manager() -> Iterator[StateManager]:
    with StateManager.in_memory(snapshot_interval_seconds=0.05) as manager:
        yield manager


@pytest.fixture
def agent(manager: StateManager) -> Agent:
    agent = manager.start("Developer", "a", agent_config={"model": "m"})
    manager.flush()
    return agent


def itself() -> dict[str, Any]:
    held: dict[str, Any] = {"a": []}
    held["a"].append(held)
    return held


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (NOON, "2026-01-02T12:00:00.005000Z"),
        (NOON.astimezone(timezone(timedelta(hours=2))), "2026-01-02T14:00:00.005000+02:00"),
        (NOON.replace(tzinfo=None), "2026-01-02T12:00:00.005000"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(12, 30), "12:30:00"),
        (timedelta(minutes=90), "PT1H30M"),
        (ID, str(ID)),
        (Colour.RED, "red"),
        (Colour.DEEP, 7),
        (AgentStatus.BUSY, "busy"),
        ({3}, [3]),
        (frozenset({"x"}), ["x"]),
        ((1, "x"), [1, "x"]),
        (Pair(1, None), [1, None]),
        (Path("a/b"), "a/b"),
        (Decimal("1.50"), "1.50"),
        (Point(1, NOON), {"x": 1, "seen": "2026-01-02T12:00:00.005000Z"}),
        (Plan(steps=["a"]), {"steps": ["a"], "owner": None}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (b"words", "words"),
        ((each for each in "ab"), ["a", "b"]),
        ({1: "a", None: "b", ID: "c"}, {"1": "a", "None": "b", str(ID): "c"}),
        ({1: "a", "1": "b"}, {"1": "b"}),
    ],
)
def test_what_has_a_json_form_is_taken_as_that(agent: Agent, value: Any, taken: Any) -> None:
    agent.update(agent_config={"k": [{"v": value}]})
    assert agent.state.agent_config == {"k": [{"v": taken}]}


REFUSED = [
    (b"\xff\xfe", "bytes that are no text"),
    (object(), "is a object, which has no JSON form"),
    (lambda: 1, "is a function, which has no JSON form"),
    (float("nan"), "NaN|nan"),
    (float("-inf"), "inf"),
    ("\ud800", "half of a surrogate pair"),
    (2**63, "past 64 bits"),
    ([[1]], "array directly inside an array"),
    ({"": 1}, "empty key"),
    ({"__x__": 1}, "of the form __x__"),
    ({"x" * 1_501: 1}, "more than 1500 bytes"),
    (deep(20), "nests deeper than 20 levels"),
    (deep(5_000), "nests too deep"),
    (itself(), "holds itself"),
    (((1, 2), 3), "array directly inside an array"),
]


@pytest.mark.parametrize(("value", "reason"), REFUSED)
def test_what_has_none_is_refused_by_name_and_nothing_is_kept(
    manager: StateManager, agent: Agent, value: Any, reason: str
) -> None:
    outbox, state = manager._runtime.outbox, agent.state
    before = outbox.newest(snapshots=True), outbox.newest(snapshots=False)
    calls = [
        lambda: agent.update(agent_config={"good": 1, "bad": value}),
        lambda: agent.remember("bad", value),
        lambda: agent.begin_task("t", "code", bad=value),
        lambda: agent.end_task("t", bad=value),
        lambda: agent.handed_off(("QA", "q"), context={"bad": value}),
        lambda: manager.start("QA", "q", collaboration_context={"bad": value}),
        lambda: manager.save(state.model_dump() | {"agent_config": {"bad": value}}),
    ]
    for call in calls:
        with pytest.raises(InvalidMessageError, match=f"bad.*({reason})"):
            call()
    assert agent.state == state
    assert (outbox.newest(snapshots=True), outbox.newest(snapshots=False)) == before


def test_a_state_that_is_too_large_names_its_largest_field(
    manager: StateManager, agent: Agent
) -> None:
    agent.remember("small", "x" * 100_000)
    state, depth = agent.state, manager.connection.waiting
    with pytest.raises(InvalidMessageError) as caught:
        agent.update(agent_config={"prompt": "x" * 900_000})
    whole, largest = caught.value.problems
    assert whole.field == "state"
    assert "at most 852,000" in whole.reason
    assert (largest.field, largest.reason) == (
        "state.agent_config",
        "is the largest field with 900,008 bytes",
    )
    assert agent.state == state
    assert manager.connection.waiting <= depth
    agent.update(agent_config={"prompt": "x" * 700_000})
    with pytest.raises(InvalidMessageError, match="values, at most 95,000 are allowed"):
        agent.update(memory_context={}, agent_config={"l": [None] * 100_000})


def test_an_event_that_is_too_large_names_its_largest_field(agent: Agent) -> None:
    with pytest.raises(InvalidMessageError, match=r"event\.context: is the largest field"):
        agent.handed_off(("QA", "q"), context={"log": "x" * 900_000})


@pytest.mark.parametrize(
    "fields", [{"session_id": "s", "at": NOON}, Plan(steps=[]), {"a": {1, 2}}, {}]
)
def test_plain_values_stay_as_they_are(fields: Any) -> None:
    once = to_json_values(fields)
    assert to_json_values(once) == once


def test_what_is_put_into_the_notes_of_a_task_is_kept_whatever_its_name(agent: Agent) -> None:
    with agent.task("t1", "code") as notes:
        notes |= {"status": 200, "task_id": "mine", "duration_seconds": 2.5, "lines": {3}}
    with pytest.raises(ZeroDivisionError), agent.task("t2", "code", status=500):
        1 / 0  # noqa: B018 - it raises
    first, second = agent.state.task_history
    assert (first["task_id"], first["status"], first["duration_seconds"]) == (
        "t1",
        "completed",
        2.5,
    )
    assert first["lines"] == [3]
    assert (second["task_id"], second["status"]) == ("t2", "failed")


def test_a_key_that_is_no_text_is_the_same_as_its_text(agent: Agent) -> None:
    agent.remember(7, "a").remember("7", "b").remember(7, "c")  # type: ignore[arg-type] # as it happens
    assert agent.state.memory_context == {"7": "c"}
    agent.forget("7")
    assert agent.state.memory_context == {}
