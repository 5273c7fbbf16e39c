"""Foreign names made fit."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from firestate.limits import MAX_ID_BYTES
from firestate.schema.ids import agent_type_problem, id_problem
from firestate.schema.sanitize import (
    id_text,
    joined_id,
    sanitize_id,
    sanitize_text,
    sanitize_type,
)
from firestate.schema.values import problems_of

# Half of a surrogate pair, and what ids refuse, oftener than chance has them.
names = st.text(st.one_of(st.characters(), st.sampled_from("/_.-\ud800")))


@given(names)
@example("")
@example("..")
@example("__x__")
@example("____")
@example("/" * 3)
@example("ä" * MAX_ID_BYTES)
@example("__" + "x" * MAX_ID_BYTES + "__")
def test_any_name_becomes_fit(name: str) -> None:
    assert id_problem(sanitize_id(name)) is None
    assert agent_type_problem(sanitize_type(name)) is None
    assert not list(problems_of(sanitize_text(name), ""))


@given(names, names)
@example("a/b", "a-b")
@example("", "-")
@example("\ud800", "\ud801")
@example("x" * 500, "x" * 501)
def test_two_names_give_two_ids(one: str, other: str) -> None:
    """Also where what an id cannot hold is replaced."""
    assert id_problem(id_text(one)) is None
    assert (id_text(one) == id_text(other)) == (one == other)


parts = st.lists(
    st.text(st.sampled_from("ab:/%_-\ud800ä"), max_size=5) | st.just("x" * 500),
    min_size=3,
    max_size=3,
)


@given(parts, parts)
@example(["__a", "b", "c__"], ["--a", "b", "c__"])
@example(["a", "", "b"], ["a", ":", "b"])
@example(["a:b", "c", "d"], ["a", "b:c", "d"])
def test_several_names_give_one_id_that_no_others_give(one: list[str], other: list[str]) -> None:
    """Where one part ends can be seen; the cut form of long ones is nobody's short form."""
    joined = joined_id(*one)
    assert id_problem(joined) is None
    assert (joined == joined_id(*other)) == (one == other)


@given(names)
def test_a_fit_one_stays_as_it_is(name: str) -> None:
    assert sanitize_id(sanitize_id(name)) == sanitize_id(name)
    assert sanitize_type(sanitize_type(name)) == sanitize_type(name)
    if id_problem(name) is None:
        assert sanitize_id(name) == name
    if agent_type_problem(name) is None:
        assert sanitize_type(name) == name


@pytest.mark.parametrize(
    ("name", "agent_type", "agent_id"),
    [
        ("Triage agent", "Triage agent", "Triage agent"),
        ("the_writer", "the-writer", "the_writer"),
        ("team/writer", "team-writer", "team-writer"),
        ("__start__", "--start--", "--start__"),
        ("", "-", "-"),
        (".", "-", "-"),
        ("a\ud800", "a-", "a-"),
    ],
)
def test_as_people_see_them(name: str, agent_type: str, agent_id: str) -> None:
    assert (sanitize_type(name), sanitize_id(name)) == (agent_type, agent_id)


def test_two_that_begin_alike_stay_two() -> None:
    one, other = ("x" * MAX_ID_BYTES + end for end in "ab")
    assert sanitize_id(one) != sanitize_id(other)
