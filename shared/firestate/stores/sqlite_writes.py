"""What a write makes of a document: on SQLite what Firestore's own server does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from firestate.errors import ConflictError
from firestate.stores.protocol import Add, Create, Remove, Update

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from firestate.stores.protocol import Stored, Token, Write


def applied(write: Write, known: Stored | None, at: datetime) -> dict[str, Any] | None:
    """Give the fields after `write`, done at the time `at`; None where the document goes.

    Raises ConflictError where the condition of the write does not hold.
    """
    match write:
        case Create():
            return dict(write.data)
        case Add():
            return _sum(known.data if known else {}, _stamped(write, at))
        case Update():
            current = _unless_changed(known, write.path, write.token)
            kept = {k: v for k, v in current.items() if k not in write.removed}
            return {**kept, **write.data}
        case Remove():
            current = _unless_changed(known, write.path, write.token)
            for path in write.fields:
                current = _without(current, path)
            return current if write.fields else None
        case _:
            assert_never(write)


def _unless_changed(known: Stored | None, path: str, token: Token) -> dict[str, Any]:
    if known is None or known.token != token:
        message = f"{path}: was written by somebody else"
        raise ConflictError(message)
    return known.data


def _stamped(write: Add, at: datetime) -> dict[str, Any]:
    counts = dict(write.counts)
    for path in write.stamped:
        counts = _with_time(counts, path, at)
    return counts


def _with_time(counts: Mapping[str, Any], path: tuple[str, ...], at: datetime) -> dict[str, Any]:
    if not path:
        return {**counts, "at": at}
    return {**counts, path[0]: _with_time(counts.get(path[0], {}), path[1:], at)}


def _sum(before: Mapping[str, Any], counts: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(before)
    for name, count in counts.items():
        known = before.get(name)
        if isinstance(count, dict):
            result[name] = _sum(known if isinstance(known, dict) else {}, count)
        elif isinstance(count, int) and isinstance(known, int | float):
            result[name] = known + count
        else:
            result[name] = count
    return result


def _without(data: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    name, *inner = path
    if not inner:
        return {key: value for key, value in data.items() if key != name}
    return {**data, name: _without(data[name], tuple(inner))} if name in data else dict(data)
