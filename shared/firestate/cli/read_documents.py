"""Reading what is stored for people.

What cannot be read is named, and hides nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from firestate.cli.output import notes
from firestate.cli.terminal_text import safe_lines
from firestate.errors import DamagedDocumentError, SchemaTooNewError
from firestate.schema.messages import problems_in
from firestate.schema.serialization import from_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from firestate.stores.protocol import Stored

M = TypeVar("M", bound=BaseModel)


def read_document(model: type[M], stored: Stored) -> M:
    """Read a document; raise DamagedDocumentError with what is wrong with it."""
    try:
        return from_document(model, stored.data)
    except (ValidationError, SchemaTooNewError) as error:
        reasons = problems_in(error) if isinstance(error, ValidationError) else [error]
        message = f"{stored.path} cannot be read: {'; '.join(map(str, reasons))}"
        raise DamagedDocumentError(message) from error


def read_documents(model: type[M], documents: Iterable[Stored]) -> Iterator[M]:
    """Read documents; those that cannot be read are left out, with a note."""
    for stored in documents:
        try:
            yield read_document(model, stored)
        except DamagedDocumentError as error:
            note = safe_lines(f"firestate: {error}")
            notes().print(note, style="yellow", markup=False, soft_wrap=True)
