"""Which engine `make demo` plays on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tools import demo

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


def set_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Let the set-up do what `script` says."""
    setup = tmp_path / "python"
    setup.write_text(f"#!/bin/sh\n{script}\n")
    setup.chmod(0o755)
    monkeypatch.setenv("PYTHON", str(setup))


def choose(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["demo", *words])
    return demo.main()


def test_the_emulators_where_they_can_be_had(
    played: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They are what a user deploys to."""
    set_up(monkeypatch, tmp_path, "exit 0")
    assert choose(monkeypatch) == 0
    assert "tools.emulators exec" in played[0]


def test_the_local_engine_where_something_is_missing(
    played: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is said what is missing, unless emulators were asked for by name."""
    set_up(monkeypatch, tmp_path, "echo a log >&2; echo 'Node is missing: install it.' >&2; exit 1")
    assert choose(monkeypatch) == 0
    assert played[0].endswith(f"demo --file {demo.FILE}")
    told = capsys.readouterr().out
    assert told.startswith("Node is missing: install it.\n")
    assert "local engine" in told
    with pytest.raises(SystemExit, match="Node is missing"):
        choose(monkeypatch, "emulators")


def test_the_local_engine_by_name(
    played: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is set up for it, and it begins with a new file."""
    set_up(monkeypatch, tmp_path, "echo must not be called >&2; exit 1")
    demo.FILE.write_text("from before")
    assert choose(monkeypatch, "local") == 0
    assert not demo.FILE.exists()
    assert len(played) == 1
    with pytest.raises(SystemExit, match="not 'elsewhere'"):
        choose(monkeypatch, "elsewhere")
