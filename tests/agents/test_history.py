"""Each task that ended counts once, however long the history, whoever saves it, in any session."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from firestate import StateManager
from firestate.agents.state.encoded_state import EncodedState, Part
from firestate.agents.state.history_trimming import Former, trimmed
from firestate.agents.state.message_encoding import checked_state
from firestate.counters.contribution import contribution_of
from firestate.counters.task_history import ENDED
from firestate.limits import MAX_COUNT, MAX_HISTORY, MAX_NAMES
from firestate.schema.serialization import to_document
from tests.harness import state_message, task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from firestate.schema.models import AgentState

SHORT = 4
"""What a history keeps in these stories, so that they need not be long."""

MANAGERS: list[StateManager] = []
NUMBERS = count()

kinds = st.sampled_from(["code", "review"])
ids = st.sampled_from(["t1", "t2", "t3"])
outcomes = st.sampled_from(ENDED)
durations = st.integers(0, 9)
BROKEN = "BrokenError"


def counted(states: Iterable[AgentState]) -> Counter[tuple[str, str]]:
    """Return what all these states say of tasks: how many by kind and outcome, how long, errors."""
    found: Counter[tuple[str, str]] = Counter()
    for state in states:
        contribution = contribution_of(to_document(state))
        for error_type, failures in contribution.get("task_errors", {}).items():
            found["error", error_type] += failures
        for kind, each in contribution["kinds"].items():
            failed = each["tries"] - each["successes"]
            found[kind, "completed"] += each["successes"]
            found[kind, "cancelled"] += each["cancelled"]
            found[kind, "failed"] += failed
            found[kind, "ms"] += each["duration_ms"]
    return +found


class Story(RuleBasedStateMachine):
    """One agent through its sessions; `whole` is the history as its program keeps it, uncut."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        for module in ("history_trimming", "carry_over"):
            self.patch.setattr(f"firestate.agents.state.{module}.MAX_HISTORY", SHORT)
        self.manager = MANAGERS[0]
        self.name = f"a{next(NUMBERS)}"
        self.ended: Counter[tuple[str, str]] = Counter()
        self.number = 0

    @initialize()
    def start(self) -> None:
        self.agent = self.manager.start("Developer", self.name)
        self.sessions = [self.agent.identity.session_id]
        self.whole: list[dict[str, Any]] = []

    def note(self, kind: str, outcome: str, duration: int) -> None:
        self.ended[kind, outcome] += 1
        if outcome != "cancelled":  # which is neither a try nor timed
            self.ended[kind, "ms"] += duration
        if outcome == "failed":
            self.ended["error", BROKEN] += 1
        self.ended = +self.ended

    def follow(self, new: dict[str, Any], *, ended: Any = None) -> None:
        """Do to the whole history what was done to the agent's: a task ended, or one was added."""
        # As it is kept, if it is: where many are open, what has ended is let go at once.
        kept = [e for e in self.agent.state.task_history if e not in self.whole]
        new = kept[0] if kept else new
        if ended is not None:
            place = len(self.whole) - 1 - self.whole[::-1].index(ended)
            self.whole = [
                *self.whole[:place],
                {**self.whole[place], **new},
                *self.whole[place + 1 :],
            ]
        else:
            self.whole = [*self.whole, new]

    def entry(self, kind: str, outcome: str, duration: int) -> dict[str, Any]:
        self.number += 1
        self.note(kind, outcome, duration)
        made = task(self.number, outcome, kind=kind, duration_ms=duration, error_type=BROKEN)
        del made["duration_seconds"]
        return made

    @rule(task_id=ids, kind=kinds)
    def begin(self, task_id: str, kind: str) -> None:
        self.agent.begin_task(task_id, kind)
        self.follow({})

    @rule(task_id=ids, kind=kinds, outcome=outcomes, duration=durations)
    def end(self, task_id: str, kind: str, outcome: str, duration: int) -> None:
        running = [
            each
            for each in self.agent.state.task_history
            if each["task_id"] == task_id and each["status"] == "in_progress"
        ]
        details = {"kind": kind, "duration_ms": duration, "error_type": BROKEN}
        self.agent.end_task(task_id, outcome, **details)
        self.note(kind, outcome, duration)
        session_id = self.agent.identity.session_id
        new = {**details, "task_id": task_id, "status": outcome, "session_id": session_id}
        self.follow(new, ended=running[-1] if running else None)

    @rule()
    def save(self) -> None:
        self.agent.save()

    @rule(kind=kinds, outcome=outcomes, duration=durations)
    def save_state(self, kind: str, outcome: str, duration: int) -> None:
        state = self.agent.state
        new = self.entry(kind, outcome, duration)
        longer = [*state.task_history, new]
        self.manager.save(state.model_copy(update={"task_history": longer}))
        self.follow(new)

    @rule(kind=kinds, outcome=outcomes, duration=durations, way=st.integers(0, 2))
    def save_whole(self, kind: str, outcome: str, duration: int, way: int) -> None:
        self.whole.append(self.entry(kind, outcome, duration))
        fields = self.agent.state.model_dump(mode="json") | {"task_history": self.whole}
        if way == 0:
            self.agent.update(task_history=self.whole)
        elif way == 1:
            self.manager.save(fields | {"task_totals": None})
        else:
            self.manager.save({n: v for n, v in fields.items() if n != "task_totals"})

    @precondition(lambda self: len(self.sessions) < 4)
    @rule()
    def resume(self) -> None:
        self.agent = self.manager.resume("Developer", self.name)
        self.sessions.append(self.agent.identity.session_id)
        self.whole = list(self.agent.state.task_history)

    @precondition(lambda self: self.sessions)
    @rule()
    def take_up(self) -> None:
        self.agent = self.manager.take_up(*self.agent.identity)

    @invariant()
    def each_counts_once(self) -> None:
        if not hasattr(self, "agent"):
            return
        history = self.agent.state.task_history
        still_open = [entry for entry in history if entry["status"] == "in_progress"]
        assert len(history) <= max(SHORT, len(still_open) + 1)
        states = [self.manager.load("Developer", self.name, each).value for each in self.sessions]
        assert counted(each for each in states if each is not None) == self.ended

    def teardown(self) -> None:
        self.patch.undo()


@pytest.fixture
def manager() -> Iterator[StateManager]:
    with StateManager.in_memory() as manager:
        yield manager


def test_in_any_story_each_task_counts_once(manager: StateManager) -> None:
    MANAGERS[:] = [manager]
    run_state_machine_as_test(
        Story, settings=settings(max_examples=40, stateful_step_count=25, deadline=None)
    )


def test_a_history_longer_than_is_kept_counts_as_whole(manager: StateManager) -> None:
    agent = manager.start("Developer", "a")
    for number in range(MAX_HISTORY + 5):
        agent.begin_task(f"t{number}", "code", tool="editor")
        agent.end_task(f"t{number}", "failed" if number % 5 == 0 else "completed", duration_ms=2)
    state = agent.state
    assert [state.task_history[at]["task_id"] for at in (0, -1)] == ["t5", "t204"]
    counts = contribution_of(to_document(state))
    assert counts["tasks"] == {"completed": 164, "failed": 41, "cancelled": 0}
    assert counts["tools"]["editor"]["duration_ms"] == 410
    second = manager.resume("Developer", "a")
    second.end_task("own", kind="code")
    assert len(second.state.task_history) == MAX_HISTORY
    assert contribution_of(to_document(second.state))["tasks"]["completed"] == 1


def test_a_growing_list_is_saved_whole_and_kept_short(manager: StateManager) -> None:
    fields = state_message(1)["state"]
    for length in (150, 199, 200, 201, 202, 250, 251):
        history = [task(number) for number in range(length)]
        state = manager.save(fields | {"task_history": history}).state
        assert len(state.task_history) == min(length, MAX_HISTORY)
        assert contribution_of(to_document(state))["tasks"]["completed"] == length


def test_totals_that_an_agent_gives_are_its_own(manager: StateManager) -> None:
    agent = manager.start("Developer", "a")
    some, others = {"tries": 7, "successes": 4}, {"tries": 1, "successes": 1}
    given = {"kinds": {"code": some, "review": others}}
    agent.update(task_totals=given, task_history=[task(1)])
    assert contribution_of(to_document(agent.state))["tasks"]["completed"] == 5
    agent.end_task("t2", kind="code")
    assert contribution_of(to_document(agent.state))["tasks"]["completed"] == 6
    longer = [*agent.state.task_history, task(3)]
    manager.save(agent.state.model_copy(update={"task_history": longer}))
    assert contribution_of(to_document(agent.state))["tasks"]["completed"] == 7


NOTHING = Former([], None)


def parts(history: list[Any]) -> list[Part]:
    return [Part.of(entry) for entry in history]


def totals_of(history: list[Any], totals: Any, former: Former = NOTHING) -> Any:
    return trimmed(parts(history), totals, former, "s1", most_bytes=10**9, given=True).totals


def test_totals_never_grow_past_what_is_accepted() -> None:
    long = [task(number, duration_seconds=10**9) for number in range(MAX_HISTORY + 1)]
    first = totals_of(long, None)
    assert first["kinds"]["code"]["duration_ms"] == MAX_COUNT
    many = [task(number, kind=f"k{number}") for number in range(MAX_NAMES + 9)]
    totals = totals_of(many, None)
    assert len(totals["kinds"]) == MAX_NAMES
    assert sum(each["tries"] for each in totals["kinds"].values()) == MAX_NAMES + 9
    for each in (first, totals):
        changed = {"task_totals": each}
        assert checked_state(state_message(1)["state"] | changed).task_totals is not None


entries = st.one_of(
    st.builds(task, st.integers(0, 3), st.sampled_from([*ENDED, "in_progress"])),
    st.builds(task, st.integers(0, 3), session_id=st.just("s0")),
    st.dictionaries(st.sampled_from(["status", "x"]), st.sampled_from(["failed", 1])),
)


@given(st.lists(entries, max_size=6), st.lists(entries, max_size=6))
def test_what_is_appended_is_added_to_totals(before: list[Any], more: list[Any]) -> None:
    def of(history: list[Any], totals: Any) -> Counter[tuple[str, str]]:
        changed = {"task_history": history, "task_totals": totals}
        return counted(
            [EncodedState.of(checked_state(state_message(1)["state"] | changed)).state()]
        )

    empty: dict[str, Any] = {"kinds": {}, "tools": {}}
    first = totals_of(before, empty, Former([], empty))
    assert of([], first) == of(before, None)
    longer = [*before, *more]
    second = totals_of(longer, first, Former(parts(before), first))
    assert of([], second) == of(longer, None)
