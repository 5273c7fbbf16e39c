"""Where what is stored and what was recounted differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firestate.audit.recount import Flat


def add(total: Flat, more: Flat) -> None:
    """Add the figures of `more` to those of `total`."""
    for path, count in more.items():
        total[path] = total.get(path, 0) + count


def flattened(value: Any, path: tuple[str, ...] = ()) -> Flat:  # noqa: ANN401 - what is stored
    """Give the whole numbers in nested maps by their paths, without zeros."""
    if isinstance(value, int):
        return {path: value} if value else {}
    flat: Flat = {}
    if isinstance(value, dict):
        for name, item in value.items():
            flat |= flattened(item, (*path, name))
    return flat


def groups_that_differ(
    expected: Flat, found: Flat
) -> Iterator[tuple[str, dict[str, int], dict[str, int]]]:
    """Yield each first name below which figures differ, with those on both sides."""
    for group in sorted({path[0] for path in expected.keys() | found}):
        wanted, had = (
            {".".join(path): n for path, n in each.items() if path[0] == group}
            for each in (expected, found)
        )
        if wanted != had:
            yield group, wanted, had


def differences(
    expected: dict[str, Any],
    found: Any,  # noqa: ANN401 - what is stored
    prefix: str = "",
) -> Iterator[tuple[str, Any, Any]]:
    """Yield each field of `global_config` that is not as expected: name, expected, found."""
    for name, value in expected.items():
        actual = found.get(name) if isinstance(found, dict) else None
        if name == "system_metrics":
            yield from differences(value, actual, "system_metrics.")
        elif actual != value:
            yield f"{prefix}{name}", value, actual
