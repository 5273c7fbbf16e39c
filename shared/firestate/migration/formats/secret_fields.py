"""Secrets in old files: left out where the format has a place for them, else told of by name.

All who may look at agents can read what is stored. A key that lies in a field of its own is of no
use there; of a field that is only called like one nobody can be sure, so that it is kept, and the
report of the plan says where.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.schema.sanitize import sanitize_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ENDINGS = (
    "apikey",
    "secret",
    "secrets",
    "password",
    "passwd",
    "token",
    "privatekey",
    "secretkey",
    "accesskey",
    "credential",
    "credentials",
    "authorization",
)
_SHORTEST = 8
_LONGEST = 200
_NO_SECRET = ("$", "*", "<")
"""What stands for a secret begins so: `${API_KEY}`, `****`, `<your key>`."""


def withhold(old: dict[str, Any], names: Iterable[str], at: str = "") -> list[str]:
    """Take what stands under `names` out of an object; say by its names what that was."""
    found: list[str] = []
    for name in names:
        if held := old.pop(name, None):
            path = f"{at}{name}"
            found += [f"{path}.{each}" for each in _names(held)] or [path]
    return found


def _names(held: object) -> list[str]:
    """Name what is held: variables by name, or a list of them, each with a `key`."""
    if isinstance(held, dict):
        return [_shown(each) for each in held]
    if isinstance(held, list):
        return [_shown(each.get("key")) for each in held if isinstance(each, dict)]
    return []


def _shown(name: object) -> str:
    """Give a name as Firestore can hold it: it may be any text of JSON."""
    return sanitize_text(str(name)[:_LONGEST])


def exposed(value: object, path: str = "") -> Iterator[str]:
    """Give the paths of what is called like a secret, and looks like one."""
    if isinstance(value, dict):
        for name, each in value.items():
            below = f"{path}.{name}" if path else str(name)
            if isinstance(each, dict | list):
                yield from exposed(each, below)
            elif isinstance(each, str) and _is_secret(str(name), each):
                yield below
    elif isinstance(value, list):
        for each in value:
            if isinstance(each, dict | list):
                yield from exposed(each, f"{path}[]")


def _is_secret(name: str, value: str) -> bool:
    if len(value) < _SHORTEST or value.startswith(_NO_SECRET):
        return False
    return name.lower().replace("_", "").replace("-", "").endswith(_ENDINGS)
