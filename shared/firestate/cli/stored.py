"""Finding and reading what is stored for people.

What cannot be read is named, and hides nothing else.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from firestate.cli.output import notes
from firestate.cli.safe_text import safe_lines
from firestate.errors import DamagedDocumentError, SchemaTooNewError
from firestate.queries import first_that_fits
from firestate.schema.documents import from_document
from firestate.schema.messages import problems_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from firestate.queries import Shape
    from firestate.stores.protocol import Store, Stored

M = TypeVar("M", bound=BaseModel)


def look_up(
    store: Store,
    shapes: Sequence[Shape],
    wanted: Mapping[str, object],
    *,
    limit: int | None = None,
    fields: Sequence[str] | None = None,
) -> Iterator[Stored]:
    """Give the documents whose fields are as `wanted` (None: anything; a list: any of these).

    Asked of the store is the first of `shapes` that fits; what that leaves open is filtered here.
    """
    asked = {name: value for name, value in wanted.items() if value is not None}
    shape = first_that_fits(shapes, asked)
    rest = {name: value for name, value in asked.items() if name not in shape.equal}
    if not rest:
        return store.query(shape.query(asked, limit=limit, fields=fields))
    masked = None if fields is None else [*fields, *rest]
    found = store.query(shape.query(asked, fields=masked))
    return islice((each for each in found if _is(each, rest)), limit)


def _is(document: Stored, wanted: Mapping[str, object]) -> bool:
    return all(
        document.data.get(name) in (value if isinstance(value, list) else [value])
        for name, value in wanted.items()
    )


def read_one(model: type[M], stored: Stored) -> M:
    """Read a document; raise DamagedDocumentError with what is wrong with it."""
    try:
        return from_document(model, stored.data)
    except (ValidationError, SchemaTooNewError) as error:
        reasons = problems_in(error) if isinstance(error, ValidationError) else [error]
        message = f"{stored.path} cannot be read: {'; '.join(map(str, reasons))}"
        raise DamagedDocumentError(message) from error


def read_all(model: type[M], documents: Iterable[Stored]) -> Iterator[M]:
    """Read documents; those that cannot be read are left out, with a note."""
    for stored in documents:
        try:
            yield read_one(model, stored)
        except DamagedDocumentError as error:
            note = safe_lines(f"firestate: {error}")
            notes().print(note, style="yellow", markup=False, soft_wrap=True)
