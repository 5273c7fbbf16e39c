"""Being told: of documents, of the controls, of the connection; each change once, whoever fails."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestate.agents.backends.document_watch import Change, Watch
from firestate.agents.callbacks import Callbacks
from firestate.agents.controls import Controls
from firestate.errors import EmergencyStopError
from firestate.outbox.connection import Link, LinkState
from firestate.schema.ids import CONTROLS
from tests.agents.environments import eventually
from tests.agents.fake_backend import FakeBackend

if TYPE_CHECKING:
    from collections.abc import Iterator

Documents = dict[str, int]

documents = st.dictionaries(st.sampled_from("abc"), st.integers(1, 3))


def round_of(watch: Watch, there: Documents, *, ends: bool = True) -> None:
    """Tell a watch all there is, as a connection that begins does; it may break before the end."""
    watch.begin()
    for path, version in there.items():
        watch.found(path, {"v": version}, version)
    if ends:
        watch.current()


@given(st.lists(st.tuples(documents, st.booleans()), max_size=6), documents)
def test_however_often_a_watch_begins_again_each_change_is_told_once(
    breaking: list[tuple[Documents, bool]], last: Documents
) -> None:
    told: list[Change] = []
    known: Documents = {}
    watch = Watch("a", told.append)
    for there, ends in [*breaking, (last, True)]:
        told.clear()
        round_of(watch, there, ends=ends)
        changed = {path for path, version in there.items() if known.get(path) != version}
        gone = known.keys() - there.keys() if ends else set()
        assert {each.path for each in told if each.data is not None} == changed
        assert {each.path for each in told if each.data is None} == gone
        assert len(told) == len(changed) + len(gone)
        known = {path: v for path, v in known.items() if path not in gone} | there
    assert known == last


def test_a_document_that_is_gone_and_comes_back_is_told_each_time() -> None:
    told: list[Change] = []
    watch = Watch("a", told.append)
    round_of(watch, {"a": 1})
    watch.gone("a")
    watch.gone("a")
    watch.found("a", {"v": 1}, 1)
    round_of(watch, {})
    assert [each.data for each in told] == [{"v": 1}, None, {"v": 1}, None]
    watch.close()
    round_of(watch, {"a": 5})
    assert len(told) == 4


def test_a_callback_that_raises_is_logged_and_called_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[str] = []

    def tell(change: Change) -> None:
        told.append(change.path)
        raise ValueError("of the user")

    watch = Watch("a", tell)
    round_of(watch, {"a": 1, "b": 1})
    assert told == ["a", "b"]
    assert watch.is_current
    assert caplog.text.count("ValueError: of the user") == 2


@pytest.fixture
def engine() -> Iterator[FakeBackend]:
    engine = FakeBackend()
    yield engine
    engine.close()


@pytest.fixture
def controls(engine: FakeBackend) -> Controls:
    made = Controls(engine, Callbacks(), patience_seconds=0.2)
    engine.watches[0].current()
    return made


def set_to(engine: FakeBackend, version: int, **data: Any) -> None:
    engine.watches[0].found(CONTROLS, data, version)


def test_callbacks_on_the_controls_that_raise_keep_no_other_from_being_told(
    engine: FakeBackend, controls: Controls, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Any] = []

    def fail(*_: object) -> None:
        raise ValueError("of the user")

    controls.on_emergency(fail)
    controls.on_emergency(lambda on, reason: heard.append((on, reason)))
    controls.on_change(fail)
    controls.on_change(lambda data: heard.append(dict(data)))
    set_to(engine, 1, emergency_stop=True, emergency_reason="fire")
    set_to(engine, 2, emergency_stop=True, emergency_reason="fire", feature_flags={"a": True})
    engine.watches[0].gone(CONTROLS)
    eventually(lambda: caplog.text.count("ValueError: of the user") == 5 and len(heard) == 5)
    assert [each for each in heard if isinstance(each, tuple)] == [(True, "fire"), (False, None)]
    assert heard[-1] == {}


def test_who_asks_late_is_told_of_a_stop_at_once(engine: FakeBackend, controls: Controls) -> None:
    heard: list[Any] = []
    set_to(engine, 1, emergency_stop=True)
    controls.on_emergency(lambda on, reason: heard.append((on, reason)))
    eventually(lambda: heard == [(True, None)])
    with pytest.raises(EmergencyStopError, match="no reason given"):
        controls.check()


@pytest.mark.parametrize(
    ("flags", "default", "value"),
    [
        ({"f": True}, False, True),
        ({"f": False}, True, False),
        ({}, True, True),
        (None, True, True),
        ({"f": "on"}, False, False),
        ({"f": 1}, True, True),
    ],
)
def test_a_flag_is_what_operators_have_set_or_its_default(
    engine: FakeBackend, controls: Controls, *, flags: Any, default: bool, value: bool
) -> None:
    set_to(engine, 1, feature_flags=flags)
    assert controls.flag("f", default) is value


def test_controls_that_are_not_to_be_had_are_waited_for_once(engine: FakeBackend) -> None:
    patience = 0.2
    controls = Controls(engine, Callbacks(), patience_seconds=patience)
    began = time.monotonic()
    for _ in range(20):
        assert controls.flag("f", default=True)
        controls.check()
    assert patience <= time.monotonic() - began < 20 * patience / 2
    assert engine.reading.is_lost
    assert controls.settings == {}


def test_a_line_tells_and_logs_each_change_once(caplog: pytest.LogCaptureFixture) -> None:
    told: list[LinkState] = []
    line = Link("the way")

    def fail(_: LinkState) -> None:
        raise ValueError("of the user")

    line.on_change(fail)
    line.on_change(told.append)
    with caplog.at_level(logging.WARNING, "firestate.connection"):
        line.back()
        line.back()
        for reason in ("no network", "no network", "no right"):
            line.lost(reason)
        since = line.state.since
        assert (line.state.reason, line.is_lost) == ("no right", True)
        line.back()
        line.unknown()
        assert line.state == LinkState()
    assert [(way.open, way.reason) for way in told] == [
        (True, ""),
        (False, "no network"),
        (True, ""),
    ]
    assert told[1].since == since, "it is away since it was first"
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert warnings == [
        "the way is away, the agents go on without it: no network",
        "the way is back; what waits flows in",
    ]


def test_of_many_that_find_a_line_open_again_one_tells() -> None:
    told: list[LinkState] = []
    line = Link("the way")
    line.lost("no network")
    line.on_change(told.append)
    threads = [threading.Thread(target=line.back) for _ in range(8)]
    with line._lock:
        for thread in threads:
            thread.start()
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    assert [way.open for way in told] == [True]
