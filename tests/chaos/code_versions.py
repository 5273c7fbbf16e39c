"""Releases of the code that count differently, put in place of each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.counters.contribution import CODE, contribution_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pytest


def this_release(patch: pytest.MonkeyPatch) -> None:
    """Put today's release in place."""
    _put(patch, CODE, contribution_of)


def other_release(patch: pytest.MonkeyPatch, code: int) -> None:
    """Put a release in place that counts tasks differently; by its `code` it may be any."""
    _put(patch, code, _other_contribution)


def _put(patch: pytest.MonkeyPatch, code: int, contribution: Callable[..., Any]) -> None:
    patch.setattr("firestate.ingest.states.CODE", code)
    for module in ("firestate.ingest.states", "firestate.operations.rederive"):
        patch.setattr(f"{module}.contribution_of", contribution)


def _other_contribution(document: Mapping[str, Any]) -> dict[str, Any]:
    contribution = contribution_of(document)
    tasks = {name: 2 * count + 1 for name, count in contribution["tasks"].items()}
    return contribution | {"tasks": tasks}
