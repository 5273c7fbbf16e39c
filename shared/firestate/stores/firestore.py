"""The store on Firestore, through Google's client library.

Reads and commits with preconditions take two round trips and hold no locks; who loses a race is
told so by ConflictError and reads again.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from google.api_core import exceptions as gcp
from google.auth import exceptions as auth
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter

from firestate.errors import (
    ConflictError,
    ExistsError,
    RefusedError,
    StoreError,
    UnavailableError,
)
from firestate.google_errors import FIRESTORE, fault_of_setup
from firestate.stores.protocol import Add, Create, Query, Remove, Snapshot, Stored, Update, Write

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from google.cloud.firestore_v1.base_document import DocumentSnapshot

    from firestate.stores.protocol import Token


class FirestoreStore:
    """Firestate's store on one Firestore database."""

    def __init__(self, client: firestore.Client, *, timeout_seconds: float | None = None) -> None:
        """Take a client; it says which project and, by its environment, which emulator.

        With a timeout, a read that takes longer raises UnavailableError, and none is tried twice;
        without, Google's client goes on trying for minutes, as is right for a function.
        """
        self._client = client
        self._limits: dict[str, Any] = (
            {} if timeout_seconds is None else {"timeout": timeout_seconds, "retry": None}
        )

    @property
    def project(self) -> str:
        """The project that the documents are in."""
        return self._client.project

    def close(self) -> None:
        """Close the connection; reads that are under way on it fail."""
        self._client.close()  # type: ignore[no-untyped-call] # Google's

    def read(
        self, path: str, fields: Sequence[str] | None = None, *, at: datetime | None = None
    ) -> Stored | None:
        """Read a document, or only some of its top-level fields; None where there is none."""
        with translated(path, self.project):
            snapshot = self._client.document(path).get(
                field_paths=fields, read_time=at, **self._limits
            )
        return stored(snapshot) if snapshot.exists else None

    def read_many(
        self, paths: Sequence[str], fields: Sequence[str] | None = None
    ) -> dict[str, Stored]:
        """Read documents in one round trip; give those that are there by their paths."""
        if not paths:
            return {}
        references = [self._client.document(path) for path in paths]
        with translated(f"{paths[0]} and {len(paths) - 1} more", self.project):
            found = self._client.get_all(references, field_paths=fields, **self._limits)
            return {each.path: each for one in found if one.exists for each in (stored(one),)}

    def commit(self, writes: Sequence[Write]) -> datetime:
        """Do all of `writes` or none; return the time of the commit."""
        batch = self._client.batch()
        for write in writes:
            try:
                self._add_to(batch, write)
            except (ValueError, TypeError) as error:
                # What the client cannot even encode, such as an integer past 64 bits: raised as
                # it is, it would come again with each redelivery.
                message = f"{write.path}: cannot be encoded: {error}"
                raise RefusedError(message) from error
        with translated(", ".join(write.path for write in writes), self.project, commits=True):
            batch.commit()
        return cast("datetime", batch.commit_time)

    def query(self, query: Query, *, at: datetime | None = None) -> Iterator[Stored]:
        """Give the documents found one by one, in bounded memory."""
        with translated(query.collection, self.project):
            for snapshot in self._query(query).stream(read_time=at, **self._limits):
                yield stored(snapshot)

    def snapshot(self, query: Query) -> Snapshot:
        """Give the documents found and the time as of which they were so."""
        with translated(query.collection, self.project):
            found = list(self._query(query).stream(**self._limits))
        if not found:
            # The time comes with each document: where there is none, it is asked for a known time.
            at = self.now()
            return Snapshot(list(self.query(query, at=at)), at)
        return Snapshot([stored(snapshot) for snapshot in found], found[0].read_time)

    def total(self, query: Query, *, at: datetime | None = None) -> dict[str, int]:
        """Give each of the query's sums by its name, or, where it has none, the `count`."""
        if not query.sums:
            return {"count": self._aggregated(self._query(query).count(alias="it"), query, at)}
        # One aggregation a sum: several fields in one would need an index over all of them.
        return {
            name: self._aggregated(self._query(query).sum(name, alias="it"), query, at)
            for name in query.sums
        }

    def structured(self, query: Query) -> Any:  # noqa: ANN401 - a StructuredQuery
        """Give a query as it goes over the wire, for a stream of changes."""
        return self._query(query)._to_protobuf()  # noqa: SLF001 - the client's own watches do so

    def _aggregated(self, aggregation: Any, query: Query, at: datetime | None) -> int:  # noqa: ANN401 - the client's own types are loose here
        with translated(query.collection, self.project):
            ((result,),) = aggregation.get(read_time=at, **self._limits)
        return int(result.value or 0)

    def now(self) -> datetime:
        """Give the store's own present: the read time of a document that need not exist."""
        with translated("system_state/global_config", self.project):
            snapshot = self._client.document("system_state/global_config").get(
                field_paths=["__name__"], **self._limits
            )
        return cast("datetime", snapshot.read_time)

    def _query(self, query: Query) -> Any:  # noqa: ANN401 - the client's own types are loose here
        base = self._client.collection_group if query.group else self._client.collection
        built: Any = base(query.collection)
        for where in query.where:
            built = built.where(filter=FieldFilter(*where))
        direction = "DESCENDING" if query.descending else "ASCENDING"
        for name in query.order_by:
            built = built.order_by(name, direction=direction)
        if query.fields is not None:
            built = built.select(list(query.fields))
        if query.limit is not None:
            built = built.limit(query.limit)
        return built

    def _add_to(self, batch: Any, write: Write) -> None:  # noqa: ANN401 - WriteBatch is untyped
        document = self._client.document(write.path)
        match write:
            case Create():
                batch.create(document, dict(write.data))
            case Update():
                # Top-level names are quoted: a dot in one would be read as a path.
                changes = {_quoted(name): value for name, value in write.data.items()}
                changes |= {_quoted(name): firestore.DELETE_FIELD for name in write.removed}
                batch.update(document, changes, option=self._unchanged(write.token))
            case Add():
                # Merging takes keys literally, whatever they hold, and makes missing documents.
                data = _increments(write.counts)
                for path in write.stamped:
                    inner = data
                    for name in path:
                        inner = inner.setdefault(name, {})
                    inner["at"] = firestore.SERVER_TIMESTAMP
                batch.set(document, data, merge=True)
            case Remove(fields=()):
                batch.delete(document, option=self._unchanged(write.token))
            case Remove():
                changes = {
                    ".".join(map(_quoted, path)): firestore.DELETE_FIELD for path in write.fields
                }
                batch.update(document, changes, option=self._unchanged(write.token))

    def _unchanged(self, token: Token) -> Any:  # noqa: ANN401 - the client's own option type
        return self._client.write_option(last_update_time=token)


def stored(snapshot: DocumentSnapshot[Any]) -> Stored:
    """Read the client's snapshot; `update_time`, to the nanosecond, is the token."""
    path = "/".join(snapshot.reference._path)  # noqa: SLF001 - `path` of a group query is the same, computed slower
    return Stored(path, snapshot.to_dict() or {}, snapshot.update_time, snapshot.update_time)


@contextmanager
def translated(what: str, project: str | None = None, *, commits: bool = False) -> Iterator[None]:
    """Turn the client's errors into ours, naming what was read or written.

    Only what `commits` has preconditions. A read that fails for one lacks an index; one that finds
    no document raises nothing.
    """
    try:
        yield
    except (gcp.GoogleAPICallError, gcp.RetryError, auth.GoogleAuthError) as error:
        missing = fault_of_setup(error, FIRESTORE, project)
        raise missing or _store_error(error, what, commits=commits) from error


def _store_error(error: Exception, what: str, *, commits: bool) -> StoreError:
    match error:
        case gcp.AlreadyExists():
            return ExistsError(f"{what}: is there already ({error.message})")
        case gcp.Conflict():  # aborted: many met on one document
            return ConflictError(f"{what}: was written by somebody else ({error.message})")
        case gcp.FailedPrecondition() | gcp.NotFound() if commits:
            return ConflictError(f"{what}: was written by somebody else ({error.message})")
        case gcp.FailedPrecondition():
            return StoreError(f"{what}: cannot be read so: {error.message}")
        case gcp.InvalidArgument() | gcp.RequestRangeNotSatisfiable():
            return RefusedError(f"{what}: Firestore refuses this: {error.message}")
        case gcp.ServerError() | gcp.TooManyRequests() | gcp.Cancelled() | gcp.RetryError():
            return UnavailableError(f"{what}: Firestore cannot be reached for now: {error}")
        case auth.GoogleAuthError():
            return UnavailableError(f"{what}: Firestore cannot be reached for now: {error}")
    return StoreError(f"{what}: {error}")


def _quoted(name: str) -> str:
    return firestore.Client.field_path(name)


def _increments(counts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _increments(value) if isinstance(value, dict) else firestore.Increment(value)
        for name, value in counts.items()
    }
