"""What becomes of the states of those that a session was taken from, in any order."""

from __future__ import annotations

import json
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestate.client.outgoing import Outgoing
from firestate.local.engine import LocalEngine
from firestate.schema.ids import Identity
from firestate.schema.take_over import may_be_late, taken_along
from firestate.stores.protocol import Update
from tests.harness import state_message, task, tombstone_message

if TYPE_CHECKING:
    from collections.abc import Iterator

WHO = Identity("Developer", "a_1", "s1")
FORMER, HOLDER, THIRD = 1, 100, 200


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    with LocalEngine() as engine:
        yield engine


def state(epoch: int, revision: int, *tasks: int, **context: Any) -> dict[str, Any]:
    if "taken_along" in context:
        context.setdefault("taken_by", f"w{epoch}")
    fields = {
        "task_history": [task(number) for number in tasks],
        "status": context.pop("status", "idle"),
        "collaboration_context": context,
    }
    return state_message(revision, epoch=epoch, **fields) | {"writer": f"w{epoch}"}


def along(**revisions: int) -> dict[str, Any]:
    return {epoch.removeprefix("e"): {"revision": n} for epoch, n in revisions.items()}


def put(engine: LocalEngine, message: dict[str, Any]) -> str:
    report = engine.publish(Outgoing("agent-state", json.dumps(message).encode()))
    return report.outcome.value


def stored(engine: LocalEngine) -> dict[str, Any]:
    found = engine.store.read(WHO.state_path)
    assert found is not None
    return found.data


def tasks(data: dict[str, Any]) -> list[str]:
    return [entry["task_id"] for entry in data["task_history"]]


def late(engine: LocalEngine, epoch: int) -> dict[str, Any] | None:
    found = engine.store.read(f"{WHO.state_path}/late/{epoch}")
    return None if found is None else found.data


BEFORE = state(FORMER, 1, 1)
AFTER = state(FORMER, 3, 1, 2)
TAKEN = state(HOLDER, 1, 1, taken_along=along(e1=1))
MERGED = state(HOLDER, 2, 1, 2, taken_along=along(e1=3))


@pytest.mark.parametrize("order", [*permutations([AFTER, TAKEN])], ids=["former", "holder"])
def test_what_the_holder_does_not_have_is_kept_and_it_is_told(
    engine: LocalEngine, order: list[Any]
) -> None:
    for message in (BEFORE, *order):
        assert put(engine, message) == "stored"
    found, kept = stored(engine), late(engine, FORMER)
    assert tasks(found) == tasks(TAKEN["state"])
    assert (found["late"], found["late_writer"]) == ({"1": 3}, "w100")
    assert kept is not None
    assert tasks(kept) == tasks(AFTER["state"])
    assert "expire_at" in kept
    assert put(engine, MERGED) == "stored"
    assert "late" not in stored(engine)
    assert "late_writer" not in stored(engine)


def test_the_same_again_changes_nothing(engine: LocalEngine) -> None:
    for message in (BEFORE, TAKEN, AFTER):
        put(engine, message)
    before = stored(engine), late(engine, FORMER)
    assert [put(engine, each) for each in (BEFORE, AFTER, TAKEN)] == [
        "superseded",
        "superseded",
        "duplicate",
    ]
    assert (stored(engine), late(engine, FORMER)) == before
    put(engine, MERGED)
    assert put(engine, AFTER) == "superseded"


def test_notes_that_an_earlier_release_has_copied_say_nothing_of_it(engine: LocalEngine) -> None:
    """It has taken all along that was stored, and cannot say so."""
    for message in (BEFORE, TAKEN, MERGED):
        put(engine, message)
    copied = state(THIRD, 1, 1, 2, taken_along=along(e1=3), taken_by="w100")
    assert put(engine, copied) == "stored"
    assert "late" not in stored(engine)
    assert late(engine, HOLDER) is None


def test_what_was_taken_along_is_superseded(engine: LocalEngine) -> None:
    put(engine, TAKEN)
    assert put(engine, BEFORE) == "superseded"
    assert late(engine, FORMER) is None


def test_a_later_state_of_the_former_takes_the_place_of_an_earlier_one(engine: LocalEngine) -> None:
    for message in (BEFORE, TAKEN, AFTER, state(FORMER, 5, 1, 2, 3)):
        assert put(engine, message) == "stored"
    assert stored(engine)["late"] == {"1": 5}
    assert put(engine, state(FORMER, 4, 1, 2)) == "superseded"
    kept = late(engine, FORMER)
    assert kept is not None
    assert tasks(kept) == tasks({"task_history": [task(number) for number in (1, 2, 3)]})


END = {"status": "terminated", "resumed_as": "next"}
ENDED = state(
    HOLDER, 1, 1, **END, ended_with={"epoch": "1", "order": "100.1"}, taken_along=along(e1=1)
)
SAVED = state(HOLDER, 2, 1, 9, **END, taken_along=along(e1=1))


@pytest.mark.parametrize("order", [*permutations([AFTER, ENDED])], ids=["former", "end"])
def test_a_session_that_was_resumed_ends_with_what_the_former_has_saved(
    engine: LocalEngine, order: list[Any]
) -> None:
    for message in (BEFORE, *order):
        assert put(engine, message) == "stored"
    found = stored(engine)
    assert tasks(found) == tasks(AFTER["state"])
    assert found["status"] == "terminated"
    assert found["collaboration_context"]["resumed_as"] == "next"
    assert late(engine, FORMER) is None
    for message in (BEFORE, AFTER, ENDED):
        assert put(engine, message) == "superseded"
    assert put(engine, state(FORMER, 4, 1, 2, 3)) == "stored"
    assert stored(engine)["status"] == "terminated"
    assert len(tasks(stored(engine))) == 3


@pytest.mark.parametrize("order", [*permutations([AFTER, ENDED, SAVED])])
def test_what_has_ended_with_the_former_s_state_and_is_saved_to_keeps_both(
    engine: LocalEngine, order: list[Any]
) -> None:
    """Whoever has resumed it may merge what is late of others, or end a task there."""
    put(engine, BEFORE)
    for message in order:
        assert put(engine, message) in {"stored", "superseded"}
    found, kept = stored(engine), late(engine, FORMER)
    assert tasks(found) == tasks(SAVED["state"])
    assert (found["late"], found["late_writer"]) == ({"1": 3}, "w100")
    assert kept is not None
    assert tasks(kept) == tasks(AFTER["state"])
    assert (kept["epoch"], kept["revision"]) == (1, 3)
    for message in (BEFORE, AFTER, ENDED):
        assert put(engine, message) == "superseded"
    assert put(engine, SAVED) == "duplicate"


@pytest.mark.parametrize("order", [*permutations([AFTER, ENDED])], ids=["former", "end"])
@pytest.mark.parametrize("read", [1, 3], ids=["before", "after"])
def test_who_takes_up_what_has_ended_with_the_former_s_state_is_told_of_what_it_has_not_read(
    engine: LocalEngine, order: list[Any], read: int
) -> None:
    for message in (BEFORE, *order):
        put(engine, message)
    assert put(engine, state(THIRD, 1, 1, taken_along=along(e1=read, e100=1))) == "stored"
    assert stored(engine).get("late") == ({"1": 3} if read == 1 else None)
    kept = late(engine, FORMER)
    assert (kept is not None) is (read == 1)
    assert late(engine, HOLDER) is None, "it has nothing that the former does not have"


def test_another_writer_s_message_of_the_same_order_is_refused(engine: LocalEngine) -> None:
    for message in (BEFORE, ENDED, AFTER):
        put(engine, message)
    other = state(HOLDER, 1, 1, 7, **END, taken_along=along(e1=1)) | {"writer": "w7"}
    assert put(engine, other) == "quarantined"


def test_a_note_that_was_copied_says_nothing_of_a_later_state(engine: LocalEngine) -> None:
    """Whoever has copied it has added to the state."""
    for message in (BEFORE, ENDED):
        put(engine, message)
    note = {"ended_with": {"epoch": "1", "order": "100.1"}}
    assert put(engine, state(150, 5, 1, 8, 9, **note, taken_along=along(e1=1, e100=1))) == "stored"
    last = state(THIRD, 1, 1, 8, 9, **END, **note, taken_along=along(e1=1, e150=5))
    assert put(engine, last) == "stored"
    assert put(engine, AFTER) == "stored"
    assert tasks(stored(engine)) == tasks(last["state"])
    assert stored(engine)["late"] == {"1": 3}


def test_a_note_that_a_release_has_left_beside_a_later_state_says_nothing_of_that(
    engine: LocalEngine,
) -> None:
    for message in (BEFORE, ENDED):
        put(engine, message)
    found = engine.store.read(WHO.state_path)
    assert found is not None
    moved = {"revision": 7, "taken_along": {}}
    engine.store.commit([Update(WHO.state_path, found.token, moved)])
    assert put(engine, AFTER) == "superseded"
    assert put(engine, state(THIRD, 1, 1, 5, taken_along=along(e1=1, e100=7))) == "stored"


def test_what_has_ended_by_one_who_had_held_it_is_not_replaced(engine: LocalEngine) -> None:
    held = state(HOLDER, 3, 1, 8, **END, taken_along=along(e1=1))
    for message in (BEFORE, held, AFTER):
        assert put(engine, message) == "stored"
    assert tasks(stored(engine)) == tasks(held["state"])
    assert stored(engine)["late"] == {"1": 3}


def test_two_who_take_a_session_at_once_are_told_of_each_other(engine: LocalEngine) -> None:
    """The later epoch has it; what the other one did is late."""
    third = state(THIRD, 1, 1, taken_along=along(e1=1))
    put(engine, BEFORE)
    put(engine, third)
    assert put(engine, state(HOLDER, 2, 1, 7, taken_along=along(e1=1))) == "stored"
    assert stored(engine)["late"] == {"100": 2}
    assert stored(engine)["late_writer"] == "w200"


def test_a_deletion_takes_what_is_late_with_it(engine: LocalEngine) -> None:
    for message in (BEFORE, TAKEN, AFTER):
        put(engine, message)
    gone = tombstone_message(2, epoch=HOLDER) | {"writer": "w100"}
    assert put(engine, gone) == "stored"
    assert late(engine, FORMER) is None
    assert put(engine, state(FORMER, 9, 1)) == "superseded"


def test_a_deleted_session_that_is_taken_up_has_nothing_late(engine: LocalEngine) -> None:
    put(engine, BEFORE)
    put(engine, tombstone_message(2, epoch=FORMER) | {"writer": "w1"})
    assert put(engine, TAKEN) == "stored"
    assert tasks(stored(engine)) == tasks(TAKEN["state"])


@pytest.mark.parametrize("first", [HOLDER, THIRD])
def test_the_first_who_adopts_a_session_has_it(engine: LocalEngine, first: int) -> None:
    """A message that comes after that changes nothing, be its epoch higher or lower."""
    put(engine, BEFORE)
    adopt = {
        epoch: state(epoch, 1, 1, adopts="1.1", taken_along=along(e1=1))
        for epoch in (HOLDER, THIRD)
    }
    second = THIRD if first == HOLDER else HOLDER
    assert put(engine, adopt[first]) == "stored"
    assert put(engine, adopt[second]) == "superseded"
    assert put(engine, adopt[first]) == "duplicate"
    assert stored(engine)["epoch"] == first
    assert "late" not in stored(engine)


def test_a_session_that_has_moved_on_is_not_adopted(engine: LocalEngine) -> None:
    put(engine, BEFORE)
    put(engine, AFTER)
    assert put(engine, state(HOLDER, 1, 1, adopts="1.1", taken_along=along(e1=1))) == "superseded"
    assert stored(engine)["epoch"] == FORMER


def test_a_program_that_writes_such_words_itself_does_no_harm(engine: LocalEngine) -> None:
    junk: list[dict[str, Any]] = [
        {"taken_along": 1},
        {"taken_along": {"x": 1, "1": {}, "2": {"revision": "a"}}},
        {"late": 1},
        {"ended_with": 1, "resumed_as": "x"},
        {"ended_with": {"epoch": "1", "order": "5.1"}, "resumed_as": "x"},
        {"ended_with": {"epoch": "x"}, "resumed_as": "x", "taken_along": {"1": {"revision": 1}}},
        {"ended_with": {}, "resumed_as": 7, "taken_along": {"1": {"revision": 1}}},
        {
            "ended_with": {"epoch": "9" * 19, "order": "8.1"},
            "resumed_as": "x",
            "taken_along": {"9" * 19: {"revision": 1}},
        },
    ]
    for number, context in enumerate(junk, start=1):
        assert put(engine, state(number, 1, **context)) == "stored"
        assert "ended_with" not in stored(engine)
        assert number > 3 or "taken_along" not in stored(engine)


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(["1", "7", "revision", "x", "-1"]), inner),
    max_leaves=5,
)


@given(JSON)
def test_what_is_no_note_of_a_take_over_is_left_out(value: Any) -> None:
    found = taken_along({"taken_along": value})
    assert all(epoch >= 0 and revision >= 0 for epoch, revision in found.items())


@pytest.mark.parametrize(
    ("epoch", "revision", "known", "is_late"),
    [
        (1, 4, {1: 3}, True),
        (1, 3, {1: 3}, False),
        (2, 1, {1: 3}, True),  # has taken it at the same time
        (1, 9, {2: 3}, False),  # of one that nobody remembers
        (1, 9, {}, False),
    ],
)
def test_what_may_be_late(epoch: int, revision: int, known: Any, *, is_late: bool) -> None:
    assert may_be_late(epoch, revision, known) is is_late
