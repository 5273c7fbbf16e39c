"""What goes out when: in order for each agent, one topic a request, a snapshot a second."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestate.outbox.batching import batches, next_batch
from firestate.outbox.entries import PendingEntry
from tests.agents.outbox_fixtures import EVENTS, STATES

NOW, INTERVAL, MOST = 100.0, 1.0, 50


@st.composite
def outboxes(draw: st.DrawFn) -> list[PendingEntry]:
    """Draw what waits: a session has one snapshot at most, whose topic is that of states."""
    waiting: list[PendingEntry] = []
    sessions: set[str] = set()
    numbers = count(1)
    for agent, session, size in draw(
        st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["", "s1", "s2"]), sizes))
    ):
        seq, name = next(numbers), f"{agent}{session}"
        if session and name not in sessions:
            sessions.add(name)
            waiting.append(PendingEntry(seq, name, True, agent, STATES, size))  # noqa: FBT003 - a row
        else:
            waiting.append(PendingEntry(seq, f"e{seq}", False, agent, EVENTS, size))  # noqa: FBT003 - a row
    return waiting


sizes = st.integers(1, 60)
sent_before = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["s1", "s2"])).map("".join),
    st.sampled_from([NOW - 5, NOW - 1, NOW - 0.75, NOW - 0.25, NOW]),
)


def chosen_of(waiting: list[PendingEntry], sent_at: dict[str, float]) -> Any:
    return next_batch(waiting, sent_at, NOW, interval_seconds=INTERVAL, most_bytes=MOST)


@given(outboxes(), sent_before)
def test_nobody_is_overtaken_and_nobody_goes_too_soon(
    waiting: list[PendingEntry], sent_at: dict[str, float]
) -> None:
    chosen, again_in = chosen_of(waiting, sent_at)
    too_soon = [
        each for each in waiting if each.is_snapshot and NOW - sent_at.get(each.document, 0) < 1
    ]
    held = {each.agent: each.seq for each in reversed(too_soon)}
    free = [each for each in waiting if each.seq < held.get(each.agent, each.seq + 1)]
    assert chosen == free[: len(chosen)]
    assert bool(chosen) == bool(free)
    assert len(chosen) <= 1 or sum(each.size for each in chosen) <= MOST
    if len(chosen) < len(free):
        assert sum(each.size for each in free[: len(chosen) + 1]) > MOST
        assert again_in == 0
    elif held:
        first = [each for each in too_soon if each.seq == held[each.agent]]
        assert again_in == min(sent_at[each.document] + INTERVAL - NOW for each in first)
    else:
        assert again_in is None


@given(outboxes())
def test_rounds_keep_the_order_of_each_agent_and_part_topics(waiting: list[PendingEntry]) -> None:
    made = batches(waiting)
    for topic, listed in [pair for each in made for pair in each.items()]:
        assert listed
        assert {each.topic for each in listed} == {topic}
    for agent in "abc":
        topics = [
            [topic for topic, listed in each.items() for m in listed if m.agent == agent]
            for each in made
        ]
        assert all(len(set(each)) <= 1 for each in topics), "a request may overtake another"
        assert [each for each in waiting if each.agent == agent] == [
            m for each in made for listed in each.values() for m in listed if m.agent == agent
        ]
    most = max((_runs(waiting, agent) for agent in "abc"), default=0)
    assert len(made) == most, "as few as the order allows"


def _runs(waiting: list[PendingEntry], agent: str) -> int:
    topics = [each.topic for each in waiting if each.agent == agent]
    return sum(one != other for one, other in zip(topics, [None, *topics], strict=False))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("", []),
        ("ae ae be", [{EVENTS: [1, 2, 3]}]),
        ("ae as bs ae be", [{EVENTS: [1], STATES: [3]}, {STATES: [2], EVENTS: [5]}, {EVENTS: [4]}]),
        ("as ae bs be", [{STATES: [1, 3]}, {EVENTS: [2, 4]}]),
    ],
)
def test_requests_are_few(rows: str, expected: list[dict[str, list[int]]]) -> None:
    waiting = [
        PendingEntry(seq, f"{seq}", row[1] == "s", row[0], STATES if row[1] == "s" else EVENTS, 1)
        for seq, row in enumerate(rows.split(), 1)
    ]
    made = [{t: [m.seq for m in listed] for t, listed in each.items()} for each in batches(waiting)]
    assert made == expected
