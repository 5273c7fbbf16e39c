"""The documents of a file whose `expire_at` has passed, removed as Firestore's TTL does.

A document goes by a commit like any other, on condition that it is still as it was found: one that
is renewed at the same moment stays.
"""

# ruff: noqa: S608 - statements are put together of texts of this module and of question marks

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.errors import ConflictError
from firestate.stores.protocol import Remove
from firestate.stores.sqlite_schema import EXPIRES_AT, EXPIRY_INDEX
from firestate.stores.sqlite_values import microseconds, time_from_microseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from firestate.stores.protocol import Write
    from firestate.stores.sqlite_file import SqliteFile

_AT_ONCE = 100
_TIME = EXPIRES_AT


class ExpiredDocuments:
    """What has expired in a file, and when it was last looked for."""

    def __init__(self, file: SqliteFile, commit: Callable[[Sequence[Write]], object]) -> None:
        """Take the file, and how documents are removed from it."""
        self._file = file
        self._commit = commit

    def former_sweep(self) -> datetime | None:
        """Return when a sweep has looked last, of whichever process."""
        rows = self._file.execute("SELECT swept_at FROM expiry")
        return time_from_microseconds(rows[0][0]) if rows else None

    def remember_sweep(self, at: datetime) -> None:
        """Remember a sweep, for the next one."""
        self._file.execute("INSERT OR REPLACE INTO expiry VALUES (1, ?)", (microseconds(at),))

    def remove(self, kinds: Sequence[str], until: datetime) -> int:
        """Remove those of the collections `kinds` that had expired at `until`; count them."""
        removed = 0
        after: tuple[Any, str] = (-(2**63), "")
        statement = expired_statement(kinds)
        # Behind those that were seen: one that is renewed as it is to go is not seen for ever.
        while found := self._file.execute(statement, (microseconds(until), *after, *kinds)):
            removes = [Remove(path, time_from_microseconds(at)) for path, at, _ in found]
            removed += self._removed(removes)
            path, _, expired_at = found[-1]
            after = (expired_at, path)
        return removed

    def _removed(self, removes: Sequence[Remove]) -> int:
        try:
            self._commit(removes)
        except ConflictError:
            removed = 0
            for each in removes if len(removes) > 1 else ():
                removed += self._removed([each])
            return removed
        return len(removes)


def expired_statement(kinds: Sequence[str]) -> str:
    """Return the statement that finds them, along the index."""
    marks = ", ".join("?" * len(kinds))
    return (
        f"SELECT path, updated_at, {_TIME} FROM documents INDEXED BY {EXPIRY_INDEX}"
        f" WHERE {_TIME} IS NOT NULL AND {_TIME} <= ? AND ({_TIME}, path) > (?, ?)"
        f" AND kind IN ({marks}) ORDER BY {_TIME}, path LIMIT {_AT_ONCE}"
    )
