"""Queries as SQL, over indexes of what the documents hold.

SQL narrows and sorts, Python decides: what a statement finds is a superset in the right order, and
`matches` has the last word on each document. So a value that SQL cannot compare as Firestore does
is left out of the statement, and costs time alone.

An index is over expressions of the stored text. An earlier release that writes to the same file
keeps it up to date too, since SQLite does. A field is sorted by two columns, as Firestore has it:
the rank of its type, then its value (of a text what comes before a NUL: no field that a query is
sorted by can hold one).
"""

# ruff: noqa: S608 - statements are put together of texts of this module and of names of fields

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from firestate.stores.ordering import type_rank
from firestate.stores.protocol import Query, Where
from firestate.stores.sqlite_values import encode, microseconds

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

DAMAGED_INDEX = "documents_damaged"
_DAMAGED = "CASE WHEN json_valid(data) THEN json_type(data) <> 'object' ELSE 1 END"
_PREFIX = "lookup_1"  # a later release that changes the expressions counts up
_MOST_STREAMS = 64
_AFTER_SLASH = "0"  # the character after "/": the end of all paths below a collection

PREPARE = (
    f"CREATE INDEX IF NOT EXISTS {DAMAGED_INDEX} ON documents (kind, path) WHERE {_DAMAGED}",
    "CREATE INDEX IF NOT EXISTS past_by_until ON past (kind, until)",
)
"""The indexes of every file, whatever is looked up in it."""


class Index(NamedTuple):
    """An index of one collection: documents by the fields `equal`, in the order of `order_by`."""

    collection: str
    equal: tuple[str, ...]
    order_by: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the index in the file."""
        return "_".join((_PREFIX, self.collection, *self.equal, "by", *self.order_by))

    @property
    def creation(self) -> str:
        """The statement that makes it."""
        columns = [_value(name) for name in self.equal]
        columns += [each for name in self.order_by for each in _order(name)]
        return (
            f"CREATE INDEX IF NOT EXISTS {self.name} ON documents ({', '.join([*columns, 'path'])})"
            f" WHERE kind = {_quoted(self.collection)}"
        )


class Statement(NamedTuple):
    """A statement that gives (path, time, data) and then the columns of the order."""

    text: str
    values: dict[str, Any]


def index_for(query: Query) -> Index:
    """Return the index that a query without `in` reads along."""
    equal = tuple(each.field for each in query.where if each.operator == "==")
    return Index(query.collection, equal, order_of(query))


def order_of(query: Query) -> tuple[str, ...]:
    """Return the fields that a query is sorted by: where it names none, that of its range."""
    ranges = [each.field for each in query.where if each.operator not in {"==", "in"}]
    return tuple(query.order_by) or tuple(dict.fromkeys(ranges))


def streams(query: Query) -> list[Query]:
    """Return queries that ask for one value where `query` asks for any of a list.

    Each can be read along its index; what they find, merged, is what `query` finds.
    """
    choices = [
        [Where(each.field, "==", value) for value in _distinct(each.value)]
        if each.operator == "in"
        else [each]
        for each in query.where
    ]
    if math.prod(map(len, choices)) > _MOST_STREAMS:
        return [query]
    return [replace(query, where=list(where)) for where in product(*choices)]


class After(NamedTuple):
    """Where a page begins: behind a document, or behind all that are sorted by values of a type.

    `columns` are those of the order, and the path, of the last document of the former page; or,
    alone, the rank of the type.
    """

    columns: tuple[Any, ...]

    @property
    def is_rank(self) -> bool:
        """Whether all of this rank, and of those before it, have been read."""
        return len(self.columns) == 1 and not isinstance(self.columns[0], str)


def page_of(
    query: Query, at: int, after: After | None, size: int, indexes: Collection[str]
) -> Statement:
    """Return the statement for the next `size` documents of a query, as of the time `at`."""
    order = order_of(query)
    columns = [each for name in order for each in _order(name)]
    values: dict[str, Any] = {"at": at, "size": size}
    terms = [f"kind = {_quoted(_kind(query))}", "updated_at <= :at"]
    if not query.group:
        # Where the order is that of the paths, they are what the index is read by.
        path = "+path" if order else "path"
        values |= {"low": f"{query.collection}/", "high": f"{query.collection}{_AFTER_SLASH}"}
        terms += [f"{path} > :low", f"{path} < :high"]
    for number, each in enumerate(query.where):
        terms += _condition(each, f"v{number}", values)
    terms += [f"{_order(name)[0]} IS NOT NULL" for name in query.order_by]
    fixed = {each.field for each in query.where if each.operator not in {"==", "in"}}
    sorted_by = [*columns, "path"]
    if after is not None:
        terms += _behind(after, sorted_by, values, descending=query.descending)
    if order and (order[0] in fixed or (after and not after.is_rank)):
        sorted_by = sorted_by[1:]  # all have this rank: SQLite does not see that by itself
    way = " DESC" if query.descending else ""
    index = index_for(query)
    hint = f" INDEXED BY {index.name}" if index.name in indexes else ""
    text = (
        f"SELECT {', '.join(['path', 'updated_at', 'data', *columns])} FROM documents{hint}"
        f" WHERE {' AND '.join(terms)}"
        f" ORDER BY {', '.join(f'{each}{way}' for each in sorted_by)} LIMIT :size"
    )
    return Statement(text, values)


def _behind(
    after: After, columns: Sequence[str], values: dict[str, Any], *, descending: bool
) -> list[str]:
    names = [f"a{number}" for number in range(len(after.columns))]
    values |= dict(zip(names, after.columns, strict=True))
    sign = "<" if descending else ">"
    if after.is_rank:
        return [f"{columns[0]} {sign} :a0"]
    if len(columns) == 1:
        return [f"path {sign} :a0"]
    # Of a comparison of several columns SQLite reads no index: the first one is said by itself.
    rest, places = ", ".join(columns[1:]), ", ".join(f":{name}" for name in names[1:])
    return [
        f"{columns[0]} = :a0",
        f"{columns[1]} {sign}= :a1",
        f"({rest}) {sign} ({places})",
    ]


def past_of(query: Query, at: int) -> Statement:
    """Return the statement for what was so at the time `at`, and has been written since."""
    values = {"kind": _kind(query), "at": at}
    return Statement(
        "SELECT path, since, data FROM past WHERE kind = :kind AND until > :at AND since <= :at",
        values,
    )


def damaged_in(query: Query, at: int, indexes: Collection[str]) -> Statement:
    """Return the statement for the documents that SQL cannot look into."""
    hint = f" INDEXED BY {DAMAGED_INDEX}" if DAMAGED_INDEX in indexes else ""
    return Statement(
        f"SELECT path, updated_at, data FROM documents{hint}"
        f" WHERE kind = :kind AND updated_at <= :at AND {_DAMAGED}",
        {"kind": _kind(query), "at": at},
    )


def lies_in(path: str, query: Query) -> bool:
    """Whether a document, whose kind is that of the query, lies in its collection."""
    return query.group or path.rpartition("/")[0] == query.collection


def _kind(query: Query) -> str:
    return query.collection.rpartition("/")[2]


def _distinct(values: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if not any(type_rank(value) == type_rank(each) and value == each for each in found):
            found.append(value)
    return found


def _condition(each: Where, name: str, values: dict[str, Any]) -> list[str]:
    """Return what SQL can say of a condition; its value goes into `values`."""
    value = each.value
    # JSON's functions cut a text at a NUL.
    cut = isinstance(value, str) and "\0" in value
    comparable = not cut and not isinstance(value, dict | list | bytes)
    if each.operator == "in":
        return []
    if each.operator == "==":
        if value is None:
            return [f"{_value(each.field)} IS NULL"]
        if not comparable:
            return []
        values[name] = encode({"": value})[4:-1] if isinstance(value, datetime) else value
        return [f"{_value(each.field)} = :{name}"]
    rank, column = _order(each.field)
    values[f"{name}r"] = type_rank(value)
    if not comparable:
        return [f"{rank} = :{name}r"]
    values[name] = microseconds(value) if isinstance(value, datetime) else value
    if value is None:
        values[name] = 0
    return [f"{rank} = :{name}r", f"{column} {each.operator} :{name}"]


def _place(field: str) -> str:
    return "$" + "".join(f'."{name}"' for name in field.split("."))


def _value(field: str) -> str:
    """Return the expression for a field that is asked for one value; a time is its JSON."""
    where = _quoted(_place(field))
    return f"CASE WHEN json_valid(data) THEN json_extract(data, {where}) END"


def _order(field: str) -> tuple[str, str]:
    """Return the expressions that a field is sorted by; the first is NULL where it is not there."""
    where, time, octets = (
        _quoted(_place(field) + ending) for ending in ("", '."__time__"', '."__bytes__"')
    )
    rank = (
        f"CASE WHEN json_valid(data) THEN CASE json_type(data, {where})"
        " WHEN 'null' THEN 0 WHEN 'true' THEN 1 WHEN 'false' THEN 1 WHEN 'integer' THEN 2"
        " WHEN 'real' THEN 2 WHEN 'text' THEN 4 WHEN 'array' THEN 6 WHEN 'object' THEN"
        f" CASE WHEN json_type(data, {time}) IS NOT NULL THEN 3"
        f" WHEN json_type(data, {octets}) IS NOT NULL THEN 5 ELSE 7 END END END"
    )
    value = (
        "CASE WHEN json_valid(data) THEN"
        f" coalesce(json_extract(data, {time}), json_extract(data, {where}), 0) END"
    )
    return rank, value


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
