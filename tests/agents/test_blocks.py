"""`with agent.task(...)` and `with agent.handoff(...)`: recording never defeats the work."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import warnings
from itertools import count, permutations
from typing import TYPE_CHECKING, Any

import pytest

from firestate import StateManager
from firestate.counters.contribution import contribution_of
from firestate.errors import (
    EmergencyStopError,
    FencedError,
    FieldProblem,
    FirestateError,
    InvalidMessageError,
    OutboxError,
    TerminatedError,
    UnknownSessionError,
)
from firestate.schema.serialization import to_document
from tests.agents.environments import value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from firestate.agents.agent import Agent
    from firestate.agents.blocks import HandoffBlock, TaskBlock

CUT = " ... (cut)"
MOST = 4_000
NUMBERS = count()


class WordlessError(Exception):
    """One whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Unprintable:
    """What has neither a JSON form nor a repr."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class GreenletExit(BaseException):
    """A cancellation that is known by its name."""


@pytest.fixture(scope="module")
def shared_manager() -> Iterator[StateManager]:
    with StateManager.in_memory(snapshot_interval_seconds=0.0) as manager:
        yield manager


@pytest.fixture
def manager(request: pytest.FixtureRequest, shared_manager: StateManager) -> Iterator[StateManager]:
    """Yield one for all tests, but for those that close it."""
    if "closed" in request.node.name:
        with StateManager.in_memory(snapshot_interval_seconds=0.0) as manager:
            yield manager
    else:
        yield shared_manager


@pytest.fixture
def agent(manager: StateManager) -> Agent:
    return manager.start("Developer", f"d{next(NUMBERS)}", "s1")


def last_task(agent: Agent) -> Any:
    return agent.state.task_history[-1]


def events_of(manager: StateManager, agent: Agent) -> list[Any]:
    found: list[Any] = value(manager.events(agent_id=agent.identity.agent_id))
    return found


def only_event(manager: StateManager, agent: Agent) -> Any:
    (found,) = events_of(manager, agent)
    return found


def task_that_raises(agent: Agent, error: BaseException, **notes: Any) -> None:
    with agent.task("t1", "code") as own:
        own.update(notes)
        raise error


def handoff_that_raises(agent: Agent, error: BaseException, **notes: Any) -> None:
    with agent.handoff(("QA", "q")) as handoff:
        handoff.context.update(notes)
        handoff.task_context.update(notes)
        raise error


def raised_by(call: Callable[..., object], *args: Any, **kwargs: Any) -> BaseException | None:
    """Return what leaves a call, whatever its kind."""
    try:
        call(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is looked at
        return error
    return None


# ---------------------------------------------------------------- what is recorded

_ERRORS: list[tuple[BaseException, str]] = [
    (Exception("plain"), "failed"),
    (KeyError("no such key"), "failed"),
    (OSError(2, "no such file"), "failed"),
    (MemoryError(), "failed"),
    (StopIteration(3), "failed"),
    (TimeoutError(), "failed"),
    (SystemExit(1), "failed"),
    (SystemExit("a reason"), "failed"),
    (FencedError("agents/x"), "failed"),
    (InvalidMessageError("schema", [FieldProblem("a", "b")]), "failed"),
    (ExceptionGroup("both", [ValueError(), asyncio.InvalidStateError()]), "failed"),
    (BaseExceptionGroup("one of them", [asyncio.CancelledError(), ValueError()]), "failed"),
    (KeyboardInterrupt(), "cancelled"),
    (asyncio.CancelledError(), "cancelled"),
    (concurrent.futures.CancelledError(), "cancelled"),
    (GeneratorExit(), "cancelled"),
    (GreenletExit(), "cancelled"),
    (SystemExit(), "cancelled"),
    (SystemExit(0), "cancelled"),
    (EmergencyStopError("fire"), "cancelled"),
    (BaseExceptionGroup("all", [asyncio.CancelledError(), KeyboardInterrupt()]), "cancelled"),
]


@pytest.mark.parametrize(("error", "status"), _ERRORS, ids=[repr(each) for each, _ in _ERRORS])
def test_a_task_ends_as_its_block_did_and_the_exception_goes_on(
    agent: Agent, error: BaseException, status: str
) -> None:
    assert raised_by(task_that_raises, agent, error, lines=3) is error
    entry = last_task(agent)
    assert (entry["status"], entry["lines"]) == (status, 3)
    assert entry["error_type"] == type(error).__name__
    assert entry["error"].startswith(type(error).__name__)
    assert not getattr(error, "__notes__", [])
    state = agent.state
    assert (state.status, state.task_status, state.current_task) == ("active", status, "t1")


@pytest.mark.parametrize(("error", "status"), _ERRORS, ids=[repr(each) for each, _ in _ERRORS])
def test_a_hand_over_ends_as_its_block_did_and_the_exception_goes_on(
    manager: StateManager, agent: Agent, error: BaseException, status: str
) -> None:
    assert raised_by(handoff_that_raises, agent, error, lines=3) is error
    event = only_event(manager, agent)
    assert (event.success, event.cancelled) == (False, status == "cancelled")
    assert event.context == {"error_type": type(error).__name__, "lines": 3}
    assert event.task_context == {"lines": 3}
    assert event.error_message.startswith(type(error).__name__)
    assert not getattr(error, "__notes__", [])


def test_a_block_that_goes_well_is_recorded_so(manager: StateManager, agent: Agent) -> None:
    with agent.task("t1", "code", tool="editor") as notes, agent.handoff(("QA", "q")) as handoff:
        notes["lines"] = 3
        handoff.context["why"] = "tests"
    entry, event = last_task(agent), only_event(manager, agent)
    assert (entry["status"], entry["lines"], entry["tool"]) == ("completed", 3, "editor")
    assert "error" not in entry
    assert (event.success, event.cancelled, event.error_message) == (True, False, None)
    assert event.context == {"why": "tests"}
    assert entry["duration_seconds"] >= event.duration_seconds >= 0


@pytest.mark.parametrize("ends", ["close", "del"])
def test_a_generator_whose_reader_leaves_has_cancelled_its_task(
    manager: StateManager, agent: Agent, ends: str
) -> None:
    def work() -> Iterator[int]:
        with agent.task("t1", "code"), agent.handoff(("QA", "q")):
            yield 1
            yield 2

    running: Any = work()
    assert next(running) == 1
    if ends == "close":
        running.close()
    else:
        del running
        gc.collect()
    assert (last_task(agent)["status"], last_task(agent)["error_type"]) == (
        "cancelled",
        "GeneratorExit",
    )
    assert only_event(manager, agent).cancelled


# ---------------------------------------------------------------- what cannot be recorded

_TROUBLES: dict[str, tuple[Callable[[StateManager, Agent], object], type[FirestateError]]] = {
    "fenced": (lambda _, agent: agent.fence(), FencedError),
    "closed": (lambda manager, _: manager.close(), OutboxError),
    "deleted": (lambda _, agent: agent.delete(), UnknownSessionError),
}
_EVENT_TROUBLES = {"closed": _TROUBLES["closed"]}
"""An event may be recorded by whoever has lost the session: it has happened."""
_SOME = [ValueError("own"), KeyboardInterrupt(), asyncio.CancelledError(), SystemExit(1)]


_BLOCKS: dict[str, Callable[[Agent], TaskBlock | HandoffBlock]] = {
    "task('t1', 'code')": lambda agent: agent.task("t1", "code"),
    "handoff(('QA', 'q'))": lambda agent: agent.handoff(("QA", "q")),
}
_OF_BLOCKS = [
    *(("task('t1', 'code')", name) for name in _TROUBLES),
    *(("handoff(('QA', 'q'))", name) for name in _EVENT_TROUBLES),
]


@pytest.mark.parametrize("error", _SOME, ids=repr)
@pytest.mark.parametrize("case", _OF_BLOCKS, ids=": ".join)
def test_the_user_s_exception_leaves_a_block_whose_end_cannot_be_recorded(
    manager: StateManager,
    agent: Agent,
    case: tuple[str, str],
    error: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    block_name, trouble = case
    make, _ = _TROUBLES[trouble]
    error = type(error)(*error.args)

    def block() -> None:
        with _BLOCKS[block_name](agent):
            make(manager, agent)
            raise error

    assert raised_by(block) is error
    (note,) = error.__notes__
    assert note.startswith(f"Firestate could not record the end of {block_name}: ")
    logged = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert len(logged) == 1
    assert f"the end of {block_name} could not be recorded" in logged[0]


@pytest.mark.parametrize("name", _TROUBLES)
def test_of_a_task_that_went_well_the_trouble_is_raised(
    manager: StateManager, agent: Agent, name: str
) -> None:
    make, kind = _TROUBLES[name]
    done = []

    def block() -> None:
        with agent.task("t1", "code"):
            make(manager, agent)
            done.append(1)

    with pytest.raises(kind):
        block()
    assert done == [1]


@pytest.mark.parametrize("name", _EVENT_TROUBLES)
def test_of_a_hand_over_that_went_well_the_trouble_is_raised(
    manager: StateManager, agent: Agent, name: str
) -> None:
    make, kind = _EVENT_TROUBLES[name]
    with pytest.raises(kind), agent.handoff(("QA", "q")):
        make(manager, agent)


def test_a_hand_over_to_nobody_says_so_where_the_block_went_well(agent: Agent) -> None:
    target: Any = ("QA",)
    with pytest.raises(InvalidMessageError, match="target"), agent.handoff(target):
        pass
    error = ValueError("own")
    with pytest.raises(ValueError, match="own") as raised, agent.handoff(target):
        raise error
    assert raised.value is error
    assert len(error.__notes__) == 1


# ---------------------------------------------------------------- what is cut


def _nested(levels: int) -> Any:
    made: Any = 1
    for _ in range(levels):
        made = {"n": made}
    return made


def _circular() -> Any:
    made: list[Any] = []
    made.append(made)
    return made


_ODD: dict[str, Callable[[], Any]] = {
    "an object": object,
    "a function": lambda: len,
    "without a repr": Unprintable,
    "NaN": lambda: float("nan"),
    "infinity": lambda: [float("-inf")],
    "nested": lambda: _nested(30),
    "nested too deep for any stack": lambda: _nested(5_000),
    "circular": _circular,
    "a reserved key": lambda: {"__x__": 1},
    "a reserved key further in": lambda: [{"a": {"__x__": 1}}],
    "an empty key": lambda: {"": 1},
    "a key too long": lambda: {"k" * 2_000: 1},
    "a list in a list": lambda: [[1]],
    "a number too long": lambda: 2**70,
    "half a character": lambda: "\ud800",
    "bytes": lambda: b"\xff\xfe",
    "1 MB of text": lambda: "x" * 1_000_000,
    "1 MB of emoji": lambda: "😀" * 250_000,
    "100,001 values": lambda: [1] * 100_001,
    "an error": lambda: ValueError("x"),
    "an odd error": WordlessError,
}


@pytest.mark.parametrize("name", _ODD)
def test_notes_that_cannot_be_kept_whole_never_defeat_a_task(agent: Agent, name: str) -> None:
    with agent.task("t1", "code") as notes:
        notes |= {"odd": _ODD[name](), "lines": 3}
    entry = last_task(agent)
    assert entry["status"] == "completed"
    assert str(entry["lines"]) == "3", "where others are cut, a number is kept as its text"
    assert len(str(entry.get("odd", "")).encode("utf-8", "replace")) <= 5_000
    error = KeyError("own")
    assert raised_by(task_that_raises, agent, error, odd=_ODD[name]()) is error
    assert last_task(agent)["status"] == "failed"
    assert last_task(agent)["error"] == "KeyError: 'own'"
    assert not getattr(error, "__notes__", []), "it was recorded, in short"


@pytest.mark.parametrize("name", _ODD)
def test_details_that_cannot_be_kept_whole_do_not_keep_a_task_from_running(
    agent: Agent, name: str
) -> None:
    ran = []
    with agent.task("t1", "code", tool="editor", odd=_ODD[name]()):
        ran.append(1)
        assert last_task(agent)["status"] == "in_progress"
    assert ran == [1]
    entry = last_task(agent)
    assert (entry["task_id"], entry["kind"], entry["status"]) == ("t1", "code", "completed")
    assert entry["tool"] == "editor"
    kinds = contribution_of(to_document(agent.state))["kinds"]
    assert (kinds["code"]["tries"], kinds["code"]["successes"]) == (1, 1)


def test_what_a_task_counts_by_stays_where_other_details_are_cut(agent: Agent) -> None:
    with agent.task("t1", "code", tools=["a", "b"], duration_ms=7, odd=float("nan")):
        pass
    assert (last_task(agent)["tools"], last_task(agent)["duration_ms"]) == (["a", "b"], 7)
    assert contribution_of(to_document(agent.state))["tools"].keys() == {"a", "b"}


@pytest.mark.parametrize("name", _ODD)
def test_contexts_that_cannot_be_kept_whole_never_defeat_a_hand_over(
    manager: StateManager, agent: Agent, name: str
) -> None:
    with agent.handoff(("QA", "q"), task_context={"odd": _ODD[name]()}) as handoff:
        handoff.context |= {"odd": _ODD[name](), "lines": "three"}
    event = only_event(manager, agent)
    assert event.success
    assert event.context["lines"] == "three"
    error = KeyError("own")
    assert raised_by(handoff_that_raises, agent, error, odd=_ODD[name]()) is error
    assert not getattr(error, "__notes__", []), "it was recorded, in short"
    failed = [each for each in events_of(manager, agent) if not each.success]
    assert [each.error_message for each in failed] == ["KeyError: 'own'"]
    assert failed[0].context["error_type"] == "KeyError"


@pytest.mark.parametrize(
    "key",
    [
        Unprintable(),
        "__x__",
        "",
        "k" * 2_000,
        7,
        None,
        "\ud800",
    ],
    ids=["odd", "reserved", "empty", "long", "number", "none", "half"],
)
def test_keys_that_cannot_be_kept_never_defeat_the_work(
    manager: StateManager, agent: Agent, key: Any
) -> None:

    def block() -> None:
        with agent.task("t1", "code") as notes, agent.handoff(("QA", "q")) as handoff:
            notes[key] = handoff.context[key] = 1
            notes["lines"] = 3

    assert type(raised_by(block)).__name__ == "NoneType"
    assert (last_task(agent)["status"], str(last_task(agent)["lines"])) == ("completed", "3")
    assert only_event(manager, agent).success


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x" * 1_000_000),
        ValueError("😀" * 250_000),
        ValueError("x" + "€" * 100_000),
        OSError(5, "\udc80" * 9_000),
        KeyError("y" * 5_000),
        KeyboardInterrupt("z" * 5_000),
    ],
    ids=lambda error: f"{type(error).__name__} of {len(str(error))}",
)
def test_an_error_s_text_is_cut_and_says_so(
    manager: StateManager, agent: Agent, error: BaseException
) -> None:
    assert raised_by(task_that_raises, agent, error) is error
    assert raised_by(handoff_that_raises, agent, error) is error
    for text in (last_task(agent)["error"], only_event(manager, agent).error_message):
        assert MOST - 10 <= len(text.encode()) <= MOST
        assert text.startswith(f"{type(error).__name__}: ")
        assert text.endswith(CUT)


@pytest.mark.parametrize("length", [MOST - len("ValueError: "), 10])
def test_an_error_s_text_that_is_short_enough_is_kept_whole(agent: Agent, length: int) -> None:
    error = ValueError("x" * length)
    assert raised_by(task_that_raises, agent, error) is error
    assert last_task(agent)["error"] == f"ValueError: {'x' * length}"


def test_an_error_whose_text_cannot_be_had_is_recorded_by_its_type(
    manager: StateManager, agent: Agent
) -> None:
    error = WordlessError()
    assert raised_by(task_that_raises, agent, error) is error
    assert raised_by(handoff_that_raises, agent, error) is error
    for text in (last_task(agent)["error"], only_event(manager, agent).error_message):
        assert text == "WordlessError (its text cannot be had)"


def test_an_error_with_a_long_name_is_recorded(manager: StateManager, agent: Agent) -> None:
    error = type("E" * 3_000, (Exception,), {})("own")
    assert raised_by(task_that_raises, agent, error) is error
    assert raised_by(handoff_that_raises, agent, error) is error
    assert last_task(agent)["status"] == "failed"
    assert not only_event(manager, agent).success
    assert not getattr(error, "__notes__", [])


# ---------------------------------------------------------------- tasks within tasks


@pytest.mark.parametrize("order", list(permutations(["t1", "t2", "t3"])), ids=" ".join)
def test_whichever_task_ends_the_newest_that_runs_is_the_current_one(
    agent: Agent, order: tuple[str, ...]
) -> None:
    running = ["t1", "t2", "t3"]
    for each in running:
        agent.begin_task(each, "code")
    for each in order:
        agent.end_task(each, "failed")
        running.remove(each)
        state = agent.state
        found = (state.status, state.current_task, state.task_status)
        assert found == (
            ("busy", running[-1], "in_progress") if running else ("active", order[-1], "failed")
        )
    assert [entry["status"] for entry in agent.state.task_history] == ["failed"] * 3


def test_the_outer_task_is_current_again_when_the_inner_one_ends(agent: Agent) -> None:
    with agent.task("outer", "plan"):
        for number in range(3):
            assert raised_by(task_that_raises, agent, ValueError()) is not None
            with agent.task(f"inner-{number}", "code"):
                assert agent.state.current_task == f"inner-{number}"
            state = agent.state
            assert (state.status, state.current_task, state.task_status) == (
                "busy",
                "outer",
                "in_progress",
            )
    state = agent.state
    assert (state.status, state.current_task, state.task_status) == ("active", "outer", "completed")


def test_of_two_tasks_with_one_id_the_inner_one_ends_first(agent: Agent) -> None:
    with agent.task("t", "outer"):
        with agent.task("t", "inner"):
            pass
        assert [(e["kind"], e["status"]) for e in agent.state.task_history] == [
            ("outer", "in_progress"),
            ("inner", "completed"),
        ]
        assert (agent.state.status, agent.state.current_task) == ("busy", "t")
    assert [e["status"] for e in agent.state.task_history] == ["completed", "completed"]
    assert agent.state.status == "active"


# ---------------------------------------------------------------- who has ended


def test_an_agent_that_has_ended_begins_no_task_and_nothing_is_kept(
    manager: StateManager, agent: Agent
) -> None:
    agent.terminate()
    before, order = agent.state, agent._memory.order
    ran = []
    with pytest.raises(TerminatedError):
        agent.begin_task("t1", "code")
    with pytest.raises(TerminatedError), agent.task("t1", "code"):
        ran.append(1)
    decorated = agent.task("t1", "code")(lambda: ran.append(1))
    with pytest.raises(TerminatedError):
        decorated()
    assert ran == []
    assert (agent.state, agent._memory.order) == (before, order)
    with manager.take_up(*agent.identity).task("t1", "code"):
        ran.append(1)
    assert ran == [1]


def test_a_task_that_runs_when_its_agent_ends_is_recorded_and_the_agent_stays_ended(
    agent: Agent,
) -> None:
    with agent.task("t1", "code"):
        agent.terminate()
    assert last_task(agent)["status"] == "completed"
    assert agent.state.status == "terminated"


# ---------------------------------------------------------------- how they are used


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda agent: agent.task("t1", "code"), r"task\('t1', 'code'\) was not begun"),
        (lambda agent: agent.handoff(("QA", "q")), r"handoff\(\('QA', 'q'\)\) was not begun"),
        (lambda agent: agent.task("t" * 999, "code"), r"task\('ttt[^)]{0,90}\) was not begun"),
    ],
)
def test_a_block_without_with_warns_and_nothing_is_recorded(
    manager: StateManager, agent: Agent, make: Callable[[Agent], object], what: str
) -> None:
    order = agent._memory.order
    with pytest.warns(RuntimeWarning, match=what):
        make(agent)
    assert agent._memory.order == order
    assert events_of(manager, agent) == []


def test_a_block_that_is_entered_does_not_warn(agent: Agent) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with agent.task("t1", "code"), agent.handoff(("QA", "q")):
            pass
        raised_by(task_that_raises, agent, ValueError())
        raised_by(handoff_that_raises, agent, ValueError())

        @agent.task("t2", "code")
        @agent.handoff(("QA", "q"))
        def work() -> None: ...

        work()
        del work
        gc.collect()
    assert [str(each.message) for each in caught] == []


def test_as_decorators_they_begin_anew_for_each_call(manager: StateManager, agent: Agent) -> None:
    @agent.task("t1", "code", tool="editor")
    @agent.handoff(("QA", "q"), context={"why": "tests"})
    def work(number: int) -> int:
        """Work."""
        if number < 0:
            raise ValueError(number)
        return work(number - 1) + 1 if number else 0

    assert work.__doc__ == "Work."
    assert (work(0), work(2)) == (0, 2)
    assert isinstance(raised_by(work, -1), ValueError)
    history = agent.state.task_history
    assert [e["status"] for e in history] == ["completed"] * 4 + ["failed"]
    assert {e["tool"] for e in history} == {"editor"}
    events = events_of(manager, agent)
    assert sorted(each.success for each in events) == [False] + [True] * 4
    assert all(each.context["why"] == "tests" for each in events)
    assert ["error_type" in each.context for each in events].count(True) == 1


def test_what_one_hand_over_was_given_stays_as_it_was(manager: StateManager, agent: Agent) -> None:
    given = {"why": "tests"}
    with agent.handoff(("QA", "q"), context=given, task_context=given) as handoff:
        handoff.context["more"] = 1
        handoff.task_context.clear()
    assert given == {"why": "tests"}
    assert only_event(manager, agent).context == {"why": "tests", "more": 1}
    assert only_event(manager, agent).task_context == {}
