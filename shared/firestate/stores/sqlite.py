"""The store on SQLite: a file, or memory. It takes and refuses what Firestore takes and refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.stores.ordering import number_in
from firestate.stores.protocol import Create, Query, Snapshot, Stored, Update, Write
from firestate.stores.sqlite_erasure import Erasures
from firestate.stores.sqlite_expiry import ExpiredDocuments
from firestate.stores.sqlite_file import SqliteFile
from firestate.stores.sqlite_queries import found_by, stored_in
from firestate.stores.sqlite_triggers import Rule, TriggerQueue
from firestate.stores.sqlite_values import (
    check,
    check_document_size,
    encode,
    microseconds,
    time_from_microseconds,
)
from firestate.stores.sqlite_writes import applied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from firestate.stores.sqlite_lookups import Index

TOMBSTONE = "deleted"
"""A field of a state that was deleted, and holds nothing else any more."""

_ONE = "SELECT path, updated_at, data FROM documents WHERE path = ?"
_MANY = "SELECT path, updated_at, data FROM documents WHERE path IN ({})"
_MOST_PARAMETERS = 10_000  # SQLite takes 32,766 in one statement
_ONE_AT = """
SELECT path, updated_at, data FROM documents WHERE path = :path AND updated_at <= :at
UNION ALL SELECT path, since, data FROM past
    WHERE kind = :kind AND path = :path AND since <= :at AND until > :at
"""


class SqliteStore:
    """Firestate's store on one SQLite file; `triggers` holds what its commits have set off."""

    def __init__(
        self,
        path: Path | None = None,
        rules: Sequence[Rule] = (),
        indexes: Sequence[Index] = (),
        *,
        clock: Callable[[], datetime] | None = None,
        read_only: bool = False,
    ) -> None:
        """Open the file `path`, or memory; `clock` is to be replaced by tests alone.

        Who writes to an engine's file gives its `rules`, or sets nothing off. The file has the
        `indexes` from then on. A file that is `read_only` is looked at, and stays as it is. Raises
        StateFileError where the file cannot be used.
        """
        self._file = SqliteFile(
            path, clock, [each.creation for each in indexes], read_only=read_only
        )
        self.triggers = TriggerQueue(self._file, rules)
        self.erasures = Erasures(self._file)
        self.expired = ExpiredDocuments(self._file, self.commit)

    def copy_to(self, path: Path) -> bool:
        """Copy all to a new file, also where its own was removed; False where there is one."""
        return self._file.copy_to(path)

    def close(self) -> None:
        """Close the file; what is in memory is gone."""
        self._file.close()

    def read(
        self, path: str, fields: Sequence[str] | None = None, *, at: datetime | None = None
    ) -> Stored | None:
        """Read a document, or only some of its top-level fields; None where there is none."""
        if at is None:
            rows = self._file.execute(_ONE, (path,), path)
        else:
            values = {"path": path, "kind": _kind(path), "at": microseconds(at)}
            rows = self._file.execute(_ONE_AT, values, path)
            self._file.check_readable(microseconds(at))
        return stored_in(rows[0], fields) if rows else None

    def read_many(
        self, paths: Sequence[str], fields: Sequence[str] | None = None
    ) -> dict[str, Stored]:
        """Read documents in one round trip; give those that are there by their paths."""
        # One statement: of a document that is moved from one path to another, both or neither
        # could else be missed. By parameters, since JSON's functions cut a text at a NUL.
        found: list[tuple[Any, ...]] = []
        for start in range(0, len(paths), _MOST_PARAMETERS):
            some = list(paths[start : start + _MOST_PARAMETERS])
            places = ", ".join("?" * len(some))
            found += self._file.execute(_MANY.format(places), some, some[0])
        return {each.path: each for each in (stored_in(row, fields) for row in found)}

    def commit(self, writes: Sequence[Write]) -> datetime:
        """Do all of `writes` or none; return the time of the commit."""
        with self._file.transaction(", ".join(write.path for write in writes)) as at:
            for write in writes:
                self._write(write, at)
        return time_from_microseconds(at)

    def query(self, query: Query, *, at: datetime | None = None) -> Iterator[Stored]:
        """Give the documents found one by one, in bounded memory, all as of one time."""
        moment = self._file.last() if at is None else microseconds(at)
        return found_by(self._file, query, moment)

    def snapshot(self, query: Query) -> Snapshot:
        """Give the documents found and the time as of which they were so."""
        at = time_from_microseconds(self._file.last())
        return Snapshot(list(self.query(query, at=at)), at)

    def total(self, query: Query, *, at: datetime | None = None) -> dict[str, int]:
        """Give each of the query's sums by its name, or, where it has none, the `count`."""
        if not query.sums:
            return {"count": sum(1 for _ in self.query(query, at=at))}
        totals: dict[str, Any] = dict.fromkeys(query.sums, 0)
        for each in self.query(query, at=at):
            for name in query.sums:
                totals[name] += number_in(each.data, name)
        return {name: int(total) for name, total in totals.items()}

    def size(self) -> int:
        """Return the bytes of the file, without its journal."""
        ((pages, page),) = self._file.execute(
            "SELECT page_count, page_size FROM pragma_page_count, pragma_page_size"
        )
        return int(pages * page)

    def last_commit(self) -> int:
        """Return a number that grows with each commit, by whichever process: unchanged, unread."""
        return self._file.last()

    def now(self) -> datetime:
        """Give the store's own present; every later commit has a later time."""
        if self._file.read_only:
            return time_from_microseconds(self._file.last())
        with self._file.transaction("the clock") as at:
            return time_from_microseconds(at)

    def _write(self, write: Write, at: int) -> None:
        if isinstance(write, Create | Update):
            check(write.path, write.data)
        if isinstance(write, Create):
            self._put(write.path, write.data, at, None)
            return
        rows = self._file.execute(_ONE, (write.path,))
        known = stored_in(rows[0]) if rows else None
        after = applied(write, known, time_from_microseconds(at))
        if after is None:
            self._keep_past(write.path, at, rows[0][2])
            self._file.execute("DELETE FROM documents WHERE path = ?", (write.path,))
            self.erasures.note(write.path, at)
        else:
            self._put(write.path, after, at, rows[0][2] if rows else None)

    def _put(self, path: str, data: Mapping[str, Any], at: int, before: str | None) -> None:
        text = encode(data)
        if text == before:
            return  # what changes nothing keeps the document's time, and sets nothing off
        check_document_size(path, data, text)
        if before is None:
            self._file.execute(
                "INSERT INTO documents (path, kind, updated_at, data) VALUES (?, ?, ?, ?)",
                (path, _kind(path), at, text),
                path,
            )
        else:
            self._keep_past(path, at, before)
            self._file.execute(
                "UPDATE documents SET updated_at = ?, data = ? WHERE path = ?", (at, text, path)
            )
        self.triggers.note(path, data, at, created=before is None)
        if data.get(TOMBSTONE) is True:
            # A later version counts in place of the earlier ones: these may go uncounted.
            self.triggers.forget(path, at)
            self.erasures.note(path, at)

    def _keep_past(self, path: str, at: int, before: str) -> None:
        self._file.remembered += len(before)
        self._file.execute(
            "INSERT INTO past SELECT path, kind, updated_at, ?, data FROM documents "
            "WHERE path = ? AND updated_at < ?",
            (at, path, at),
        )


def _kind(path: str) -> str:
    return path.rpartition("/")[0].rpartition("/")[2]
