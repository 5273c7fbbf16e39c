"""A change of a state as the outbox keeps it: what is new, and not the whole state.

A change is a JSON object with up to three parts:

    set      fields, each with its new value
    memory   entries of the memory context by their key: [value] for a new value, [] for none
    history  the new task history: runs [from, to) of the former one, and new entries

An agent that remembers much writes little with it. The sender puts the whole state together before
it goes out, at most once a second for a session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Iterable


def apply_changes(message: bytes, changes: Iterable[bytes], revision: int) -> bytes:
    """Return a state message with changes made to its state, in their order, as `revision`."""
    found: dict[str, Any] = from_json(message)
    if "state" not in found:
        return message  # it was deleted: nothing that follows changes that
    state = found["state"]
    for each in map(from_json, changes):
        _apply(state, each)
    found["revision"] = revision
    return to_json(found)


def _apply(state: dict[str, Any], change: dict[str, Any]) -> None:
    state.update(change.get("set", {}))
    memory = state["memory_context"]
    for key, value in change.get("memory", {}).items():
        if value:
            memory[key] = value[0]
        else:
            memory.pop(key, None)
    if "history" in change:
        former, new = state["task_history"], []
        for part in change["history"]:
            if isinstance(part, list):
                new += former[slice(*part)]
            else:
                new.append(part)
        state["task_history"] = new
