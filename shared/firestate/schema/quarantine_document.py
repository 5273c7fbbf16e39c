"""What `quarantine/{id}` holds: a message that was refused, why, and what became of it since."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, Strict

from firestate.schema.field_types import UtcTime

Number = Annotated[int, Strict(), Field(ge=0)]


class Fault(BaseModel):
    """One thing wrong with the message."""

    field: str
    reason: str


class Attribute(BaseModel):
    """One attribute of the Pub/Sub message: any text can be its name, so it is no key of a map."""

    name: str
    value: str


class QuarantineDocument(BaseModel):
    """The document of a refused message; its bytes are in the parts.

    `waiting` says that it was refused, and not replayed since; `released` that an operator lets it
    in though it says `migration: true`. `writer` is the attribute of that name: the folder that has
    sent it, which watches for it.
    """

    id: str
    topic: str
    code: str
    errors: list[Fault]
    attributes: list[Attribute]
    size: Number
    sha256: str
    parts: Number
    deliveries: Number
    waiting: Annotated[bool, Strict()]
    replays: Number
    first_seen: UtcTime
    last_seen: UtcTime
    replayed_at: UtcTime | None = None
    released: Annotated[bool, Strict()] = False
    writer: str | None = None
