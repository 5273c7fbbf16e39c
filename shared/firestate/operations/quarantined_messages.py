"""What is in quarantine: read whole, with its bytes, and dropped."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from firestate.errors import DamagedDocumentError, SchemaTooNewError
from firestate.pipeline.quarantine import quarantine_parts
from firestate.pipeline.retry import retry_on_conflict
from firestate.queries import PARTS_OF_KEPT
from firestate.schema.ids import quarantine_path
from firestate.schema.messages import problems_in
from firestate.schema.quarantine_document import QuarantineDocument
from firestate.schema.serialization import from_document
from firestate.stores.protocol import Remove, Stored

if TYPE_CHECKING:
    from firestate.stores.protocol import Store


@dataclass(frozen=True, slots=True)
class QuarantinedMessage:
    """A refused message: its document, as stored and as read, and its bytes."""

    stored: Stored
    document: QuarantineDocument
    data: bytes


def read_quarantined(store: Store, quarantine_id: str) -> QuarantinedMessage | None:
    """Read a message of the quarantine; None where there is none of this id.

    Raises DamagedDocumentError where the bytes are not those that came, or the document is none.
    """
    stored = store.read(quarantine_path(quarantine_id))
    if stored is None:
        return None
    try:
        document = from_document(QuarantineDocument, stored.data)
    except (ValidationError, SchemaTooNewError) as error:
        reasons = problems_in(error) if isinstance(error, ValidationError) else [error]
        message = f"{stored.path} cannot be read: {'; '.join(map(str, reasons))}"
        raise DamagedDocumentError(message) from error
    found = store.query(PARTS_OF_KEPT.query(under=stored.path))
    pieces = [part.data.get("data") for part in sorted(found, key=lambda part: part.path)]
    data = b"".join(piece for piece in pieces if isinstance(piece, bytes))
    if len(data) != document.size:
        message = f"{stored.path}: its parts hold {len(data):,} bytes, it had {document.size:,}"
        raise DamagedDocumentError(message)
    if hashlib.sha256(data).hexdigest() != document.sha256:
        message = f"{stored.path}: its parts hold other bytes than those that came (sha256)"
        raise DamagedDocumentError(message)
    return QuarantinedMessage(stored, document, data)


def drop_quarantined(store: Store, quarantine_id: str) -> bool:
    """Remove a message with its bytes in one commit, damaged or not; give whether it was there.

    A redelivery that has just read the document is refused by this, reads again and makes it
    anew, whole. If it comes first, then this is refused, and drops what was refused again.
    """
    path = quarantine_path(quarantine_id)

    def attempt() -> bool:
        stored = store.read(path, ["id"])
        if stored is None:
            return False
        # In this order: parts that were made anew since belong to a document that was, too, and
        # the token refuses that.
        removed = [stored, *quarantine_parts(store, path)]
        store.commit([Remove(each.path, each.token) for each in removed])
        return True

    return retry_on_conflict(path, attempt)
