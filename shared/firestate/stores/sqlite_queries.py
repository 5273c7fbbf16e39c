"""Reading what a query finds, page by page, all as of one time.

    indexes of documents ─▶ page ─┐
    past, damaged ones   ─────────┴─▶ in order ─▶ conditions ─▶ merged with the other streams

What is written between two pages is in the past by then, and is found there: the past is read
after the page, so that nothing falls between.
"""

from __future__ import annotations

import heapq
from itertools import islice
from typing import TYPE_CHECKING, Any

from firestate.errors import DamagedDocumentError
from firestate.stores.ordering import matches, sort_key
from firestate.stores.protocol import Query, Stored
from firestate.stores.sqlite_lookups import (
    After,
    damaged_in,
    lies_in,
    order_of,
    page_of,
    past_of,
    streams,
)
from firestate.stores.sqlite_values import decode, time_from_microseconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from firestate.stores.sqlite_file import SqliteFile

    Key = tuple[Any, ...]

_PAGE = 200


def found_by(file: SqliteFile, query: Query, at: int) -> Iterator[Stored]:
    """Return the documents that a query finds, as of the time `at`."""
    found = [_stream(file, each, at) for each in streams(query)]
    merged = (
        found[0]
        if len(found) == 1
        else heapq.merge(*found, key=lambda each: each[0], reverse=query.descending)
    )
    return (masked(stored, query.fields) for _, stored in islice(merged, query.limit))


def stored_in(row: tuple[Any, ...], fields: Sequence[str] | None = None) -> Stored:
    """Return the document of a row (path, time, data)."""
    path, updated_at, text, *_ = row
    try:
        data = decode(text)
    except ValueError as error:
        message = f"{path} is damaged: {error}"
        raise DamagedDocumentError(message) from error
    time = time_from_microseconds(updated_at)
    return masked(Stored(path, data, time, time), fields)


def masked(stored: Stored, fields: Sequence[str] | None) -> Stored:
    """Return a document with some of its top-level fields; None: all."""
    if fields is None:
        return stored
    data = {name: stored.data[name] for name in fields if name in stored.data}
    return Stored(stored.path, data, stored.token, stored.updated_at)


def _stream(file: SqliteFile, query: Query, at: int) -> Iterator[tuple[Key, Stored]]:
    """Return what a query finds with its keys, in their order."""
    size = _PAGE if query.limit is None else min(max(query.limit, 1), _PAGE)
    after: After | None = None
    begin: Key | None = None
    while True:
        statement = page_of(query, at, after, size, file.indexes)
        rows = file.execute(statement.text, statement.values, query.collection)
        other = [
            row
            for each in (past_of(query, at), damaged_in(query, at, file.indexes))
            for row in file.execute(each.text, each.values, query.collection)
        ]
        # Asked afterwards: what was forgotten by now may be missing in what was read.
        file.check_readable(at)
        page = [(_key(stored, query), stored) for stored in map(stored_in, rows)]
        after, end = _next(query, after, rows, page, size)
        if other:
            paths = {stored.path for _, stored in page}
            more = [stored_in(row) for row in other if row[0] not in paths]
            keyed = ((_key(each, query), each) for each in more if lies_in(each.path, query))
            page += [one for one in keyed if _is_within(one[0], begin, end, query)]
            page.sort(key=lambda one: one[0], reverse=query.descending)
        yield from (one for one in page if matches(one[1].data, query.where) and _is_sorted(one[0]))
        if end is None:
            return
        begin, size = end, _PAGE


def _next(
    query: Query,
    after: After | None,
    rows: Sequence[tuple[Any, ...]],
    page: Sequence[tuple[Key, Stored]],
    size: int,
) -> tuple[After | None, Key | None]:
    """Return where the next page begins, and the key up to which all has been read; None: all."""
    if len(rows) == size:
        return After((*rows[-1][3:], rows[-1][0])), page[-1][0]
    if after is None or after.is_rank or not query.order_by or _has_range(query):
        return None, None
    rank = after.columns[0]
    return After((rank,)), ((rank + (-0.5 if query.descending else 0.5), None),)


def _has_range(query: Query) -> bool:
    return any(each.operator not in {"==", "in"} for each in query.where)


def _key(stored: Stored, query: Query) -> Key:
    return (*(sort_key(stored.data, name) for name in order_of(query)), stored.path)


def _is_sorted(key: Key) -> bool:
    return None not in key


def _is_within(key: Key, begin: Key | None, end: Key | None, query: Query) -> bool:
    if not _is_sorted(key):
        return False
    if query.descending:
        return (begin is None or key < begin) and (end is None or key >= end)
    return (begin is None or key > begin) and (end is None or key <= end)
