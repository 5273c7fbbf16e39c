"""What a plan says of its lines as a whole: names of events, files of one session, copies."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestate.migration.plan.plan_file import COPY, MERGE, REFUSED, SUPERSEDED, WRITE, PlanLine
from firestate.migration.plan.plan_index import PlanIndex
from firestate.schema.ids import event_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

AT = datetime(2025, 1, 4, 9, tzinfo=UTC)


class Event(NamedTuple):
    """An event of a log: what is in it, the id that it came with, its second."""

    digest: str
    event_id: str = ""
    second: int = 0


class State(NamedTuple):
    """A state: its document, its content, its second."""

    target: str
    digest: str
    second: int = 0


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for the index, anew each time."""
    return tmp_path_factory.mktemp("index") / "plan.index"


def settled(path: Path, files: Sequence[tuple[str, Sequence[Event | State]]]) -> list[PlanLine]:
    """Give the lines that a plan of these files has."""
    with PlanIndex(path) as index:
        for name, entries in files:
            for number, each in enumerate(entries):
                at = AT + timedelta(seconds=each.second)
                line = PlanLine(name, WRITE, at=f"[{number}]", digest=each.digest)
                if isinstance(each, Event):
                    line.kind, line.event_id = "event", each.event_id
                    index.add(line, place=event_path(at, ""), at=at)
                else:
                    line.kind, line.target = "state", each.target
                    index.add(line, at=at)
        index.settle()
        return list(index.lines())


def targets(lines: Sequence[PlanLine]) -> list[str]:
    """Give what the lines write, sorted."""
    return sorted(line.target for line in lines if line.outcome == WRITE)


def test_equal_events_are_told_apart_by_their_number(path: Path) -> None:
    """An event that has no id is named by its content; two equal ones are two."""
    lines = settled(path, [("a", [Event("d" * 32), Event("e" * 32), Event("d" * 32)])])
    assert [line.event_id for line in lines] == [
        f"m-{'d' * 24}",
        f"m-{'e' * 24}",
        f"m-{'d' * 24}-2",
    ]
    assert [line.target for line in lines] == [event_path(AT, line.event_id) for line in lines]
    assert {line.outcome for line in lines} == {WRITE}


def test_two_events_of_one_name_and_time(path: Path) -> None:
    """The same content is a copy; other content gets a name of its own, and the line says so."""
    lines = settled(
        path,
        [
            ("a", [Event("b" * 32, "x"), Event("b" * 32, "x", 1)]),
            ("b", [Event("a" * 32, "x"), Event("b" * 32, "x")]),
        ],
    )
    assert [(line.event_id, line.outcome, line.by) for line in lines] == [
        (f"x-{'b' * 12}", WRITE, ""),
        ("x", WRITE, ""),
        ("x", WRITE, ""),
        (f"x-{'b' * 12}", COPY, "a"),
    ]
    assert lines[0].mapped == ["event_id: another event of that time has x too"]
    assert lines[1].mapped == []


digests = st.sampled_from(["a" * 32, "b" * 32, "c" * 32])
logs = st.lists(
    st.tuples(digests, st.sampled_from(["", "", "x", "y"])).map(
        lambda drawn: Event(*drawn, second=int(drawn[0] > "c"))  # a time is part of the content
    )
)


@given(log=logs, cut=st.integers(0, 20), seed=st.integers(0, 99))
def test_ids_depend_on_no_order_and_no_cut(
    path: Path, log: list[Event], cut: int, seed: int
) -> None:
    """A log cut in two, or its events shuffled over files, makes the same documents."""
    whole = targets(settled(path, [("log", log)]))
    assert targets(settled(path, [("a", log[:cut]), ("b", log[cut:])])) == whole
    shuffled = random.Random(seed).sample(log, len(log))
    assert targets(settled(path, [("z", shuffled[cut:]), ("a", shuffled[:cut])])) == whole
    assert len(set(whole)) == len(whole)


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_files_for_one_session_the_newer_wins(path: Path, *, turned: bool) -> None:
    """The older is superseded, one of the same content a copy; both say by which file."""
    files = [
        ("old", [State("s/1", "f" * 32)]),
        ("new", [State("s/1", "a" * 32, 5)]),
        ("same", [State("s/1", "a" * 32, 5)]),
        ("other", [State("s/2", "a" * 32)]),
    ]
    lines = settled(path, files[::-1] if turned else files)
    winner, copy = ("same", "new") if turned else ("new", "same")
    assert {line.source: (line.outcome, line.by) for line in lines} == {
        "old": (SUPERSEDED, winner),
        winner: (WRITE, ""),
        copy: (COPY, winner),
        "other": (WRITE, ""),
    }


states = st.lists(st.builds(State, st.sampled_from(["s/1", "s/2"]), digests, st.integers(0, 2)))


@given(states)
def test_one_file_wins_whatever_their_order(path: Path, found: list[State]) -> None:
    """Also of two of one time, it is the same content that goes in."""

    def written(entries: list[State]) -> set[tuple[str, str]]:
        lines = settled(path, [(f"f{n}", [each]) for n, each in enumerate(entries)])
        wins = [(line.target, line.digest) for line in lines if line.outcome == WRITE]
        assert len(dict(wins)) == len(wins)
        return set(wins)

    assert written(found) == written(found[::-1])
    assert {target for target, _ in written(found)} == {each.target for each in found}


def test_a_file_is_known_by_its_content(path: Path) -> None:
    """The first of the same bytes is named, also where its name is no UTF-8."""
    odd = "logs/\udcff.json"
    with PlanIndex(path) as index:
        assert index.first_with("1", odd) == odd
        assert index.first_with("1", "copy.json") == odd
        assert index.first_with("2", "copy.json") == "copy.json"
        index.add(PlanLine(odd, WRITE, kind="state", target="s/1", digest="b"), at=AT)
        index.add(PlanLine("x", WRITE, kind="state", target="s/1", digest="a"), at=AT)
        index.settle()
        assert [(line.source, line.by) for line in index.lines()] == [(odd, ""), ("x", odd)]
    assert not path.exists()


def test_controls_come_last_in_their_order_and_refusals_stay_where_they_are(path: Path) -> None:
    """A plan's id is of what is written, in whatever files that was found."""

    def made(*order: str) -> tuple[list[str], str, int]:
        with PlanIndex(path) as index:
            for name in order:
                if name.startswith("c"):
                    line = PlanLine(name, MERGE, kind="controls", target="controls", digest=name)
                    index.add(line, place=name)
                else:
                    index.add(PlanLine(name, REFUSED, place="line 1 column 1"))
            index.add(PlanLine(order[0], WRITE, kind="state", target="s/1", digest="d"), at=AT)
            index.settle()
            return [line.source for line in index.lines()], index.id(), index.count()

    one, other = made("c2", "r", "c1"), made("c1", "c2", "r2", "r3")
    assert one[0] == ["r", "c2", "c1", "c2"]
    assert other[0] == ["r2", "r3", "c1", "c1", "c2"]
    assert one[1] == other[1]
    assert (one[2], other[2]) == (4, 5)
