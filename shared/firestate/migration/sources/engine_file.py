"""A file of the local engine as a source: what is stored on one machine moves to the cloud.

Its states, events and controls move, and are counted anew there. Tombstones, quarantine and the
counters stay behind. It is read from a copy; its digest is over the documents.
"""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from firestate.errors import ConfigurationError, FirestateError
from firestate.migration.formats.decoding import Unreadable
from firestate.migration.formats.detection import OpenedFile
from firestate.migration.formats.readers.system_config import controls_record
from firestate.migration.formats.records import Record, RecordKind, Refusal
from firestate.migration.sources.source import ListedFile
from firestate.queries import ALL_EVENTS, ALL_STATES, PARTS_OF_OLD
from firestate.schema.ids import CONTROLS
from firestate.schema.messages import problems_in
from firestate.schema.models import AgentState, CoordinationEvent
from firestate.schema.serialization import from_document, to_document
from firestate.schema.values import canonical_json, digest
from firestate.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firestate.stores.protocol import Stored

FORMAT = "firestate"


class EngineFile:
    """The documents of one local engine."""

    def __init__(self, path: Path) -> None:
        """Name the file."""
        self.label = str(path.resolve())
        self._path = path

    def list(self) -> Iterator[ListedFile]:
        """Give the one file."""
        found = self._path.stat()
        date = datetime.fromtimestamp(int(found.st_mtime), UTC)
        yield ListedFile(self._path.name, found.st_size, date)

    def open(self, name: str, date: datetime | None = None) -> OpenedFile:  # noqa: ARG002 - there is one
        """Read it through once for its digest; raise Unreadable where it is none of ours."""
        found = hashlib.sha256()
        with self._copied() as store:
            try:
                for stored in _documents(store):
                    found.update(stored.path.encode() + b"\0" + canonical_json(stored.data))
            except (FirestateError, TypeError) as error:
                raise _foreign(str(error)) from error
        return OpenedFile(found.hexdigest(), date or datetime.now(UTC), FORMAT, self._records)

    @contextmanager
    def _copied(self) -> Iterator[SqliteStore]:
        """Open a copy: an engine may be at work on the file, and reading it is not to change it."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "copy.db"
            try:
                with (
                    closing(
                        sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True)
                    ) as old,
                    closing(sqlite3.connect(path)) as new,
                ):
                    old.execute("SELECT path FROM documents LIMIT 1")
                    old.backup(new)
                store = SqliteStore(path)
            except (sqlite3.Error, ConfigurationError) as error:
                raise _foreign(str(error)) from error
            try:
                yield store
            finally:
                store.close()

    def _records(self) -> Iterator[Record | Refusal]:
        with self._copied() as store:
            for stored in _documents(store):
                if stored.path == CONTROLS:
                    yield controls_record(stored.data)
                elif not stored.data.get("deleted"):
                    yield _record(stored, store)


def _documents(store: SqliteStore) -> Iterator[Stored]:
    for shape in (ALL_STATES, ALL_EVENTS):
        yield from store.query(shape.query())
    if (controls := store.read(CONTROLS)) is not None:
        yield controls


def _record(stored: Stored, store: SqliteStore) -> Record | Refusal:
    of_state = "agent_id" in stored.data
    model: Any = AgentState if of_state else CoordinationEvent
    try:
        fields = to_document(from_document(model, stored.data))
    except (ValidationError, FirestateError) as error:
        problems = problems_in(error) if isinstance(error, ValidationError) else [error]
        return Refusal(stored.path, "; ".join(map(str, problems[:3])), "mend it, or delete it")
    parts = {
        part.id: part.data["data"]
        for part in store.query(PARTS_OF_OLD.query(under=stored.path))
        if isinstance(part.data.get("data"), bytes)
    }
    return Record(
        RecordKind.STATE if of_state else RecordKind.EVENT,
        stored.path,
        fields,
        {},
        (),
        (),
        digest(fields),
        stored=True,
        parts=parts,
    )


def _foreign(reason: str) -> Unreadable:
    return Unreadable(
        "line 1 column 1",
        f"is a database that no local engine of this release has made: {reason}",
        "name a file that StateManager or the command line has written",
    )
