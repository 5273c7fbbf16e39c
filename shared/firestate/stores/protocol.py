"""What Firestate needs of a store, and no more.

Documents have paths (`agent_states/x`) and plain Python values: None, bool, int, float, str,
datetime in UTC, lists, maps. A commit is atomic and takes four kinds of writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

Token = Any
"""Which state of a document was read; opaque, kept as the store gave it."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A document as read (only the fields asked for), and the state that it was in."""

    path: str
    data: dict[str, Any]
    token: Token
    updated_at: datetime

    @property
    def id(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Create:
    """Make a document; ExistsError, a ConflictError, if it is there already."""

    path: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Update:
    """Set whole top-level fields and remove others; ConflictError unless still as `token` says."""

    path: str
    token: Token
    data: Mapping[str, Any]
    removed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Add:
    """Add whole numbers, at any depth, to a document that need not be there yet.

    `stamped` names maps (as paths) that get the time of the commit in their field `at`.
    """

    path: str
    counts: Mapping[str, Any]
    stamped: Sequence[tuple[str, ...]] = ()


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove fields at any depth (as paths), or the whole document where none is named.

    ConflictError unless the document is still as `token` says.
    """

    path: str
    token: Token
    fields: Sequence[tuple[str, ...]] = ()


Write = Create | Update | Add | Remove


def changed_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Give the fields of `new` that differ from `old`: what is to be written."""
    return {name: value for name, value in new.items() if old.get(name) != value}


def replacing(stored: Stored | None, path: str, document: Mapping[str, Any]) -> list[Write]:
    """Give the write that makes `document` of what is stored, on condition that it still is.

    Gives none where that is how it is already.
    """
    if stored is None:
        return [Create(path, document)]
    changes = changed_fields(stored.data, document)
    return [Update(path, stored.token, changes)] if changes else []


class Where(NamedTuple):
    """One condition of a query: a field (dotted), `==`, `<`, `<=`, `>`, `>=` or `in`, a value."""

    field: str
    operator: str
    value: Any


@dataclass(frozen=True, slots=True)
class Query:
    """Documents of one collection, or with `group` of all collections of that name.

    `order_by` are fields, all in one direction; `sums` (dotted) fields that a total adds up.
    """

    collection: str
    where: Sequence[Where] = ()
    order_by: Sequence[str] = ()
    descending: bool = False
    limit: int | None = None
    fields: Sequence[str] | None = None
    sums: Sequence[str] = ()
    group: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a query found, all as of one time."""

    documents: list[Stored]
    read_at: datetime


class Store(Protocol):
    """A document store; whatever goes wrong in it is raised as a StoreError.

    Where it cannot be used before somebody does something, such as create the database, that is a
    ConfigurationError.
    """

    def read(
        self, path: str, fields: Sequence[str] | None = None, *, at: datetime | None = None
    ) -> Stored | None:
        """Read a document, or only some of its top-level fields; None where there is none."""
        ...

    def read_many(
        self, paths: Sequence[str], fields: Sequence[str] | None = None
    ) -> dict[str, Stored]:
        """Read documents in one round trip; give those that are there by their paths."""
        ...

    def commit(self, writes: Sequence[Write]) -> datetime:
        """Do all of `writes` or none; return the time of the commit."""
        ...

    def query(self, query: Query, *, at: datetime | None = None) -> Iterator[Stored]:
        """Give the documents found one by one, in bounded memory."""
        ...

    def snapshot(self, query: Query) -> Snapshot:
        """Give the documents found and the time as of which they were so."""
        ...

    def total(self, query: Query, *, at: datetime | None = None) -> dict[str, int]:
        """Give each of the query's sums by its name, or, where it has none, the `count`."""
        ...

    def now(self) -> datetime:
        """Give the store's own present, fit for the `at` of reads that are to agree."""
        ...
