"""Changes of a snapshot in the outbox: what is kept, what goes out, what an old client sees."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from copy import deepcopy
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firestate.errors import OutboxFullError
from firestate.outbox.changes import apply_changes
from firestate.outbox.entries import NewEntry
from firestate.outbox.file import Outbox
from firestate.outbox.status import read_status
from tests.agents.outbox_fixtures import EVENTS, PLENTY, STATES, event
from tests.harness import Crash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Order = tuple[int, int]

# The statements of release 0.1, as it runs them beside this one.
OLD_WAITING = """
SELECT seq, document, 1, agent, topic, length(data) FROM snapshots WHERE sent_at IS NULL
UNION ALL SELECT seq, document, 0, agent, topic, length(data) FROM events WHERE sent_at IS NULL
ORDER BY 1 LIMIT 1000
"""
OLD_DATA = "SELECT data FROM snapshots WHERE document = ? AND seq = ?"
OLD_CONFIRM = "UPDATE snapshots SET sent_at = ? WHERE document = ? AND seq = ?"
OLD_PUT = """
INSERT INTO snapshots VALUES (?, ?, ?, ?, NULL, ?, ?, ?) ON CONFLICT (document) DO UPDATE
SET epoch = excluded.epoch, revision = excluded.revision, seq = excluded.seq, sent_at = NULL,
    topic = excluded.topic, data = excluded.data
WHERE (epoch, revision) < (excluded.epoch, excluded.revision)
"""
EMPTY: dict[str, Any] = {"status": "active", "memory_context": {}, "task_history": []}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture(params=["file", "memory"])
def opened(request: pytest.FixtureRequest, path: Path) -> Iterator[Callable[..., Outbox]]:
    made: list[Outbox] = []

    def make(most_bytes: int = PLENTY) -> Outbox:
        made.append(Outbox(path if request.param == "file" else None, most_bytes=most_bytes))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def outbox(opened: Callable[..., Outbox]) -> Outbox:
    return opened()


def _entry(agent: str, order: Order, data: object, *, is_change: bool) -> NewEntry:
    return NewEntry(
        document=f"agent_states/{agent}",
        agent=agent,
        topic=STATES,
        data=json.dumps(data).encode(),
        order=order,
        is_change=is_change,
    )


def whole(agent: str, order: Order, state: dict[str, Any] | None = None) -> NewEntry:
    data = {"epoch": order[0], "revision": order[1], "state": EMPTY if state is None else state}
    return _entry(agent, order, data, is_change=False)


def change(agent: str, order: Order, **parts: Any) -> NewEntry:
    return _entry(agent, order, parts, is_change=True)


def noted(agent: str, order: Order, key: str = "k", *, size: int = 0) -> NewEntry:
    return change(agent, order, memory={key: [f"{order[1]}{'x' * size}"]})


def tombstone(agent: str, order: Order) -> NewEntry:
    return _entry(agent, order, {"revision": order[1], "deleted": "now"}, is_change=False)


def kept(outbox: Outbox, agent: str) -> tuple[Order, Any] | None:
    """Return the newest that is there of an agent: its order and its message."""
    found = outbox.state(f"agent_states/{agent}")
    if found is None:
        return None
    message = None if found.message is None else json.loads(found.message)
    return (found.epoch, found.revision), message


def all_of(outbox: Outbox) -> Any:
    """Return all that an outbox tells, so that two moments can be compared."""
    waiting = outbox.waiting(1_000)
    heads = {each.document: outbox.state(each.document) for each in waiting}
    return waiting, heads, outbox.newest(snapshots=True), outbox.newest(snapshots=False)


def sent(outbox: Outbox) -> list[Any]:
    """Send all that waits; give the messages."""
    waiting = outbox.waiting(1_000)
    data = outbox.data(waiting)
    there = [each for each in waiting if each in data]
    outbox.confirm(there)
    return [json.loads(data[each]) for each in there]


def fill(outbox: Outbox, entries: Iterator[NewEntry]) -> int:
    """Put until it is full; give how many were kept."""
    for number, each in enumerate(entries):
        try:
            assert outbox.put(each)
        except OutboxFullError:
            return number
    raise AssertionError


def forget_sent(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("firestate.outbox.file._KEPT_SENT_SECONDS", -1)
        outbox.tidy()


# ---------------------------------------------------------------- what follows

_SNAPSHOT = [whole("a", (2, 5))]
_CHANGED = [*_SNAPSHOT, noted("a", (2, 6))]
_BURIED = [*_CHANGED, tombstone("a", (2, 7))]
_TABLE: list[tuple[str, list[NewEntry], str, Order, bool]] = [
    ("nothing is there", [], "", (2, 6), False),
    ("it follows a snapshot", _SNAPSHOT, "", (2, 6), True),
    ("it is equal to a snapshot", _SNAPSHOT, "", (2, 5), False),
    ("it is before a snapshot", _SNAPSHOT, "", (2, 4), False),
    ("one is left out after a snapshot", _SNAPSHOT, "", (2, 7), False),
    ("it follows in a lower epoch", _SNAPSHOT, "", (1, 6), False),
    ("it follows in a higher epoch", _SNAPSHOT, "", (3, 6), False),
    ("it is the first of a higher epoch", _SNAPSHOT, "", (3, 1), False),
    ("it follows a change", _CHANGED, "", (2, 7), True),
    ("it is equal to a change", _CHANGED, "", (2, 6), False),
    ("it is before a change", _CHANGED, "", (2, 5), False),
    ("one is left out after a change", _CHANGED, "", (2, 8), False),
    ("it follows a change in a lower epoch", _CHANGED, "", (1, 7), False),
    ("it follows a change in a higher epoch", _CHANGED, "", (3, 7), False),
    ("it follows what was folded", _CHANGED, "fold", (2, 7), True),
    ("it is equal to what was folded", _CHANGED, "fold", (2, 6), False),
    ("it follows what was sent", _CHANGED, "send", (2, 7), True),
    ("one is left out after what was sent", _CHANGED, "send", (2, 8), False),
    ("it would lie over forgotten bytes", _CHANGED, "send forget", (2, 7), False),
    ("the tombstone has its place", _BURIED, "", (2, 7), False),
    ("the tombstone of another is there", [*_CHANGED, tombstone("a", (3, 1))], "", (2, 7), False),
    ("another has begun", [*_CHANGED, whole("a", (3, 1))], "", (2, 7), False),
    ("it follows another that has begun", [*_CHANGED, whole("a", (3, 1))], "", (3, 2), True),
    ("it is of another session", [*_CHANGED, whole("b", (2, 6))], "", (2, 7), True),
]


def _after(outbox: Outbox, before: list[NewEntry], done: str, patch: pytest.MonkeyPatch) -> None:
    for each in before:
        assert outbox.put(each)
    if "fold" in done:
        outbox.fold(-1)
    if "send" in done:
        sent(outbox)
    if "forget" in done:
        forget_sent(outbox, patch)


@pytest.mark.parametrize(
    ("before", "done", "order", "is_kept"),
    [row[1:] for row in _TABLE],
    ids=[row[0] for row in _TABLE],
)
def test_a_change_must_follow_the_very_one_before(
    outbox: Outbox,
    before: list[NewEntry],
    done: str,
    order: Order,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_kept: bool,
) -> None:
    _after(outbox, before, done, monkeypatch)
    there = all_of(outbox), kept(outbox, "a")
    assert outbox.put(noted("a", order, "new")) is is_kept
    if is_kept:
        found = kept(outbox, "a")
        assert found is not None
        assert found[0] == order
        assert found[1]["state"]["memory_context"]["new"] == str(order[1])
    else:
        assert (all_of(outbox), kept(outbox, "a")) == there


def test_a_change_over_a_tombstone_changes_nothing(outbox: Outbox) -> None:
    """No agent puts one; it would not keep the tombstone from going out."""
    assert outbox.put(whole("a", (2, 5)))
    assert outbox.put(tombstone("a", (2, 6)))
    outbox.put(noted("a", (2, 7)))
    (message,) = sent(outbox)
    assert "deleted" in message


def test_a_snapshot_replaces_the_changes_before_it_and_none_after(outbox: Outbox) -> None:
    for each in (whole("a", (1, 1)), noted("a", (1, 2)), noted("a", (1, 3))):
        assert outbox.put(each)
    for order in ((1, 2), (1, 3), (0, 9)):
        assert not outbox.put(whole("a", order)), "what is later is there"
    assert outbox.put(whole("a", (1, 4)))
    assert outbox._connections.rows("SELECT count(*) FROM changes") == [(0,)]
    assert sent(outbox) == [{"epoch": 1, "revision": 4, "state": EMPTY}]


def test_what_was_replaced_since_it_was_listed_is_left_out(outbox: Outbox) -> None:
    assert outbox.put(whole("a", (1, 1)))
    listed = outbox.waiting(9)
    assert outbox.put(whole("a", (1, 2)))
    assert outbox.data(listed) == {}
    outbox.confirm(listed)
    assert [each["revision"] for each in sent(outbox)] == [2]


def test_what_is_put_while_a_session_is_folded_is_not_lost(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert outbox.put(whole("a", (1, 1)), noted("a", (1, 2)))
    real, calls = apply_changes, count()

    def slow(*args: Any) -> bytes:
        if next(calls) == 0:
            assert outbox.put(whole("a", (1, 3)))  # as another process does
        return real(*args)

    monkeypatch.setattr("firestate.outbox.file.apply_changes", slow)
    outbox.fold(-1)
    assert [each["revision"] for each in sent(outbox)] == [3]


def test_a_sent_snapshot_is_not_forgotten_while_a_change_of_it_waits(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert outbox.put(whole("a", (1, 1)))
    sent(outbox)
    assert outbox.put(noted("a", (1, 2)))
    forget_sent(outbox, monkeypatch)
    (message,) = sent(outbox)
    assert message["state"]["memory_context"] == {"k": "2"}


# ---------------------------------------------------------------- all or none

_GOOD = [
    event("e", 1),
    noted("a", (1, 3)),
    whole("b", (1, 1)),
    whole("c", (2, 1)),
    noted("a", (1, 4)),
    event("e", 2),
    noted("b", (1, 2)),
]
_BAD = {
    "a snapshot that is not later": whole("d", (1, 1)),
    "a change that leaves one out": noted("d", (1, 4)),
    "a change that is there": noted("d", (1, 2)),
    "a change of what is not there": noted("z", (1, 2)),
    "a change in an old epoch": noted("d", (0, 3)),
}


@pytest.mark.parametrize("bad", _BAD.values(), ids=_BAD)
def test_entries_are_all_kept_or_none_whichever_does_not_fit(outbox: Outbox, bad: NewEntry) -> None:
    for agent in "acd":
        assert outbox.put(whole(agent, (1, 1)))
        assert outbox.put(noted(agent, (1, 2)))
    before = all_of(outbox)
    for place in range(len(_GOOD) + 1):
        assert not outbox.put(*_GOOD[:place], bad, *_GOOD[place:])
        assert all_of(outbox) == before
    assert outbox.put(*_GOOD)
    assert [kept(outbox, agent)[0] for agent in "abcd"] == [(1, 4), (1, 2), (2, 1), (1, 2)]  # type: ignore[index]
    assert len(outbox.newest(snapshots=False)) == 2


def test_entries_for_which_there_is_no_room_are_none_kept(opened: Callable[..., Outbox]) -> None:
    outbox = opened(0)
    assert outbox.put(whole("a", (1, 1)))
    before = all_of(outbox)
    large = event("e", 9, size=200_000)
    for entries in ([large, noted("a", (1, 2))], [noted("a", (1, 2)), event("e", 1), large]):
        with pytest.raises(OutboxFullError):
            outbox.put(*entries)
        assert all_of(outbox) == before


# ---------------------------------------------------------------- any story

_KEYS = st.sampled_from(["k1", "k2", "k3"])
_VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.integers(0, 9), st.just([]), st.lists(st.integers(0, 3))
)
_PIECES: st.SearchStrategy[Any] = st.lists(
    st.one_of(st.tuples(st.integers(0, 6), st.integers(0, 4)), st.builds(dict, n=st.integers(0, 9)))
)
_PUTS = st.one_of(
    st.tuples(st.just("memory"), _KEYS, _VALUES),
    st.tuples(st.just("forget"), _KEYS, st.none()),
    st.tuples(st.just("history"), st.none(), _PIECES),
    st.tuples(st.just("status"), st.none(), st.sampled_from(["busy", "active", None])),
    st.tuples(st.just("several"), _KEYS, _VALUES),
)
_STEPS = st.one_of(
    _PUTS,
    st.tuples(
        st.sampled_from(["whole", "epoch", "fold", "send", "lost", "overtaken", "tidy"]),
        st.none(),
        st.none(),
    ),
)
_NUMBERS = count()


class Story:
    """One session: what it is by a plain model, and what the outbox has sent of it."""

    def __init__(self, outbox: Outbox, patch: pytest.MonkeyPatch) -> None:
        self.outbox, self.patch = outbox, patch
        self.agent = f"s{next(_NUMBERS)}"
        self.epoch, self.revision = 1, 0
        self.model: dict[str, Any] = deepcopy(EMPTY)
        self.was: dict[Order, Any] = {}
        self.sent: list[Order] = []
        self.put_whole()

    def put_whole(self) -> None:
        self.revision += 1
        entry = whole(self.agent, (self.epoch, self.revision), self.model)
        assert self.outbox.put(entry)
        self.was[self.epoch, self.revision] = deepcopy(self.model)

    def put_change(self, edit: dict[str, Any]) -> None:
        order = (self.epoch, self.revision + 1)
        if not self.outbox.put(change(self.agent, order, **edit)):
            found = kept(self.outbox, self.agent)
            assert found is None or found[1] is None, "only what is forgotten is followed by none"
            self.put_whole()
            return
        self.revision += 1
        self.was[order] = deepcopy(self.model)

    def step(self, kind: str, key: Any, value: Any) -> None:
        memory = self.model["memory_context"]
        if kind == "memory":
            memory[key] = value
            self.put_change({"memory": {key: [value]}})
        elif kind == "forget":
            memory.pop(key, None)
            self.put_change({"memory": {key: []}})
        elif kind == "several":
            memory[key] = value
            self.model["status"] = "several"
            self.put_change({"set": {"status": "several"}, "memory": {key: [value]}})
        elif kind == "status":
            self.model["status"] = value
            self.put_change({"set": {"status": value}})
        elif kind == "history":
            former, new = self.model["task_history"], list[Any]()
            for piece in value:
                new += [piece] if isinstance(piece, dict) else former[piece[0] : sum(piece)]
            self.model["task_history"] = new
            runs = [p if isinstance(p, dict) else [p[0], sum(p)] for p in value]
            self.put_change({"history": runs})
        else:
            getattr(self, kind)()

    def whole(self) -> None:
        self.model["status"] = "anew"
        self.put_whole()

    def epoch_up(self) -> None:
        self.epoch, self.revision = self.epoch + 1, 0
        self.put_whole()

    def fold(self) -> None:
        self.outbox.fold(-1)

    def send(self, *, is_confirmed: bool = True) -> None:
        waiting = [each for each in self.outbox.waiting(1_000) if each.agent == self.agent]
        assert len(waiting) <= 1
        for each, data in self.outbox.data(waiting).items():
            self.arrive(data)
            if is_confirmed:
                self.outbox.confirm([each])

    def lost(self) -> None:
        self.send(is_confirmed=False)

    def overtaken(self) -> None:
        """Send, and have something put before it is confirmed."""
        waiting = [each for each in self.outbox.waiting(1_000) if each.agent == self.agent]
        data = self.outbox.data(waiting)
        for each in data.values():
            self.arrive(each)
        self.step("memory", "k1", len(self.was))
        self.outbox.confirm(data)
        assert [each for each in self.outbox.waiting(1_000) if each.agent == self.agent]

    def tidy(self) -> None:
        forget_sent(self.outbox, self.patch)

    def arrive(self, data: bytes) -> None:
        message = json.loads(data)
        order = message["epoch"], message["revision"]
        assert message["state"] == self.was[order], "what went out is not what was put"
        assert self.sent[-1:] <= [order], "what was sent goes back"
        self.sent.append(order)

    def check(self) -> None:
        document, order = f"agent_states/{self.agent}", (self.epoch, self.revision)
        assert self.outbox.head(document) == order
        found = kept(self.outbox, self.agent)
        assert found is not None
        assert found[0] == order
        snapshot = self.outbox.snapshot(document)
        assert self.outbox.newest(snapshots=True).get(document) == snapshot
        if found[1] is None:
            assert self.sent[-1] == order, "forgotten before it was sent"
            assert snapshot is None
            return
        assert snapshot is not None
        assert found[1] == json.loads(snapshot)
        assert found[1]["state"] == self.model
        assert found[1]["revision"] == self.revision


@pytest.fixture(scope="module", params=["file", "memory"])
def shared_outbox(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outbox]:
    folder = tmp_path_factory.mktemp("shared")
    path = folder / "outbox.db" if request.param == "file" else None
    made = Outbox(path, most_bytes=PLENTY)
    yield made
    made.close()


def test_any_story_ends_as_a_plain_model_does_and_what_was_sent_never_goes_back(
    shared_outbox: Outbox,
) -> None:
    @settings(max_examples=60)
    @given(st.lists(_STEPS, max_size=15))
    def tell(steps: list[tuple[str, Any, Any]]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            story = Story(shared_outbox, patch)
            for kind, key, value in steps:
                story.step("epoch_up" if kind == "epoch" else kind, key, value)
                story.check()
            story.send()
            assert story.sent[-1] == (story.epoch, story.revision)
            sent(shared_outbox)
            assert shared_outbox.depth().messages == 0

    tell()


# ---------------------------------------------------------------- crashes of a fold


@pytest.mark.parametrize("by", ["data", "fold"])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("then", ["change", "nothing", "whole", "tidy"])
def test_a_crash_in_a_fold_loses_nothing_and_sends_nothing_twice_differently(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, at: int, by: str, then: str, *, after: bool
) -> None:
    # A history that was applied twice would be longer.
    appended = change("a", (1, 3), memory={"k3": ["3"]}, history=[[0, 9], {"n": 3}])
    assert outbox.put(whole("a", (1, 1)), noted("a", (1, 2), "k2"), appended)
    connections: Any = outbox._connections
    real, calls = connections.change, count(1)

    def crashing(*args: Any, **kwargs: Any) -> int:
        number = next(calls)
        if number == at and not after:
            raise Crash
        result: int = real(*args, **kwargs)
        if number == at:
            raise Crash
        return result

    with monkeypatch.context() as patch:
        patch.setattr(connections, "change", crashing)
        with pytest.raises(Crash):
            outbox.fold(-1) if by == "fold" else outbox.data(outbox.waiting(9))
    found = kept(outbox, "a")
    assert found is not None
    assert (found[0], found[1]["state"]["memory_context"]) == ((1, 3), {"k2": "2", "k3": "3"})
    assert [len(outbox.waiting(9)), outbox.depth().messages] == [1, 1]
    if then == "tidy":
        forget_sent(outbox, monkeypatch)
    elif then != "nothing":
        last = whole("a", (1, 4)) if then == "whole" else noted("a", (1, 4), "k4")
        assert outbox.put(last)
    (first,) = sent(outbox)
    expected = {
        "change": {"k2": "2", "k3": "3", "k4": "4"},
        "whole": {},
        "tidy": {"k2": "2", "k3": "3"},
        "nothing": {"k2": "2", "k3": "3"},
    }[then]
    assert first["state"]["memory_context"] == expected
    assert first["state"]["task_history"] == ([] if then == "whole" else [{"n": 3}])
    assert first["revision"] == (4 if then in ("change", "whole") else 3)
    assert sent(outbox) == [], "and only once"
    assert outbox.put(noted("a", (1, first["revision"] + 1), "last"))
    (second,) = sent(outbox)
    assert second["state"]["memory_context"] == expected | {"last": str(second["revision"])}
    rows = connections.rows("SELECT count(*) FROM changes")
    assert rows == [(0,)], "nothing is left over"


# ---------------------------------------------------------------- beside release 0.1


def test_what_nobody_sends_is_folded_once_it_is_old_enough(path: Path) -> None:
    with closing(Outbox(path, most_bytes=PLENTY)) as outbox:
        for each in (whole("a", (1, 1)), noted("a", (1, 2), "k2"), noted("a", (1, 3), "k3")):
            assert outbox.put(each)
        with closing(sqlite3.connect(path, isolation_level=None)) as old:
            outbox.fold(3_600)
            assert old.execute("SELECT count(*) FROM changes").fetchone() == (2,)
            outbox.fold(0)
            assert old.execute("SELECT count(*) FROM changes").fetchone() == (0,)
            ((seq, document, is_snapshot, agent, topic, size),) = old.execute(OLD_WAITING)
            assert (document, is_snapshot, agent, topic) == ("agent_states/a", 1, "a", STATES)
            ((data,),) = old.execute(OLD_DATA, (document, seq))
            message = json.loads(data)
            assert len(data) == size
            assert message["revision"] == 3
            assert message["state"]["memory_context"] == {"k2": "2", "k3": "3"}
            old.execute(OLD_CONFIRM, (1.0, document, seq))
        assert outbox.waiting(9) == []
        assert outbox.put(noted("a", (1, 4), "k4")), "and the new client goes on"
        assert [each["revision"] for each in sent(outbox)] == [4]


def test_what_an_old_sender_confirms_before_a_fold_is_sent_again_with_its_changes(
    path: Path,
) -> None:
    with closing(Outbox(path, most_bytes=PLENTY)) as outbox:
        assert outbox.put(whole("a", (1, 1)))
        assert outbox.put(noted("a", (1, 2)))
        with closing(sqlite3.connect(path, isolation_level=None)) as old:
            ((seq, document, *_),) = old.execute(OLD_WAITING)
            ((data,),) = old.execute(OLD_DATA, (document, seq))
            assert json.loads(data)["revision"] == 1
            old.execute(OLD_CONFIRM, (1.0, document, seq))
            assert old.execute(OLD_WAITING).fetchall() == []
            outbox.fold(0)
            ((_, document, *_),) = old.execute(OLD_WAITING)
        assert [each["revision"] for each in sent(outbox)] == [2]


def test_an_old_client_that_takes_a_session_over_fences_the_new_one(path: Path) -> None:
    with closing(Outbox(path, most_bytes=PLENTY)) as outbox:
        assert outbox.put(whole("a", (1, 1)))
        assert outbox.put(noted("a", (1, 2)))
        taken = whole("a", (2, 1), {**EMPTY, "status": "taken"})
        with closing(sqlite3.connect(path, isolation_level=None)) as old:
            for order, status in ((1, 1), "late"), ((2, 1), "taken"):
                data = whole("a", order, {**EMPTY, "status": status}).data
                values = (taken.document, *order, 10**18, "a", STATES, data)
                old.execute(OLD_PUT, values)
        found = kept(outbox, "a")
        assert found is not None
        assert (found[0], found[1]["state"]["status"]) == ((2, 1), "taken")
        assert not outbox.put(noted("a", (1, 3))), "it is fenced"
        assert not outbox.put(whole("a", (1, 3)))
        assert outbox.head(taken.document) == (2, 1)
        assert [len(outbox.waiting(9)), outbox.depth().messages] == [1, 1]
        assert [each["state"]["status"] for each in sent(outbox)] == ["taken"]
        assert outbox.put(whole("a", (3, 1))), "it takes it up again"
        assert outbox.put(noted("a", (3, 2)))
        assert [each["revision"] for each in sent(outbox)] == [2]


# ---------------------------------------------------------------- what waits


def test_a_session_with_changes_waits_once(outbox: Outbox) -> None:
    for each in (whole("a", (1, 1)), event("e", 1), whole("b", (1, 1))):
        assert outbox.put(each)
    changes = [noted("a", (1, number)) for number in range(2, 6)]
    for each in changes:
        assert outbox.put(each)
    waiting = outbox.waiting(9)
    assert [(each.agent, each.is_snapshot) for each in waiting] == [
        ("e", False),
        ("b", True),
        ("a", True),
    ]
    assert waiting[2].size == sum(len(each.data) for each in [whole("a", (1, 1)), *changes])
    depth = outbox.depth()
    assert (depth.messages, depth.since) == (3, waiting[0].seq / 1e9)
    if outbox.path is not None:
        status = read_status(outbox.path, oldest=9)
        assert status.messages == 3
        assert [(each.topic, each.messages) for each in status.topics] == [(EVENTS, 1), (STATES, 2)]
        assert [(each.document, each.size) for each in status.oldest] == [
            (each.document, each.size) for each in waiting
        ]
    assert len(sent(outbox)) == 3
    assert outbox.depth().messages == 0
    assert outbox.put(noted("a", (1, 6)))
    assert outbox.depth().messages == 1
    assert [each.agent for each in outbox.waiting(9)] == ["a"]
    if outbox.path is not None:
        assert read_status(outbox.path, oldest=9).messages == 1


def test_the_order_of_an_agent_s_messages_is_kept_with_changes_between_them(
    outbox: Outbox,
) -> None:
    puts = [
        whole("a", (1, 1)),
        event("a", 2),
        noted("a", (1, 2)),
        event("a", 4),
        whole("b", (1, 1)),
        noted("b", (1, 2)),
        event("b", 3),
        event("c", 1),
        whole("c", (1, 1)),
        event("c", 2),
        noted("c", (1, 2)),
    ]
    for each in puts:
        assert outbox.put(each)
    order = [(each.agent, each.document.split("/")[1]) for each in outbox.waiting(99)]
    expected = {
        "a": ["a-2", "a", "a-4"],
        "b": ["b", "b-3"],
        "c": ["c-1", "c-2", "c"],
    }
    for agent, documents in expected.items():
        assert [document for name, document in order if name == agent] == documents


def test_changes_rise_above_what_they_follow_also_where_the_clock_is_set_back(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert outbox.put(whole("a", (1, 1)))
    (first,) = outbox.waiting(9)
    outbox._last = 0  # as another process on the same file
    monkeypatch.setattr("firestate.outbox.file.time.time_ns", lambda: 7)
    assert outbox.put(noted("a", (1, 2)), noted("a", (1, 3)))
    (both,) = outbox.waiting(9)
    assert both.seq > first.seq + 1
    outbox.confirm([first])
    (message,) = sent(outbox)
    assert message["revision"] == 3


# ---------------------------------------------------------------- the bound


def test_a_full_outbox_refuses_changes_and_can_still_fold_and_confirm(
    opened: Callable[..., Outbox],
) -> None:
    outbox = opened(0)
    assert outbox.put(whole("a", (1, 1)))
    number = 2 + fill(outbox, (noted("a", (1, n), f"k{n}", size=2_000) for n in count(2)))
    assert number > 8
    found = kept(outbox, "a")
    assert found is not None
    assert found[0] == (1, number - 1), "what was refused is not kept"
    outbox.fold(-1)
    assert kept(outbox, "a") == found
    (message,) = sent(outbox)
    assert message["revision"] == number - 1
    assert len(message["state"]["memory_context"]) == number - 2
    assert outbox.depth().messages == 0
    # The bytes of what was sent make room; a change has nothing to follow then.
    assert not outbox.put(noted("a", (1, number), size=120_000))
    assert outbox.put(whole("a", (1, number)))
    assert outbox.put(noted("a", (1, number + 1), size=2_000))


def test_the_bound_of_an_outbox_in_memory_holds_after_a_confirmation() -> None:
    with closing(Outbox(None, most_bytes=0)) as outbox:
        assert outbox.put(event("e", 0))
        outbox.confirm(outbox.waiting(9))  # beyond the bound
        fill(outbox, (event("e", number, size=1_000) for number in count(1)))
        assert outbox.size() <= 98_304


def test_a_full_outbox_in_memory_can_fold_whatever_connections_were_opened_since() -> None:
    with closing(Outbox(None, most_bytes=0)) as outbox:
        assert outbox.put(whole("a", (1, 1)))
        fill(outbox, (noted("a", (1, n), f"k{n}", size=2_000) for n in count(2)))
        connections: Any = outbox._connections
        connections.change("DELETE FROM sender", beyond_bound=True)
        other = connections._opened(beyond_bound=False)  # as another thread's call does
        outbox.fold(-1)
        other.close()
