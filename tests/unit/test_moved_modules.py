"""Modules by their former names: the very same modules, with a warning."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from firestate.moved_modules import NEW_NAMES


@pytest.mark.parametrize("former", sorted(NEW_NAMES))
def test_a_former_name_is_the_very_same_module(
    former: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is set in one is set in the other; the warning names both."""
    monkeypatch.delitem(sys.modules, f"firestate.{former}", raising=False)
    new = f"firestate.{NEW_NAMES[former]}"
    with pytest.warns(DeprecationWarning, match=f"firestate.{former} is now {new}"):
        assert import_module(f"firestate.{former}") is import_module(new)


def test_a_name_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        import_module("firestate.never_was")


def test_a_program_sees_one_warning_at_its_import() -> None:
    """It is shown where the program imports, as Python shows what programs do themselves."""
    program = "import firestate.agents.desk as desk; print(desk.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.stdout == "firestate.agents.submitter\n"
    assert done.stderr.count("DeprecationWarning") == 1
    assert "<string>:1" in done.stderr
