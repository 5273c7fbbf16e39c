"""Deletion that leaves no byte: not in a document's past, not in a page, not in the journal.

    step 0   a commit has deleted a document, and noted so in the same transaction
    step 1   its triggers are done, and the past is forgotten: also that of rows and memories, which
             deriving has changed
    step 2   VACUUM has written the file anew, since `secure_delete` misses what SQLite has moved
             from page to page before it was deleted
    gone     the journal, which holds all of that, is cut to nothing

Each step is remembered in the file, so that whoever opens it next goes on. Reads as of a time
before step 1 are refused from then on, as they are after an hour: none finds less than was there.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from firestate.stores.sqlite_values import microseconds

if TYPE_CHECKING:
    from datetime import datetime

    from firestate.stores.sqlite_file import SqliteFile

_PAUSES = 100
"""The next VACUUM waits for so many times as long as the last one took: 1 percent of the time."""

_MICROSECOND = timedelta(microseconds=1)
_DERIVED = "NOT EXISTS (SELECT 1 FROM triggers WHERE triggers.path = erasures.path)"


class Erasures:
    """What is to be erased of a file, and how far that has come."""

    def __init__(self, file: SqliteFile) -> None:
        """Take the file that the documents are in."""
        self._file = file
        self._vacuum_at = 0.0  # by the monotonic clock

    def note(self, path: str, at: int) -> None:
        """Note that a document is deleted; called within the transaction that does so."""
        self._file.execute("INSERT INTO erasures (path, at, step) VALUES (?, ?, 0)", (path, at))

    def count(self) -> int:
        """Return how many deletions have left something."""
        ((count,),) = self._file.execute("SELECT count(*) FROM erasures")
        return int(count)

    def erase(self, now: datetime, grace: timedelta) -> bool:
        """Go on as far as it goes now; return whether nothing is left of any deletion.

        Only of what was deleted longer than `grace` ago: a read that has begun may still want the
        past. Without it nothing waits for its turn. Call it again where a reader, or a trigger
        that is not done, was in the way.
        """
        if not self.count():
            return True
        self._forget_past(max(microseconds(now), self._file.last()) - grace // _MICROSECOND)
        if self._has(1) and (not grace or time.monotonic() >= self._vacuum_at):
            self._vacuum()
        if self._has(2) and self._file.truncate_journal():
            self._file.execute("DELETE FROM erasures WHERE step = 2")
            self._file.truncate_journal()  # of this very statement, which names documents
        return not self.count()

    def _has(self, step: int) -> bool:
        return bool(self._file.execute("SELECT 1 FROM erasures WHERE step = ? LIMIT 1", (step,)))

    def _forget_past(self, before: int) -> None:
        due = f"step = 0 AND at <= ? AND {_DERIVED}"
        if not self._file.execute(f"SELECT 1 FROM erasures WHERE {due} LIMIT 1", (before,)):  # noqa: S608 - a text of this module
            return
        with self._file.transaction("what was deleted") as now:
            self._file.forget_all_past(now)
            self._file.execute(f"UPDATE erasures SET step = 1 WHERE {due}", (before,))  # noqa: S608 - a text of this module

    def _vacuum(self) -> None:
        began = time.monotonic()
        # What is deleted meanwhile is of a later turn.
        ((last,),) = self._file.execute("SELECT max(id) FROM erasures WHERE step = 1")
        if self._file.write_anew():
            self._file.execute("UPDATE erasures SET step = 2 WHERE step = 1 AND id <= ?", (last,))
        self._vacuum_at = began + (time.monotonic() - began) * _PAUSES
