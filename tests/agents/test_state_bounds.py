"""A state that is full: what ends something always works, and each task is counted once."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firestate import StateManager
from firestate.agents.state.encoded_state import EncodedState, Part
from firestate.agents.state.history_trimming import (
    CUT,
    Former,
    fitted,
    is_open,
    trimmed,
)
from firestate.agents.state.message_encoding import checked_state
from firestate.audit.full import FullAudit
from firestate.counters.task_history import ended_tasks
from firestate.counters.task_totals import with_tasks
from firestate.errors import InvalidMessageError
from firestate.limits import FULL_STATE_BYTES, MAX_HISTORY, MAX_HISTORY_BYTES, NEARLY_FULL
from firestate.outbox.file import Outbox
from firestate.schema.ids import Identity
from firestate.schema.messages import Order
from firestate.schema.values import stored_size
from tests.agents.environments import eventually, value
from tests.harness import state_message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from firestate.agents.agent import Agent
    from firestate.outbox.entries import NewEntry

FULL = 852_000
"""Bytes past which a state learns nothing more."""
SESSION = "s1"


@pytest.fixture
def manager() -> Iterator[StateManager]:
    with StateManager.in_memory(snapshot_interval_seconds=0.0) as made:
        yield made


def size_of(agent: Agent) -> int:
    return agent._memory.fields.extent.size


def filled(agent: Agent) -> Agent:
    """Have an agent remember until not even a short note is taken."""
    for size in (20_000, 1_000, 50, 0):
        for number in count():
            try:
                agent.remember(f"{size}-{number}", "x" * size)
            except InvalidMessageError as error:
                assert error.code == "size"  # noqa: PT017 - the loop ends by it
                break
    assert FULL - 50 < size_of(agent) <= FULL
    return agent


def work(agent: Agent, tasks: int, kind: str) -> None:
    """Begin and end tasks with long notes; each third one fails, with an error of 1 MB."""
    for number in range(tasks):
        with (
            suppress(ValueError),
            agent.task(f"{kind}-{number}", kind, plan="p" * 5_000) as notes,
        ):
            notes["log"] = "y" * 5_000
            if number % 3 == 0:
                raise ValueError("e" * 1_000_000)


def counted(manager: StateManager, name: str) -> dict[str, tuple[int, int]]:
    learned = value(manager.learned("Dev", name))
    return {each.name: (each.tries, each.successes) for each in learned.kinds}


# ---------------------------------------------------------------- a full agent


def test_an_agent_that_is_full_can_still_do_all_that_ends_something(
    on_disk: Callable[[], StateManager],
) -> None:
    """Here, in a session resumed by another process, and in a third: all is counted, once."""
    first = on_disk()
    agent = filled(first.start("Dev", "d", "s1"))
    agent.save()
    agent.update(status="busy")
    work(agent, 300, "code")
    for _ in range(5):
        agent.handed_off(("QA", "q"), context={"log": "x" * 5_000})
        with agent.handoff(("QA", "q")) as handoff:
            handoff.context["log"] = "x" * 5_000
    agent.spawn("QA", "child").terminate()
    with pytest.raises(InvalidMessageError, match="kept free for ends"):
        agent.remember("more", "x" * 30_000)
    agent.begin_task("left", "code")
    assert size_of(agent) <= FULL_STATE_BYTES

    second = on_disk()  # the first has crashed
    again = second.resume("Dev", "d", "s2")
    assert again.fresh
    assert len(again.state.memory_context) > 40
    work(again, 30, "test")
    again.save().terminate()
    taken_up = second.take_up("Dev", "d", "s2")
    work(taken_up, 10, "test")
    taken_up.forget("20000-0")
    taken_up.remember("after", "x" * 100)

    third = on_disk()
    last = third.resume("Dev", "d", "s3")
    assert last.state.memory_context["after"] == "x" * 100
    work(last, 9, "ship")
    last.terminate()
    assert second.flush()
    assert third.settle()
    assert counted(third, "d") == {"code": (300, 200), "test": (40, 26), "ship": (9, 6)}
    system = value(third.system())
    assert system.total_agents_spawned >= 2
    assert {
        session: value(third.load("Dev", "d", session)).status for session in ("s1", "s2", "s3")
    } == dict.fromkeys(("s1", "s2", "s3"), "terminated")


def test_an_agent_that_began_before_its_past_was_read_takes_a_full_one_along(
    on_disk: Callable[[], StateManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = on_disk()
    agent = filled(first.start("Dev", "d", "s1"))
    work(agent, 20, "code")
    assert first.settle()
    second = on_disk()
    backend: Any = second._runtime.backend
    with monkeypatch.context() as patch:
        patch.setattr(backend, "store", lambda: (_ for _ in ()).throw(OSError("away")))
        later = second._later(agent.identity, agent.identity)
        work(later, 5, "own")
        assert not later.fresh
    backend.reading.lost("as a read that failed would say")
    backend.reading.back()
    eventually(lambda: later.fresh)
    assert len(later.state.memory_context) > 40
    work(later, 5, "own")
    assert second.settle()
    assert counted(second, "d")["own"] == (10, 6)
    assert counted(second, "d")["code"] == (20, 13)


def test_what_shrinks_is_never_refused(manager: StateManager) -> None:
    """Also above the room for growth, where a state may be that an earlier release has saved."""
    large = {str(number): "x" * 10_000 for number in range(89)}
    agent = manager.start("Dev", "d", memory_context=large)
    assert size_of(agent) > FULL + 30_000
    with pytest.raises(InvalidMessageError, match="size"):
        agent.remember("0", "x" * 10_001)
    with pytest.raises(InvalidMessageError, match="size"):
        agent.measure(speed=1.0)
    agent.remember("0", "x" * 9_000)
    agent.remember("1", "x" * 9_999)
    agent.update(memory_context={**agent.state.memory_context, "2": "x"})
    agent.remember("3", 1)
    agent.forget("4").forget("5")
    assert size_of(agent) < FULL
    agent.measure(speed=1.0)


def test_an_agent_is_warned_once_when_four_fifths_are_taken_and_again_after_it_has_shrunk(
    manager: StateManager, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Agent] = []
    agent = manager.start("Dev", "d")
    agent.on_nearly_full(told.append)
    most = int(NEARLY_FULL * FULL_STATE_BYTES)

    def warnings() -> int:
        return caplog.text.count("takes more than four fifths of what a state may")

    for times in (1, 2, 3):
        for number in count():
            agent.remember(str(number), "x" * 40_000)
            if size_of(agent) > most:
                break
            assert warnings() == times - 1
        agent.save().remember("small", 1)
        agent.remember(str(number + 1), "x" * 40_000)
        assert warnings() == times
        assert eventually(lambda times=times: len(told) == times)  # type: ignore[misc]
        for key in list(agent.state.memory_context):
            agent.forget(key)
    assert told == [agent] * 3
    late: list[Agent] = []
    filled(agent)
    agent.on_nearly_full(late.append)
    eventually(lambda: late == [agent])


# ---------------------------------------------------------------- what a call writes


def test_a_call_writes_as_much_at_the_last_note_as_at_the_first(
    manager: StateManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    put: list[int] = []
    real = Outbox.put

    def counting(outbox: Outbox, *entries: NewEntry) -> bool:
        put.append(sum(len(each.data) for each in entries))
        return real(outbox, *entries)

    monkeypatch.setattr(Outbox, "put", counting)
    agent = manager.start("Dev", "d")
    written: dict[str, dict[int, int]] = {}

    def bytes_of(name: str, number: int, call: Callable[[], object]) -> None:
        put.clear()
        call()
        written.setdefault(name, {})[number] = sum(put)

    def note(number: int) -> None:
        agent.remember(f"note-{number:05}", {"type": "fact", "text": "x" * 300})

    for number in range(1, 1_501):
        bytes_of("note", number, lambda number=number: note(number))  # type: ignore[misc]
        if number in (10, 1_500):
            for known in range(60):  # a history is there
                agent.begin_task(f"t{number}-{known}", "code").end_task(f"t{number}-{known}")
            key = f"note-{number:05}"
            bytes_of("heartbeat", number, agent.save)
            bytes_of("begin", number, lambda: agent.begin_task("now", "code"))
            bytes_of("end", number, lambda: agent.end_task("now"))
            bytes_of("metric", number, lambda: agent.measure(speed=1.0))
            bytes_of("forget", number, lambda key=key: agent.forget(key))  # type: ignore[misc]
            note(number)
    assert len(agent.state.memory_context) == 1_500
    for name, found in written.items():
        assert 0 < found[1_500] <= 2 * found[10], name
    assert written["note"][1_500] < 1_000


# ---------------------------------------------------------------- what is trimmed


def _entry(number: int, status: str, session: str | None, notes: int) -> dict[str, Any]:
    made: dict[str, Any] = {"task_id": f"t{number}", "kind": f"k{number % 3}", "status": status}
    if session is not None:
        made["session_id"] = session
    if notes:
        made |= {"log": "x" * notes, "more": ["y" * notes]}
    return made


_STATUSES = st.sampled_from(
    ["completed", "completed", "failed", "cancelled", "in_progress", "pending", "odd"]
)
_ENTRIES = st.tuples(
    _STATUSES,
    st.sampled_from([SESSION, SESSION, None, "other"]),
    st.sampled_from([0, 0, 10, 300, 9_000]),
)


def parts_of(entries: list[tuple[str, str | None, int]], first: int = 0) -> list[Part]:
    return [Part.of(_entry(first + n, *each)) for n, each in enumerate(entries)]


def bytes_of_all(history: list[Part]) -> int:
    return sum(part.extent.size for part in history)


@given(
    st.lists(_ENTRIES, max_size=30),
    st.lists(_ENTRIES, max_size=3),
    st.integers(0, 20_000),
)
def test_what_is_open_stays_and_what_has_ended_goes_in_its_order(
    old: list[tuple[str, str | None, int]], new: list[tuple[str, str | None, int]], most: int
) -> None:
    former = parts_of(old)
    history = [*former, *parts_of(new, len(former))]
    kept = fitted(history, former, SESSION, most_bytes=most)
    names = [part.plain["task_id"] for part in history]
    left = [part.plain["task_id"] for part in kept]
    assert left == [name for name in names if name in set(left)], "their order is as it was"
    by_name = {part.plain["task_id"]: part for part in kept}
    for place, part in enumerate(history):
        found = by_name.get(part.plain["task_id"])
        if is_open(part.plain, SESSION):
            assert found is part, "what is open is left as it is"
        elif place >= len(former) or place == len(history) - 1:
            assert found is not None, "what is new, and the newest of all, is there"
        if found is not None and found is not part:
            assert found.plain[CUT] is True
            assert found.plain.items() >= _entry_without_notes(part).items()
    assert bytes_of_all(kept) <= max(most, 0) or _nothing_more_to_cut(history, kept, former)
    if bytes_of_all(history) <= most:
        assert kept == history


def _entry_without_notes(part: Part) -> dict[str, Any]:
    return {key: part.plain[key] for key in part.plain if key not in ("log", "more")}


def _nothing_more_to_cut(history: list[Part], kept: list[Part], former: list[Part]) -> bool:
    closed = [part for part in kept if not is_open(part.plain, SESSION)]
    new = {part.plain["task_id"] for part in history[len(former) :]}
    newest = history[-1].plain["task_id"]
    return all(
        "log" not in part.plain and part.plain["task_id"] in new | {newest} for part in closed
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["completed", "failed", "cancelled"]),
            st.just(SESSION),
            st.sampled_from([10, 300, 2_000]),
        ),
        min_size=2,
        max_size=20,
    ),
    st.integers(0, 30_000),
)
def test_notes_go_before_tasks_and_the_oldest_first(
    entries: list[tuple[str, str | None, int]], most: int
) -> None:
    former = parts_of(entries)
    kept = fitted(former, former, SESSION, most_bytes=most)
    gone = len(former) - len(kept)
    names = [part.plain["task_id"] for part in kept]
    assert names == [f"t{number}" for number in range(gone, len(former))], "the oldest go first"
    cut = [CUT in part.plain for part in kept]
    assert cut == sorted(cut, reverse=True), "the notes of the oldest go first"
    assert all("log" not in part.plain for part in kept if CUT in part.plain)
    if gone:
        assert all(cut), "a task goes where no notes are left"
    if cut.count(True) and not gone:
        # No more than it takes: with the notes of the last one back, it would be too much.
        last = cut.count(True) - 1
        assert bytes_of_all([*kept[:last], former[last], *kept[last + 1 :]]) > most


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "append", "end", "nothing"]),
        _STATUSES,
        st.sampled_from([SESSION, SESSION, None, "other"]),
        st.sampled_from([0, 300, 9_000]),
        st.sampled_from([0, 500, 5_000, MAX_HISTORY_BYTES]),
    ),
    max_size=40,
)


def totals_of(totals: dict[str, Any] | None, history: list[Part]) -> Counter[tuple[str, str]]:
    """Count by kind and outcome; totals stand in the place of the history."""
    if totals is None:
        totals = with_tasks({}, ended_tasks((part.plain for part in history), SESSION))
    found: Counter[tuple[str, str]] = Counter()
    for kind, each in totals["kinds"].items():
        found[kind, "tries"] = each.get("tries", 0)
        found[kind, "completed"] = each.get("successes", 0)
        found[kind, "cancelled"] = each.get("cancelled", 0)
    return +found


@settings(max_examples=60)
@given(_STEPS)
def test_whatever_is_trimmed_each_task_that_ended_counts_once_and_open_ones_stay(
    steps: list[tuple[str, str, str | None, int, int]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("firestate.agents.state.history_trimming.MAX_HISTORY", 12)
        _tell(steps)


def _tell(steps: list[tuple[str, str, str | None, int, int]]) -> None:
    history: list[Part] = []
    totals: dict[str, Any] | None = None
    ended: Counter[tuple[str, str]] = Counter()
    running: dict[str, Part] = {}
    numbers = count()

    def end(entry: dict[str, Any]) -> None:
        outcome = entry["status"]
        if entry.get("session_id") in (None, SESSION):
            if outcome in ("completed", "failed"):
                ended[entry["kind"], "tries"] += 1
            if outcome in ("completed", "cancelled"):
                ended[entry["kind"], outcome] += 1

    for kind, status, session, notes, most in steps:
        new = list(history)
        if kind == "append":
            entry = _entry(next(numbers), status, session, notes)
            new.append(Part.of(entry))
            end(entry)
            if is_open(entry, SESSION):
                running[entry["task_id"]] = new[-1]
        elif kind == "end" and running:
            _, part = running.popitem()
            entry = {**part.plain, "status": "failed", "error": "e" * notes}
            new[new.index(part)] = Part.of(entry)
            end(entry)
        kept = trimmed(new, totals, Former(history, totals), SESSION, most_bytes=most)
        history, totals = kept
        assert totals_of(totals, history) == +ended
        assert [part for part in history if is_open(part.plain, SESSION)] == list(running.values())


@pytest.mark.parametrize("after", [MAX_HISTORY + 50, 40])
def test_open_tasks_are_kept_whatever_ends_after_them(manager: StateManager, after: int) -> None:
    """By their number, and by their bytes."""
    agent = manager.start("Dev", "d", SESSION)
    notes = "n" * (10 if after > MAX_HISTORY else 20_000)
    for number in range(10):
        agent.begin_task(f"open-{number}", "plan", notes=notes)
    before = agent.state.task_history
    for number in range(after):
        agent.begin_task(f"t{number}", "code")
        agent.end_task(f"t{number}", log=notes)
    history = agent.state.task_history
    assert history[:10] == before
    assert len(history) <= MAX_HISTORY
    assert agent._memory.fields.history_size <= MAX_HISTORY_BYTES
    assert history[-1]["task_id"] == f"t{after - 1}"
    assert (CUT in history[10]) is (after < MAX_HISTORY)
    for number in range(10):
        agent.end_task(f"open-{number}", "failed")
    last = totals_of(
        agent.state.model_dump(mode="json")["task_totals"], agent._memory.fields.history
    )
    assert last == Counter(
        {("code", "tries"): after, ("code", "completed"): after, ("plan", "tries"): 10}
    )


def test_what_was_cut_says_so(manager: StateManager) -> None:
    agent = filled(manager.start("Dev", "d"))
    agent.begin_task("t1", "code", tool="editor", plan="p" * 50)
    agent.end_task("t1", "failed", error=ValueError("e" * 1_000_000), log="y" * 15_000)
    for number in range(20):
        agent.begin_task(f"more-{number}", "code", plan="p" * 5_000)
        agent.end_task(f"more-{number}")
    history = agent.state.task_history
    assert [e["status"] for e in history if e["task_id"] == "t1"] in ([], ["failed"])
    assert any(CUT in entry for entry in history)
    assert size_of(agent) <= FULL_STATE_BYTES
    whole = manager.start("Dev", "small")
    whole.begin_task("t1", "code", plan="p" * 5_000).end_task("t1")
    assert CUT not in whole.state.task_history[0]
    assert whole.state.task_history[0]["plan"] == "p" * 5_000


def test_a_state_that_an_earlier_release_has_filled_can_still_end(tmp_path: Path) -> None:
    """It kept nothing free: the last bytes are taken of states that are over the bound alone."""
    fields = state_message(1, memory_context={"full": ""}, task_history=[])["state"]
    room = FULL_STATE_BYTES - stored_size(fields) - 3
    fields["memory_context"] = {"full": "x" * room}
    identity = Identity(*(fields[name] for name in Identity._fields))
    with StateManager(project="", folder=tmp_path) as manager:
        submitter = manager._runtime.submitter
        body = EncodedState.of(checked_state(fields)).body()
        assert submitter.put(submitter.state_entry(identity, body, Order(1, 1)))
        assert manager.settle()
        agent = manager.take_up(*identity)
        agent.end_task("t", error="x" * 10_000)
        agent.update(status="busy").terminate()
        second = manager.resume(*identity[:2])
        second.terminate()
        with pytest.raises(InvalidMessageError, match="at most"):
            manager.take_up(*second.identity).remember("more", "x" * 9_000)
        assert manager.settle()
        found = manager.load(*identity).value
        assert found is not None
        assert found.collaboration_context["resumed_as"] == second.identity.session_id
        assert FullAudit(manager._runtime.backend.store()).run().findings == []
