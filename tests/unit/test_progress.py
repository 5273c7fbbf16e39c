"""What is said while something takes a while."""

from __future__ import annotations

import io
import threading
import time

import pytest

from tools import progress
from tools.progress import LINE_EVERY_SECONDS, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what takes seconds take hundredths."""
    monkeypatch.setattr(progress, "_QUIET_SECONDS", 0.02)
    monkeypatch.setattr(progress, "_REDRAW_EVERY_SECONDS", 0.02)
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0.02)
    monkeypatch.setenv("TERM", "xterm")


def wait_for(out: io.StringIO, text: str) -> None:
    deadline = time.monotonic() + 10
    while text not in out.getvalue():
        assert time.monotonic() < deadline, out.getvalue()
        time.sleep(0.01)


def test_off_a_terminal_a_line_is_said_again_and_again() -> None:
    """Whole lines, with what is done and how far it has come."""
    out = io.StringIO()
    with Progress("Setting up", out) as shown, shown.step(".venv", lambda: "3 packages so far"):
        line = "Setting up .venv: 0 s, 3 packages so far\n"
        wait_for(out, line + line)
    assert out.getvalue().endswith("Setting up .venv: done in 0 s\n")
    assert "\r" not in out.getvalue()


def test_nothing_is_silent_for_ten_seconds() -> None:
    """With room for a machine that is busy."""
    assert LINE_EVERY_SECONDS <= 6


def test_on_a_terminal_one_line_is_written_anew() -> None:
    """Until the step is over, whose line stays."""
    out = Terminal()
    with Progress("Starting", out) as shown, shown.step("the emulators"):
        line = "\r\033[KStarting the emulators: 0 s"
        wait_for(out, line + line)
    assert out.getvalue().endswith("\r\033[KStarting the emulators: done in 0 s\n")
    assert out.getvalue().count("\n") == 1


def test_a_line_never_breaks_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken one could not be written over."""
    monkeypatch.setenv("COLUMNS", "20")
    out = Terminal()
    with Progress("Setting up", out) as shown, shown.step("what has a long name"):
        wait_for(out, "\r\033[KSetting up what has\r")


def test_steps_at_the_same_time_share_a_line() -> None:
    """Each with its own seconds."""
    out = io.StringIO()
    with Progress("Setting up", out) as shown, shown.step("one"):
        wait_for(out, "one: 0 s\n")
        with shown.step("two"):
            wait_for(out, "Setting up one: 0 s; two: 0 s\n")


def test_what_is_over_at_once_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a second `make` is quiet."""
    monkeypatch.setattr(progress, "_QUIET_SECONDS", 60)
    out = io.StringIO()
    with Progress("Setting up", out) as shown, shown.step("the emulators"):
        pass
    assert not out.getvalue()


def test_a_failure_is_told_even_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message itself is the caller's."""
    monkeypatch.setattr(progress, "_QUIET_SECONDS", 60)
    out = io.StringIO()
    with (
        pytest.raises(OSError, match="disk"),
        Progress("Setting up", out) as shown,
        shown.step(".venv"),
    ):
        raise OSError("disk")
    assert out.getvalue() == "Setting up .venv: failed after 0 s\n"


def test_no_thread_is_left() -> None:
    """It ends with its block."""
    before = threading.active_count()
    with Progress("Setting up", io.StringIO()) as shown, shown.step("one"):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_nobody_listening_is_no_failure() -> None:
    """The terminal may have been closed."""
    out = io.StringIO()
    with Progress("Setting up", out) as shown, shown.step("one"):
        out.close()
        time.sleep(0.1)
