"""Between models, Firestore documents and JSON; lossless each way.

A document holds enums as strings, times as timestamps, and no field that is None or empty by
default. Beside the fields of the model it holds fields of ours (order, digests, ...), which the
models do not show.
"""

from __future__ import annotations

from enum import Enum
from operator import is_
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from firestate.schema.upgrades import upgrade_document

if TYPE_CHECKING:
    from collections.abc import Mapping

M = TypeVar("M", bound=BaseModel)


def to_document(model: BaseModel) -> dict[str, Any]:
    """Give the fields of `model` as a Firestore document holds them.

    Plain maps and lists are those of the model itself: neither is to be changed.
    """
    fields = {}
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if not info.is_required() and value == info.get_default(call_default_factory=True):
            continue
        fields[name] = _stored(value)
    return fields


def from_document(model: type[M], data: Mapping[str, Any]) -> M:
    """Read a document back; fields that `model` does not have are ours and left out.

    Raises pydantic.ValidationError if the document is none of that kind.
    """
    current = upgrade_document(dict(data))
    return model.model_validate({k: v for k, v in current.items() if k in model.model_fields})


def to_json(model: BaseModel) -> dict[str, Any]:
    """Give `model` as JSON values, times in ISO 8601."""
    return model.model_dump(mode="json")


def from_json(model: type[M], data: Mapping[str, Any]) -> M:
    """Read JSON values back."""
    return model.model_validate(dict(data))


def _stored(value: object) -> object:
    if isinstance(value, BaseModel):
        return to_document(value)
    if isinstance(value, Enum):
        return value.value
    # A user's map is plain already, and can take a hundred times its JSON in memory: not twice.
    if isinstance(value, dict):
        fields = {key: _stored(item) for key, item in value.items()}
        return value if all(map(is_, fields.values(), value.values())) else fields
    if isinstance(value, list):
        items = [_stored(item) for item in value]
        return value if all(map(is_, items, value)) else items
    return value
