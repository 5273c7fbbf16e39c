"""The SQL of the package as every supported Python takes it."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from tools.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NUMBERED = re.compile(r"\?\d")
MODULES = sorted((ROOT / "shared/firestate").rglob("*.py"))


def numbered_parameters(program: str) -> Iterator[int]:
    """Yield the line of each text in a program that holds a parameter such as `?1`."""
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.Constant) and NUMBERED.search(str(node.value)):
            yield node.lineno


@pytest.mark.parametrize("program", ['"LIMIT ?1"', 'f"SELECT {x} WHERE a = ?12"', '"""\n?2\n"""'])
def test_a_numbered_parameter_is_found(program: str) -> None:
    """In a text, in a part of an f-string, on any line of a long text."""
    assert list(numbered_parameters(program)) == [1]


def test_no_statement_numbers_its_parameters() -> None:
    """Python 3.12 warns of `?1` with values in a sequence, and a later one refuses it."""

    def lines(module: Path) -> list[str]:
        return [f"{module}:{line}" for line in numbered_parameters(module.read_text())]

    assert MODULES
    assert not [line for module in MODULES for line in lines(module)]
