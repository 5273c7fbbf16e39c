"""`firestate watch` on a local engine's file: on a terminal, off it, and as JSON."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest
from rich.console import Console

from firestate.cli import watch
from firestate.cli.watch_polling import PolledSystem, SystemPoller, changes
from firestate.cli.watch_view import watch_view
from firestate.client.outgoing import outgoing
from firestate.errors import DamagedDocumentError, UnavailableError
from firestate.local.engine import LocalEngine
from firestate.operations.operator_controls import change_controls, with_emergency
from firestate.schema.ids import GLOBAL_CONFIG
from firestate.stores.protocol import Update
from tests.harness import CrashingStore, event_message, state_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Run

FIRESTATE = Path(sys.executable).parent / "firestate"
FILE = Path("state.db")
# As a shell starts it: with a terminal of its own, whose Ctrl-C it gets.
ON_ITS_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    """Have what is started here take Ctrl-C, also where these tests are a job in the background.

    There a shell has it ignored, and whoever is started inherits that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def written(run: Run) -> Iterator[LocalEngine]:
    """An engine on a file in the command's folder, with an agent and an event."""
    del run
    engine = LocalEngine(FILE, fold_interval_seconds=0)
    engine.publish(outgoing(state_message(1, current_task="fix [red]it")))
    engine.publish(outgoing(event_message("e1", success=False, error_message="broken")))
    engine.settle()
    yield engine
    engine.close()


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [str(FIRESTATE), "watch", "--file", str(FILE), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


def a_line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def test_on_a_terminal(written: LocalEngine) -> None:
    """Tables, in place; what happens is in view a moment later; Ctrl-C ends it well."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    command = [sys.executable, "-c", ON_ITS_TERMINAL, str(FIRESTATE), "watch", "--file", str(FILE)]
    environment = {**os.environ, "TERM": "xterm-256color"}
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env=environment,
    )
    os.close(theirs)
    killer = threading.Timer(30, process.kill)
    killer.start()
    seen = ""

    def until(text: str) -> None:
        nonlocal seen
        while text not in seen:
            piece = os.read(ours, 65_536)  # raises where the process has ended
            seen += piece.decode()

    until("folded")
    for text in (
        "Agents that were active last",
        "fix [red]it",
        "Newest events",
        "broken",
        "System",
    ):
        assert text in seen
    written.publish(outgoing(event_message("e2", target_agent_id="zoe")))
    written.settle()
    until("zoe")
    os.write(ours, b"\x03")
    with contextlib.suppress(OSError):
        until("never")
    assert process.wait() == 0
    assert "\x1b[?25h" in seen, "the cursor is back"
    assert "Traceback" not in seen
    killer.cancel()
    os.close(ours)


def test_off_a_terminal(written: LocalEngine) -> None:
    """A line at first, and one whenever a counter has changed."""
    with started() as process:
        first = a_line(process.stdout)
        assert first.startswith("agents now 1 (idle 1) · ever 1 · ")
        assert first.endswith(" · events 1, succeeded 0\n")
        written.publish(outgoing(event_message("e2")))
        written.settle()
        assert a_line(process.stdout).endswith(" · events 2, succeeded 1\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_as_json(written: LocalEngine) -> None:
    """One object a line: first what there is, and then what changes, with its kind."""
    with started("--json") as process:
        found = [json.loads(a_line(process.stdout)) for _ in range(3)]
        assert [each["kind"] for each in found] == ["agent", "event", "counters"]
        assert found[0]["current_task"] == "fix [red]it"
        assert found[1]["error_message"] == "broken"
        assert found[2]["current_agent_count"] == 1
        assert found[2]["last_updated"].endswith("Z")
        change_controls(written.store, with_emergency("fire"))
        written.settle()
        counters = json.loads(a_line(process.stdout))
        assert counters["kind"] == "counters"
        assert counters["emergency_reason"] == "fire"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_once(run: Run, written: LocalEngine) -> None:
    """All of it once, as tables or as lines of JSON."""
    code, out, err = run("watch", "--once", "--file", str(FILE))
    assert (code, err) == (0, "")
    assert "fix [red]it" in out
    assert "Newest events" in out
    assert "agents ever spawned" in out
    change_controls(written.store, with_emergency("fire"))
    written.settle()
    assert "EMERGENCY STOP: fire" in run("watch", "--once", "--file", str(FILE))[1]
    code, out, _ = run("watch", "--once", "--json", "--file", str(FILE), "-n", "1")
    kinds = [json.loads(line)["kind"] for line in out.splitlines()]
    assert (code, kinds) == (0, ["agent", "event", "counters"])


def test_nothing_is_stored_yet(run: Run) -> None:
    """It says so."""
    LocalEngine(FILE).close()
    code, _, err = run("watch", "--once", "--file", str(FILE))
    assert code == 1
    assert "nothing is stored yet" in err
    assert run("watch", "--file", "missing.db")[0] == 2
    assert run("watch", "--file", str(FILE), "--limit", "0")[0] == 2


def test_what_a_look_costs(written: LocalEngine) -> None:
    """One read; agents and events are asked for only where something was counted since."""
    store: Any = CrashingStore(written.store)
    looks = SystemPoller(store, agents=5, events=5)
    before = looks.look()
    assert store.calls == 3
    for _ in range(10):
        assert looks.look() is before
    assert store.calls == 13
    written.publish(outgoing(event_message("e2")))
    written.settle()
    now = looks.look()
    assert store.calls == 16
    assert [each["kind"] for each in changes(before, now)] == ["event", "counters"]
    assert not list(changes(now, now))


def test_a_look_that_fails_half_way_is_made_again(written: LocalEngine) -> None:
    """What it missed is news to the next one."""
    looks = SystemPoller(
        CrashingStore(written.store, 1, fault=UnavailableError),
        agents=5,
        events=5,
    )
    with pytest.raises(UnavailableError):
        looks.look()
    assert looks.last == PolledSystem()
    assert len(looks.look().events) == 1


def test_a_small_terminal_sees_all_three(written: LocalEngine) -> None:
    """Agents and events take what the counters leave, and are never left out."""
    for number in range(20):
        written.publish(outgoing(state_message(1, agent_id=f"more-{number}")))
        written.publish(outgoing(event_message(f"more-{number}")))
    written.settle()
    look = SystemPoller(written.store, agents=15, events=15).look()
    for height, least in ((20, 3), (40, 8), (80, 15)):
        out = Console(width=100, height=height, force_terminal=True)
        text = [
            "".join(part.text for part in line)
            for line in out.render_lines(watch_view(look, "[/x] now", out))
        ]
        agents = sum("idle" in line and "by status" not in line for line in text)
        assert text[0].startswith("[/x] now"), "a failure's text is no markup"
        assert agents >= least
        assert len(text) <= max(height, 33)


def test_the_store_is_away_for_a_while(
    run: Run, written: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once, and what happened meanwhile when it is back."""
    store = CrashingStore(written.store)
    calls = iter([None, "away", "away", None, "away"])

    def read(*arguments: Any, **more: Any) -> Any:
        if fault := next(calls, "end"):
            if fault == "end":
                raise KeyboardInterrupt
            raise UnavailableError(fault)
        return written.store.read(*arguments, **more)

    monkeypatch.setattr(store, "read", read, raising=False)
    monkeypatch.setattr(watch, "open_store", lambda *_: store)
    monkeypatch.setattr(watch, "_EVERY_SECONDS", 0.0)
    code, out, err = run("watch")
    assert code == 0
    assert len(out.splitlines()) == 1
    assert err == "firestate: away; it is tried again\n" * 2


def test_damaged_counters_are_named(run: Run, written: LocalEngine) -> None:
    """One line with the field, and exit code 3."""
    stored = written.store.read(GLOBAL_CONFIG)
    assert stored is not None
    written.store.commit([Update(GLOBAL_CONFIG, stored.token, {"system_metrics": 7})])
    code, _, err = run("watch", "--once", "--file", str(FILE))
    assert code == 3
    assert "system_metrics" in err
    with pytest.raises(DamagedDocumentError):
        SystemPoller(written.store, agents=1, events=1).look()
