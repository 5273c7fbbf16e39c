"""Older messages and documents are brought up to date as they are read, in numbered steps.

To change a shape: append a step to the tuple below (never edit one that was released) and raise
the `Literal` of the message models. Step n turns version n into version n + 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from firestate.errors import FieldProblem, InvalidMessageError, SchemaTooNewError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Step = Callable[[dict[str, Any]], dict[str, Any]]

MESSAGE_VERSION: Literal[1] = 1
DOCUMENT_VERSION: Literal[1] = 1

_MESSAGE_STEPS: tuple[Step, ...] = ()
_DOCUMENT_STEPS: tuple[Step, ...] = ()


def upgrade_message(raw: dict[str, Any]) -> dict[str, Any]:
    """Give `raw` in today's shape; raise InvalidMessageError if its version is none of ours.

    A version from the future waits in quarantine, from where it can be replayed after the upgrade.
    """
    version = raw.get("schema_version", MESSAGE_VERSION)
    try:
        return upgraded(raw, version, _MESSAGE_STEPS)
    except SchemaTooNewError as error:
        raise InvalidMessageError("schema", [FieldProblem("schema_version", str(error))]) from error


def upgrade_document(data: dict[str, Any]) -> dict[str, Any]:
    """Give a stored document in today's shape; raise SchemaTooNewError for one of the future."""
    return upgraded(data, data.get("schema_version", DOCUMENT_VERSION), _DOCUMENT_STEPS)


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
