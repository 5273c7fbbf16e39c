"""Which engine `make demo` plays on, and what it sets up for that."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tools import demo
from tools.setup import ONLY_EMULATORS_MISSING, SetUpError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The commands that would be run, as text."""
    commands: list[str] = []

    def run(*command: str | Path) -> int:
        commands.append(" ".join(map(str, command)))
        return 0

    monkeypatch.setattr(demo, "_run", run)
    monkeypatch.setattr(demo, "FILE", tmp_path / "demo.db")
    return commands


def set_up(monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None) -> list[str]:
    """Let the set-up end so; return what will have been set up."""
    modes: list[str] = []

    def ended(mode: str) -> None:
        modes.append(mode)
        if error:
            raise error

    monkeypatch.setattr(demo, "set_up", ended)
    return modes


def choose(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["demo", *words])
    return demo.main()


def test_the_emulators_where_they_can_be_had(
    played: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are what a user deploys to."""
    modes = set_up(monkeypatch)
    assert choose(monkeypatch) == 0
    assert "tools.emulators exec" in played[0]
    assert modes == ["demo"]


def test_the_local_engine_where_emulators_are_missing(
    played: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said what is missing, unless emulators were asked for by name."""
    missing = "Node is missing: install it."
    set_up(monkeypatch, SetUpError(missing, log="a log\n", code=ONLY_EMULATORS_MISSING))
    assert choose(monkeypatch) == 0
    assert played[0].endswith(f"demo --file {demo.FILE}")
    told = capsys.readouterr().out
    assert told.startswith(f"{missing}\n")
    assert "local engine" in told
    assert choose(monkeypatch, "emulators") == ONLY_EMULATORS_MISSING
    assert capsys.readouterr().err == f"a log\n{missing}\n"
    assert len(played) == 1


def test_nothing_is_played_where_python_cannot_be_set_up(
    played: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The local engine needs that too."""
    set_up(monkeypatch, SetUpError("pip failed (see above)", log="no such package"))
    for engine in ("", "local", "emulators"):
        assert choose(monkeypatch, *filter(None, [engine])) == 1
        assert capsys.readouterr().err == "no such package\npip failed (see above)\n"
    assert not played


def test_a_set_up_that_is_stopped_plays_nothing(
    played: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By Ctrl-C; one line says so."""
    set_up(monkeypatch, KeyboardInterrupt())
    assert choose(monkeypatch) == 130
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not played


def test_the_local_engine_by_name(played: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Python alone is set up for it, and it begins with a new file."""
    modes = set_up(monkeypatch)
    demo.FILE.write_text("from before")
    assert choose(monkeypatch, "local") == 0
    assert not demo.FILE.exists()
    assert modes == ["demo-local"]
    assert len(played) == 1
    with pytest.raises(SystemExit, match="not 'elsewhere'"):
        choose(monkeypatch, "elsewhere")
