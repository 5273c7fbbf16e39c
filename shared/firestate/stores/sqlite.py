"""The store on SQLite: a file, or memory. It takes and refuses what Firestore takes and refuses."""

from __future__ import annotations

import heapq
from itertools import islice
from typing import TYPE_CHECKING, Any

from firestate.errors import DamagedDocumentError
from firestate.stores.ordering import matches, number_in, sort_key
from firestate.stores.protocol import Create, Query, Snapshot, Stored, Update, Write
from firestate.stores.sqlite_file import SqliteFile
from firestate.stores.sqlite_triggers import Rule, TriggerQueue
from firestate.stores.sqlite_values import (
    check,
    check_document_size,
    decode,
    encode,
    microseconds,
    time_from_microseconds,
)
from firestate.stores.sqlite_writes import applied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

_PAGE = 200
_AFTER_SLASH = "0"  # the character after "/": the end of all paths below a collection

_ONE = "SELECT path, updated_at, data FROM documents WHERE path = ?"
_MANY = "SELECT path, updated_at, data FROM documents WHERE path IN ({})"
_MOST_PARAMETERS = 10_000  # SQLite takes 32,766 in one statement
_AT = """
SELECT path, updated_at, data FROM documents
    WHERE kind = :kind AND path > :after AND path < :end AND updated_at <= :at
UNION ALL SELECT path, since, data FROM past
    WHERE kind = :kind AND path > :after AND path < :end AND since <= :at AND until > :at
ORDER BY path LIMIT :page
"""
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
        *,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        """Open the file `path`, or memory; `clock` is to be replaced by tests alone.

        Who writes to an engine's file gives its `rules`, or sets nothing off. Raises
        ConfigurationError where the file cannot be used.
        """
        self._file = SqliteFile(path, clock)
        self.triggers = TriggerQueue(self._file, rules)

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
        return _stored(rows[0], fields) if rows else None

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
        return {each.path: each for each in (_stored(row, fields) for row in found)}

    def commit(self, writes: Sequence[Write]) -> datetime:
        """Do all of `writes` or none; return the time of the commit."""
        with self._file.transaction(", ".join(write.path for write in writes)) as at:
            for write in writes:
                self._write(write, at)
        return time_from_microseconds(at)

    def query(self, query: Query, *, at: datetime | None = None) -> Iterator[Stored]:
        """Give the documents found one by one, in bounded memory, all as of one time."""
        moment = self._file.last() if at is None else microseconds(at)
        every = self._all(query, moment)
        found: Iterable[Stored] = (one for one in every if matches(one.data, query.where))
        if query.order_by:
            found = _ordered(found, query)
        for each in islice(found, query.limit):
            yield _masked(each, query.fields)

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

    def now(self) -> datetime:
        """Give the store's own present; every later commit has a later time."""
        with self._file.transaction("the clock") as at:
            return time_from_microseconds(at)

    def _all(self, query: Query, at: int) -> Iterator[Stored]:
        kind = query.collection.rpartition("/")[2]
        after, end = ("", "\U0010ffff") if query.group else _below(query.collection)
        while True:
            values = {"kind": kind, "after": after, "end": end, "at": at, "page": _PAGE}
            rows = self._file.execute(_AT, values, query.collection)
            # Asked afterwards: what was forgotten by now may be missing in what was read.
            self._file.check_readable(at)
            for row in rows:
                yield _stored(row)
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

    def _write(self, write: Write, at: int) -> None:
        if isinstance(write, Create | Update):
            check(write.path, write.data)
        if isinstance(write, Create):
            self._put(write.path, write.data, at, None)
            return
        rows = self._file.execute(_ONE, (write.path,))
        known = _stored(rows[0]) if rows else None
        after = applied(write, known, time_from_microseconds(at))
        if after is None:
            self._keep_past(write.path, at, rows[0][2])
            self._file.execute("DELETE FROM documents WHERE path = ?", (write.path,))
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

    def _keep_past(self, path: str, at: int, before: str) -> None:
        self._file.remembered += len(before)
        self._file.execute(
            "INSERT INTO past SELECT path, kind, updated_at, ?, data FROM documents "
            "WHERE path = ? AND updated_at < ?",
            (at, path, at),
        )


def _kind(path: str) -> str:
    return path.rpartition("/")[0].rpartition("/")[2]


def _below(collection: str) -> tuple[str, str]:
    return f"{collection}/", f"{collection}{_AFTER_SLASH}"


def _stored(row: tuple[Any, ...], fields: Sequence[str] | None = None) -> Stored:
    path, updated_at, text = row
    try:
        data = decode(text)
    except ValueError as error:
        message = f"{path} is damaged: {error}"
        raise DamagedDocumentError(message) from error
    time = time_from_microseconds(updated_at)
    return _masked(Stored(path, data, time, time), fields)


def _masked(stored: Stored, fields: Sequence[str] | None) -> Stored:
    if fields is None:
        return stored
    data = {name: stored.data[name] for name in fields if name in stored.data}
    return Stored(stored.path, data, stored.token, stored.updated_at)


def _ordered(found: Iterable[Stored], query: Query) -> list[Stored]:
    keyed = (
        ((*keys, each.path), each)
        for each in found
        if None not in (keys := [sort_key(each.data, name) for name in query.order_by])
    )
    if query.limit is None:
        ranked = sorted(keyed, key=lambda one: one[0], reverse=query.descending)
    else:
        pick = heapq.nlargest if query.descending else heapq.nsmallest
        ranked = pick(query.limit, keyed, key=lambda one: one[0])
    return [each for _, each in ranked]
