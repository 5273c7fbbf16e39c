"""What people see, and what programs read."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from firestate.cli.output import ago, fail, print_json, shown, table
from tests.unit.strategies import NOW


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (1234567, "1,234,567"),
        (0.5, "0.50"),
        (True, "True"),
        ("[red]as it is[/red]", "[red]as it is[/red]"),
    ],
)
def test_values(value: Any, text: str) -> None:
    """A cell holds a value as people write it."""
    assert shown(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5 s ago"), (90, "2 min ago"), (7200, "2 h ago"), (200_000, "2 d ago"), (-5, "-5 s ago")],
)
def test_times(seconds: int, text: str) -> None:
    """A time is how long ago it was."""
    assert ago(NOW - timedelta(seconds=seconds), NOW) == text


@pytest.mark.parametrize("text", ["[/x] [red]", "[bold]", "a\\[b", "[link=x]y[/link]"])
def test_what_users_wrote_is_no_markup(text: str) -> None:
    """It is shown to the letter, in cells and in titles."""
    out = Console(file=StringIO(), width=100)
    out.print(table(text, ["a", "b"], [[text, 1]]))
    assert isinstance(out.file, StringIO)
    assert out.file.getvalue().count(text) == 2


def test_what_users_wrote_moves_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Escapes, bells and marks of direction are shown, in cells, in notes and in JSON."""
    text = "a\x1b[2J\x07\u202eb\x9b"
    out = Console(file=StringIO(), width=100)
    out.print(table(text, ["a"], [[text]]))
    print_json({text: text})
    with pytest.raises(SystemExit):
        fail(text)
    told = capsys.readouterr()
    assert isinstance(out.file, StringIO)
    for shown_text in (out.file.getvalue(), told.out, told.err):
        assert "\\u001b[2J" in shown_text
        assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(shown_text)
    assert json.loads(told.out) == {text: text}


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Times in ISO 8601, text as it is."""
    print_json({"at": NOW, "name": "Zoë"})
    out = capsys.readouterr().out
    assert json.loads(out) == {"at": "2026-11-23T12:00:00Z", "name": "Zoë"}
    assert "Zoë" in out
