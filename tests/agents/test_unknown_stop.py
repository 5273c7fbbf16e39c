"""What agents do while nobody knows whether the emergency stop is set."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from firestate import StateManager
from firestate.agents.backends.document_watch import Watch
from firestate.agents.backends.listen_stream import ListenStream
from firestate.agents.callbacks import Callbacks
from firestate.agents.controls import Controls
from firestate.errors import (
    ConfigurationError,
    EmergencyStopError,
    EmergencyStopUnknownError,
    UnavailableError,
)
from firestate.operations.operator_controls import change_controls, with_emergency
from firestate.outbox.connection import Link
from firestate.schema.ids import CONTROLS
from firestate.stores.sqlite import SqliteStore
from tests.agents.environments import eventually
from tests.agents.fake_backend import FakeBackend

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BOUND = "firestate.agents.controls.STOP_UNKNOWN_AFTER_SECONDS"


@pytest.fixture
def backend() -> Iterator[FakeBackend]:
    made = FakeBackend()
    yield made
    made.close()


@pytest.fixture
def watch(backend: FakeBackend, closed: Controls) -> Watch:
    """What Firestore tells the controls by."""
    del closed  # it has asked for it
    return backend.watches[0]


@pytest.fixture
def closed(backend: FakeBackend) -> Controls:
    return Controls(backend, Callbacks(), patience_seconds=0.0, when_unknown="closed")


def read_anew(watch: Watch, version: int, **data: Any) -> None:
    """Tell a watch all there is, as a connection that begins does."""
    watch.begin()
    watch.found(CONTROLS, data, version)
    watch.current()


def test_what_was_never_read_stops_agents(backend: FakeBackend, closed: Controls) -> None:
    """The error says so, why, and what to do; flags have their defaults, as ever."""
    backend.reading.lost("no network")
    with pytest.raises(EmergencyStopUnknownError) as caught:
        closed.check()
    assert "its state is unknown: it could not be read yet (no network)" in str(caught.value)
    assert "manager.connection" in str(caught.value)
    assert closed.emergency_stop
    assert closed.flag("f", default=True)


def test_by_default_agents_go_on_without_knowing(backend: FakeBackend) -> None:
    """As they always have."""
    controls = Controls(backend, Callbacks(), patience_seconds=0.0)
    controls.check()
    assert not controls.emergency_stop


def test_what_is_read_lets_agents_go_on(closed: Controls, watch: Watch) -> None:
    """Also where no operator has ever set anything: then there is no document."""
    watch.begin()
    watch.current()
    closed.check()
    assert not closed.emergency_stop


def test_a_short_outage_stops_nobody(
    closed: Controls, watch: Watch, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the bound what was read last counts."""
    monkeypatch.setattr(BOUND, 3_600)
    read_anew(watch, 1)
    watch.interrupted()
    backend.reading.lost("no network")
    closed.check()


def test_a_long_outage_stops_agents_until_the_stop_can_be_read(
    closed: Controls, watch: Watch, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the connection begins and breaks meanwhile."""
    read_anew(watch, 1)
    monkeypatch.setattr(BOUND, 0)  # past it at once
    closed.check()
    backend.reading.lost("no network")
    for _ in range(2):
        watch.begin()
        watch.interrupted()
        with pytest.raises(EmergencyStopUnknownError, match=r"not be read for 0 s \(no network\)"):
            closed.check()
        assert closed.emergency_stop
    backend.reading.back()
    with pytest.raises(EmergencyStopUnknownError):
        closed.check()  # another watch was told: not yet this one
    read_anew(watch, 1)
    closed.check()
    assert not closed.emergency_stop


@pytest.mark.parametrize("when_unknown", ["open", "closed"])
def test_a_stop_that_was_read_stays_while_nothing_can_be_read(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch, when_unknown: Any
) -> None:
    """With the operator's reason; an outage lifts nothing."""
    monkeypatch.setattr(BOUND, 0)
    made = Controls(backend, Callbacks(), patience_seconds=0.0, when_unknown=when_unknown)
    read_anew(backend.watches[0], 1, emergency_stop=True, emergency_reason="fire")
    backend.watches[0].interrupted()
    with pytest.raises(EmergencyStopError, match="emergency stop: fire") as caught:
        made.check()
    assert type(caught.value) is EmergencyStopError


def test_a_child_of_a_fork_asks_anew(
    closed: Controls, watch: Watch, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes are told to the parent, so that the child would never know of a stop."""
    monkeypatch.setattr(BOUND, 0)
    read_anew(watch, 1)
    closed.after_fork()
    with pytest.raises(EmergencyStopUnknownError):
        closed.check()
    assert backend.watches == [watch, watch]
    read_anew(watch, 2, emergency_stop=True, emergency_reason="fire")
    with pytest.raises(EmergencyStopError, match="fire"):
        closed.check()
    assert backend.watches == [watch, watch], "once"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_only_asks_sees_a_later_stop(tmp_path: Path) -> None:
    """It need not save anything for that."""
    begin = os.pipe()
    with StateManager("", folder=tmp_path) as manager:
        manager.controls.check()
        child = os.fork()
        if child == 0:  # pragma: no cover - another process
            code = 1
            try:
                os.read(begin[0], 1)
                eventually(lambda: manager.controls.emergency_stop)
                code = 0
            finally:
                os._exit(code)
        change_controls(manager._runtime.backend.store(), with_emergency("fire"))
        os.write(begin[1], b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for each in begin:
        os.close(each)


def test_a_stream_that_breaks_says_that_changes_may_be_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever broke it, also before it has begun."""

    def fail(_: str) -> Any:
        raise OSError("no network")

    monkeypatch.setattr("firestate.agents.backends.listen_stream.firestore_client", fail)
    link = Link("Firestore")
    stream = ListenStream("demo-x", link)
    watch = Watch(CONTROLS, lambda _: None)
    watch.current()
    stream.add(watch)
    eventually(lambda: link.is_lost)
    stream.close()
    assert watch.interrupted_at is not None


def test_a_local_file_that_cannot_be_read_stops_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, on one machine."""
    with StateManager.in_memory(when_unknown="closed") as manager:
        manager.controls.check()

        def fail(*_: object, **__: object) -> Any:
            raise UnavailableError("the disk is gone")

        monkeypatch.setattr(SqliteStore, "last_commit", fail)
        monkeypatch.setattr(BOUND, 0)
        eventually(lambda: manager.controls.emergency_stop)
        monkeypatch.undo()
        eventually(lambda: not manager.controls.emergency_stop)


def test_nothing_is_spawned_and_what_is_saved_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the cloud away from the start; without the setting the same agent spawns."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    for name in ("FIRESTORE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST"):
        monkeypatch.setenv(name, address)
    manager = StateManager("demo-x", folder=None, when_unknown="closed")
    try:
        agent = manager.start("Father", "a")
        waiting = manager.connection.waiting
        with pytest.raises(EmergencyStopUnknownError):
            agent.spawn("QA", "b")
        assert manager.connection.waiting == waiting
        with agent.task("t", "code"):
            pass
        assert agent.state.task_history[0]["status"] == "completed"
    finally:
        manager.close(0.0)


@pytest.mark.parametrize("word", ["Closed", "", None, True])
def test_another_word_is_refused_before_anything_is_opened(tmp_path: Path, word: Any) -> None:
    """A word that is misspelt must not leave agents running."""
    with pytest.raises(ConfigurationError, match="when_unknown must be 'open' or 'closed'"):
        StateManager("", folder=tmp_path / "new", when_unknown=word)
    assert not (tmp_path / "new").exists()
