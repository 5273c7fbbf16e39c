"""Document paths, and what can be an id."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum, IntEnum, StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestate.errors import InvalidMessageError
from firestate.limits import MAX_ID_BYTES
from firestate.schema.enums import AgentStatus
from firestate.schema.ids import (
    STATES,
    Identity,
    agent_type_problem,
    event_path,
    id_problem,
    identities_joined_as,
    memory_path,
    part_path,
    read_state_id,
)
from tests.unit.strategies import agent_types, any_times, ids

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hypothesis.strategies import SearchStrategy


def test_paths_read_as_people_expect() -> None:
    """Ids are joined plainly."""
    identity = Identity("Father", "agent_001", "session_123")
    assert identity.state_path == "agent_states/Father_agent_001_session_123"
    assert identity.memory_path == "agent_memory/Father_agent_001"
    assert identity.row_path == "agent_memory/Father_agent_001/sessions/session_123"
    assert part_path("q", 3) == "quarantine/q/parts/0003"


def test_event_ids_sort_by_time() -> None:
    """The time comes first, in UTC, always with microseconds."""
    noon = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=1)))
    assert event_path(noon, "e") == "coordination/2026-01-01T11:00:00.000000Z_e"


@given(any_times, any_times)
def test_event_paths_keep_the_order_of_times(one: datetime, other: datetime) -> None:
    """Sorting paths sorts events."""
    assert (event_path(one, "e") < event_path(other, "e")) == (one < other)


@pytest.mark.parametrize(
    "text", ["", "a/b", ".", "..", "__x__", "____", "__a\nb__", "\ud800", "x" * 401, "ä" * 201]
)
def test_what_cannot_be_an_id(text: str) -> None:
    """What Firestore reserves, or reads as another path, is refused with the reason."""
    assert id_problem(text)
    assert agent_type_problem(text)


@pytest.mark.parametrize("text", ["a", "...", "__x", "x__", "___", "a b", "`", "x" * 400, "\x00"])
def test_what_can_be_an_id(text: str) -> None:
    """Everything else is taken."""
    assert id_problem(text) is None


@given(agent_types, ids, agent_types, ids)
def test_memory_ids_name_one_agent(type_1: str, id_1: str, type_2: str, id_2: str) -> None:
    """Since a type holds no underscore, no two agents share a memory."""
    same = (type_1, id_1) == (type_2, id_2)
    assert (memory_path(type_1, id_1) == memory_path(type_2, id_2)) == same


@given(st.text(max_size=5), st.text(max_size=5))
def test_agent_types_hold_no_underscore(left: str, right: str) -> None:
    """An underscore in a type is refused, with what to write instead."""
    assert "'-'" in (agent_type_problem(f"{left}_{right}") or "")


def test_times_without_microseconds_are_told_apart() -> None:
    """Equal times give equal paths, whatever their precision was."""
    time = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert event_path(time, "e") == event_path(time.replace(microsecond=0), "e")


# What the ids of states are made of: marks, joints, the word that a session may begin with.
pieces = st.sampled_from(
    ["a", "_", "~", "1", "8", "session", "session_", "~3", "~\u0663", "ä", "\n"]
)
joined_pieces = st.lists(pieces, min_size=1, max_size=6).map("".join)
long_ids = st.sampled_from(["x" * 400, "a_" * 200, "a~" + "1" * 398, "ä" * 200, "~" * 400])


def possible(texts: SearchStrategy[str]) -> SearchStrategy[str]:
    return texts.filter(lambda text: id_problem(text) is None)


tricky_ids = possible(st.one_of(joined_pieces, joined_pieces, ids, long_ids))
tricky_types = st.one_of(
    agent_types,
    possible(joined_pieces.map(lambda text: text.replace("_", "-"))),
    st.sampled_from(["T" * 400, "~", "1", "T~1"]),
)
identities = st.builds(Identity, tricky_types, tricky_ids, tricky_ids)


@st.composite
def joined_alike(draw: st.DrawFn) -> tuple[Identity, Identity]:
    """Draw two identities; mostly such whose parts, joined plainly, are one text."""
    one = draw(identities)
    if draw(st.integers(0, 3)) == 0:
        return one, draw(identities)
    return one, draw(st.sampled_from(identities_joined_as(one.former_state_path)))


def keys(identity: Identity) -> Iterator[tuple[str, object]]:
    """Return what is to belong to one identity alone."""
    yield "state_id", identity.state_id
    yield "state_path", identity.state_path
    yield "row_path", identity.row_path
    yield "memory", (identity.memory_path, identity.session_id)


@given(joined_alike())
def test_no_two_identities_share_a_key(two: tuple[Identity, Identity]) -> None:
    """Neither the state's document, nor the row, nor the place in a memory."""
    one, other = two
    for (name, of_one), (_, of_other) in zip(keys(one), keys(other), strict=True):
        assert (of_one == of_other) == (one == other), name


@given(identities)
def test_a_state_id_reads_back(identity: Identity) -> None:
    """It names the identity that it was made of, and takes at most 1,206 bytes."""
    assert read_state_id(identity.state_id) == identity
    assert len(identity.state_id.encode()) <= 1_206
    assert id_problem(identity.state_id) is None or len(identity.state_id.encode()) > MAX_ID_BYTES
    assert identity.state_path == f"{STATES}/{identity.state_id}"


def test_the_longest_state_id() -> None:
    """Three parts of 400 bytes, joined and marked: Firestore takes 1,500."""
    identity = Identity("T" * 400, "a_" * 200, "s_" * 200)
    assert len(identity.state_id.encode()) == 1_206


def every(alphabet: str, most: int) -> list[str]:
    """Return every text of up to so many characters."""
    lengths = range(1, most + 1)
    return ["".join(text) for n in lengths for text in itertools.product(alphabet, repeat=n)]


def unshared(found: Iterable[Identity]) -> int:
    """Return how many identities there are; no two may share an id, each must read back."""
    number, taken = 0, set()
    for identity in found:
        state_id = identity.state_id
        assert read_state_id(state_id) == identity
        taken.add(state_id)
        number += 1
    assert len(taken) == number
    return number


def test_every_triple_of_a_small_alphabet_has_an_id_of_its_own() -> None:
    """All ids of up to four characters that can be confused."""
    parts = every("a_~1", 4)
    assert unshared(Identity("T", *pair) for pair in itertools.product(parts, parts)) == 115_600


def test_every_triple_of_words_has_an_id_of_its_own() -> None:
    """The same for ids that hold the word of a named session, and several types."""
    words = ("session", "session_", "_session", "session_a", "a_session", "session_a_session_1")
    parts = [*words, *(f"{word}~1" for word in words), *every("a_~1", 2)]
    triples = itertools.product(("T", "a", "~", "T~1", "session"), parts, parts)
    assert unshared(Identity(*each) for each in triples) == 5_120


@pytest.mark.parametrize(
    ("identity", "state_id"),
    [
        (("Father", "agent_001", "session_123"), "Father_agent_001_session_123"),
        (("QA", "red_team", "7"), "QA_red_team_7"),
        (("QA", "red_team", "4f0c-11"), "QA_red_team_4f0c-11"),
        (("QA", "a", "session_1"), "QA_a_session_1"),
        (("QA", "session", "b"), "QA_session_b"),
        (("QA", "a_session", "session_b"), "QA_a_session_session_b"),
        (("QA", "red_team", "lead_7"), "QA_red_team_lead_7~8"),
        (("QA", "red", "team_lead_7"), "QA_red_team_lead_7~3"),
        (("QA", "red_team_lead", "7"), "QA_red_team_lead_7"),
        (("QA", "a_session", "b"), "QA_a_session_b~9"),
        (("QA", "a", "session_b_c"), "QA_a_session_b_c~1"),
        (("QA", "a", "session_"), "QA_a_session_~1"),
        (("QA", "a", "b_"), "QA_a_b_~1"),
        (("QA", "_", "_"), "QA____~1"),
        (("QA", "x", "y~3"), "QA_x_y~3~1"),
        (("QA", "x", "~3"), "QA_x_~3~1"),
        (("QA", "x~3", "y"), "QA_x~3_y"),
        (("QA", "x", "y~"), "QA_x_y~"),
        (("QA", "x", "y~\u0663"), "QA_x_y~\u0663"),
        (("QA", "ä_ä", "b_c"), "QA_ä_ä_b_c~3"),
    ],
)
def test_plain_and_marked_ids(identity: tuple[str, str, str], state_id: str) -> None:
    """Most are joined plainly; where that reads back as another, the agent id's length follows."""
    assert Identity(*identity).state_id == state_id
    assert read_state_id(state_id) == identity


@pytest.mark.parametrize(
    "text",
    [
        "",
        "_",
        "__",
        "QA",
        "QA_",
        "QA_a",
        "QA_a_",
        "QA__a",
        "_a_b",
        "QA_red_team_lead_7~7",  # cuts between other characters
        "QA_red_team_lead_7~08",
        "QA_red_team_lead_7~13",  # the plain form names that one
        "QA_red_team_lead_7~0",
        "QA_red_team_lead_7~99",
        "QA_red_team_lead_7~" + "9" * 1_400,
        "QA_x_y~1",  # needs no mark
        "QA_x_~3",
        "QA~1",
        "~1",
        "QA_~1",
    ],
)
def test_what_is_no_state_id(text: str) -> None:
    """Parts are missing, or the mark is wrong or not needed."""
    assert read_state_id(text) is None


@given(joined_pieces)
def test_any_text_is_one_id_or_none(text: str) -> None:
    """What reads back names exactly the identity that has this id."""
    identity = read_state_id(text)
    assert identity is None or (identity.state_id == text and all(identity))


@given(identities)
def test_every_identity_of_a_former_path_is_found(identity: Identity) -> None:
    """Of all that were joined to it, this one among them, and no other is."""
    path = identity.former_state_path
    found = identities_joined_as(path)
    assert identity in found
    assert len(set(found)) == len(found)
    assert {each.former_state_path for each in found} == {path}
    assert all(path in each.state_paths and all(each) for each in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("QA_a_b", [("a", "b")]),
        ("QA_a_b_c", [("a", "b_c"), ("a_b", "c")]),
        ("QA__a_", []),
        ("QA____", [("_", "_")]),
        ("QA_a", []),
        ("QA", []),
    ],
)
def test_identities_joined_as(text: str, expected: list[tuple[str, str]]) -> None:
    """One for each place to cut that leaves an agent and a session."""
    found = identities_joined_as(f"{STATES}/{text}")
    assert found == [("QA", *each) for each in expected]


@given(identities)
def test_paths_of_a_state(identity: Identity) -> None:
    """Two where the former path is another, today's first; and else one."""
    today, former = identity.state_path, identity.former_state_path
    assert former == f"{STATES}/{'_'.join(identity)}"
    assert identity.state_paths == ((today,) if today == former else (today, former))


class Named(StrEnum):
    """Ids that a program keeps in an enum."""

    ONE = "one_1"


class Numbered(IntEnum):
    """The same, as numbers."""

    SEVEN = 7


class Text(str, Enum):  # noqa: UP042 - as programs write it that are older than StrEnum
    """The same, as programs write it that are older than StrEnum."""

    ONE = "one_1"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a_1", "a_1"),
        (0, "0"),
        (7, "7"),
        (-1, "-1"),
        (2**70, str(2**70)),
        (0.0, "0.0"),
        (1.5, "1.5"),
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (Named.ONE, "one_1"),
        (Text.ONE, "one_1"),
        (AgentStatus.IDLE, "idle"),
        (Numbered.SEVEN, "7"),
    ],
)
def test_ids_of_frameworks_are_taken_as_text(value: object, text: str) -> None:
    """Numbers, 0 too, UUIDs and members of enums; the text is plain."""
    identity = Identity.of("QA", value, value)
    assert identity == ("QA", text, text)
    assert {type(part) for part in identity} == {str}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "must be a text, a number or a UUID, not NoneType"),
        (True, "must be a text, a number or a UUID, not bool"),
        (False, "must be a text, a number or a UUID, not bool"),
        (b"a", "must be a text, a number or a UUID, not bytes"),
        (["a"], "must be a text, a number or a UUID, not list"),
        ("", "must not be empty"),
        ("\ud800", "half of a surrogate pair"),
        ("a/b", "must not hold '/'"),
        ("x" * 401, "takes 401 bytes"),
        (10**400, "takes 401 bytes"),
    ],
)
def test_what_a_call_refuses_as_an_id(value: object, reason: str) -> None:
    """Each argument that cannot be one is named, with the reason, and no other."""
    good = {"agent_type": "QA", "agent_id": 1, "session_id": "s"}
    for names in (["agent_type"], ["agent_id"], ["session_id"], list(good)):
        with pytest.raises(InvalidMessageError) as caught:
            Identity.of(**good | dict.fromkeys(names, value))
        assert caught.value.code == "schema"
        assert [problem.field for problem in caught.value.problems] == names
        assert all(reason in problem.reason for problem in caught.value.problems)


def test_a_type_with_an_underscore_is_refused() -> None:
    """Also by a call, with what to write instead."""
    with pytest.raises(InvalidMessageError, match="agent_type: must not hold '_'"):
        Identity.of("Q_A", "a_1", "s_1")
