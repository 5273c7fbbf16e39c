"""A file of the local engine as a source: what is stored on one machine moves to the cloud.

Its states, events and controls move, and are counted anew there. Tombstones, quarantine and the
counters stay behind. The file is opened for reading alone; its digest is over the documents.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from firestate.errors import ConfigurationError, DamagedDocumentError, FirestateError
from firestate.migration.decoding import Unreadable
from firestate.migration.opening import Opened
from firestate.migration.readers.system_config import controls_record
from firestate.migration.records import Kind, Record, Refusal
from firestate.migration.sources import Listed
from firestate.queries import ALL_EVENTS, ALL_STATES
from firestate.schema.documents import from_document, to_document
from firestate.schema.ids import CONTROLS
from firestate.schema.messages import problems_in
from firestate.schema.models import AgentState, CoordinationEvent
from firestate.schema.values import canonical_json, digest
from firestate.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from firestate.stores.protocol import Stored

FORMAT = "firestate"


class EngineFile:
    """The documents of one local engine."""

    def __init__(self, path: Path) -> None:
        """Name the file."""
        self.label = str(path.resolve())
        self._path = path

    def list(self) -> Iterator[Listed]:
        """Give the one file."""
        found = self._path.stat()
        date = datetime.fromtimestamp(int(found.st_mtime), UTC)
        yield Listed(self._path.name, found.st_size, date)

    def open(self, name: str, date: datetime | None = None) -> Opened:  # noqa: ARG002 - there is one
        """Read it through once for its digest; raise Unreadable where it is none of ours."""
        found = hashlib.sha256()
        try:
            for stored in self._documents():
                found.update(stored.path.encode() + b"\0" + canonical_json(stored.data))
        except (ConfigurationError, FirestateError, TypeError) as error:
            raise Unreadable(
                "line 1 column 1",
                f"is a database that no local engine of this release has made: {error}",
                "name a file that StateManager or the command line has written",
            ) from error
        return Opened(found.hexdigest(), date or datetime.now(UTC), FORMAT, self._records)

    def _documents(self) -> Iterator[Stored]:
        store = SqliteStore(self._path)
        try:
            for shape in (ALL_STATES, ALL_EVENTS):
                yield from store.query(shape.query())
            if (controls := store.read(CONTROLS)) is not None:
                yield controls
        finally:
            store.close()

    def _records(self) -> Iterator[Record | Refusal]:
        for stored in self._documents():
            if stored.path == CONTROLS:
                yield controls_record(stored.data)
            elif not stored.data.get("deleted"):
                yield _record(stored)


def _record(stored: Stored) -> Record | Refusal:
    of_state = "agent_id" in stored.data
    model: Any = AgentState if of_state else CoordinationEvent
    try:
        fields = to_document(from_document(model, stored.data))
    except (ValidationError, FirestateError, DamagedDocumentError) as error:
        problems = problems_in(error) if isinstance(error, ValidationError) else [error]
        return Refusal(stored.path, "; ".join(map(str, problems[:3])), "mend it, or delete it")
    kind = Kind.STATE if of_state else Kind.EVENT
    return Record(kind, stored.path, fields, {}, (), (), digest(fields))
