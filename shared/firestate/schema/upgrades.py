"""Older messages and documents are brought up to date as they are read, in numbered steps.

To change a shape: append a step to the tuples below (never edit one that was released) and raise
the `Literal` of the message models. Step n turns version n into version n + 1.

    version  what it changed
    2        totals of tasks: `tries` no longer counts the cancelled; totals have `errors`. States:
             `parent_agent_type`, `parent_session_id`. Events: `cancelled`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from firestate.errors import FieldProblem, InvalidMessageError, SchemaTooNewError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Step = Callable[[dict[str, Any]], dict[str, Any]]

MESSAGE_VERSION: Literal[2] = 2
DOCUMENT_VERSION: Literal[2] = 2
_FIRST = 1
"""The version of a message or document that names none."""


def _without_cancelled_tries(fields: dict[str, Any]) -> dict[str, Any]:
    """Take the cancelled out of the tries in `task_totals`, where anything was cancelled.

    Whatever has not the form of totals stays as it is: the schema refuses it, with its place.
    """
    totals = fields.get("task_totals")
    if not isinstance(totals, dict):
        return fields
    changed = {
        group: {name: _totals_of_tries(each) for name, each in names.items()}
        for group, names in totals.items()
        if isinstance(names, dict)
    }
    return {**fields, "task_totals": {**totals, **changed}}


def _totals_of_tries(one: object) -> object:
    if not isinstance(one, dict):
        return one
    tries, cancelled = one.get("tries"), one.get("cancelled")
    if not (type(tries) is int and type(cancelled) is int and cancelled):
        return one
    timed = one.get("timed")
    # Absent, all tries were timed: the mean duration is to stay what it was.
    return {**one, "tries": tries - cancelled, "timed": tries if timed is None else timed}


def _message_to_2(raw: dict[str, Any]) -> dict[str, Any]:
    state = raw.get("state")
    return {**raw, "state": _without_cancelled_tries(state)} if isinstance(state, dict) else raw


_MESSAGE_STEPS: tuple[Step, ...] = (_message_to_2,)
_DOCUMENT_STEPS: tuple[Step, ...] = (_without_cancelled_tries,)


def upgrade_message(raw: dict[str, Any]) -> dict[str, Any]:
    """Return `raw` in today's shape; raise InvalidMessageError if its version is none of ours.

    A version from the future waits in quarantine, from where it can be replayed after the upgrade.
    """
    version = raw.get("schema_version", _FIRST)
    try:
        return upgraded(raw, version, _MESSAGE_STEPS)
    except SchemaTooNewError as error:
        raise InvalidMessageError("schema", [FieldProblem("schema_version", str(error))]) from error


def upgrade_document(data: dict[str, Any]) -> dict[str, Any]:
    """Return a stored document in today's shape; raise SchemaTooNewError for one of the future."""
    return upgraded(data, data.get("schema_version", _FIRST), _DOCUMENT_STEPS)


def document_version(fields: Mapping[str, Any]) -> int:
    """Return the oldest version whose readers understand a state or event, its fields as stored.

    Most documents hold nothing that version 1 would misread: agents of the release before go on
    reading and taking up those.
    """
    totals = fields.get("task_totals") or {}
    counted = [each for group in ("kinds", "tools") for each in totals.get(group, {}).values()]
    is_new = totals.get("errors") or any(each.get("cancelled") for each in counted)
    return 2 if is_new or fields.get("cancelled") else 1


def totals_of_version_1(totals: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return upgraded `task_totals` as version 1 has them; `given` are those that came.

    What a client of version 1 has published is stored as that release stores it: then both agree,
    while they run beside each other, on what is the same message, and its agents can read it.
    """
    former = dict(totals)
    for group in ("kinds", "tools"):
        if names := totals.get(group):
            came = given.get(group, {})
            former[group] = {
                name: _total_of_version_1(one, came[name]) for name, one in names.items()
            }
    return former


def _total_of_version_1(one: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    cancelled = one.get("cancelled", 0)
    if not cancelled:
        return one
    former = {**one, "tries": one["tries"] + cancelled}
    if given.get("timed") is None:
        del former["timed"]
    return former


def upgraded(data: dict[str, Any], version: object, steps: Sequence[Step]) -> dict[str, Any]:
    """Apply the steps that `data`, of `version`, has not seen yet."""
    newest = len(steps) + 1
    if type(version) is not int or not 1 <= version <= newest:
        message = f"is {version!r:.40}, this release knows 1 to {newest}"
        raise SchemaTooNewError(message)
    if version == newest:
        return data
    for step in steps[version - 1 :]:
        data = step(data)
    return {**data, "schema_version": newest}
