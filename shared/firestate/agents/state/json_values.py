"""From the values that Python programs hold to those that a message can hold.

Enums, UUIDs, times, sets, tuples, paths, decimals, dataclasses, named tuples and pydantic models
become what pydantic's own JSON makes of them: a time ISO 8601 text, a set a list, a model a map.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from firestate.errors import FieldProblem, InvalidMessageError
from firestate.schema.values import text_problem

if TYPE_CHECKING:
    from pydantic import BaseModel

_FAULTS = (PydanticSerializationError, UnicodeError, RecursionError, ValueError)
_MOST_LEVELS = 200


def to_json_values(fields: Mapping[str, Any] | BaseModel) -> dict[str, Any]:
    """Give `fields` in plain values; raise InvalidMessageError that names what has no JSON form."""
    try:
        found: dict[str, Any] = to_jsonable_python(fields, inf_nan_mode="constants")
    except _FAULTS as error:
        raise not_json(fields, error) from error
    return found


def not_json(fields: object, error: Exception) -> InvalidMessageError:
    """Give the error that names which value of `fields` has no JSON form."""
    return InvalidMessageError("schema", [_problem(fields, error)])


def _problem(fields: object, error: Exception) -> FieldProblem:
    """Find the first value that has no JSON form, for people to see where it is."""
    path: list[str] = []
    value: Any = fields
    while (inner := _first_bad(value)) is not None and len(path) < _MOST_LEVELS:
        step, value = inner
        path.append(step)
    if isinstance(value, Mapping) and (bad := [key for key in value if not _is_fine(key)]):
        path.append(f".{text_of(bad[0])}")
        value = bad[0]
    field = "".join(path).removeprefix(".") or "state"
    field = field.encode("utf-8", "backslashreplace").decode()
    endless = "ircular" in str(error) or "depth exceeded" in str(error)
    if isinstance(error, RecursionError) or endless:
        return FieldProblem(field[:200], "holds itself, or nests too deep")
    if isinstance(value, bytes):
        return FieldProblem(field, "is bytes that are no text: encode them, as in base64")
    if isinstance(value, str) and (problem := text_problem(value)):
        return FieldProblem(field, problem)
    return FieldProblem(field, f"is a {type(value).__name__}, which has no JSON form")


def _first_bad(value: Any) -> tuple[str, Any] | None:  # noqa: ANN401 - anything
    if isinstance(value, Mapping):
        steps = ((f".{text_of(key)}", item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        steps = ((f"[{index}]", item) for index, item in enumerate(value))
    else:
        return None
    return next((each for each in steps if not _is_fine(each[1])), None)


def text_of(value: object) -> str:
    """Return the text of a value; that of its type where the user's own `__str__` fails."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - the user's own
        return f"a {type(value).__name__} without a text"


def _is_fine(value: object) -> bool:
    try:
        to_json(value, inf_nan_mode="constants")
    except _FAULTS:
        return False
    return True
