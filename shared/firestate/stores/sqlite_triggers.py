"""The triggers of the local engine: set off by a commit, and stored by it.

A trigger is written in the transaction of the write that sets it off, so that a crash loses none,
and it stays until it is reported as done: at least once, as in the cloud. It brings the document
as it was after that write, or of it the fields that its function needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from firestate.stores.protocol import Stored
from firestate.stores.sqlite_values import decode, encode, microseconds, time_from_microseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from firestate.stores.sqlite_file import SqliteFile


LONGEST_WAIT = timedelta(minutes=1)
"""A trigger that has failed is tried again after this at the latest."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Writes to the documents of `collection`, or to the one document `path`, call `function`."""

    function: str
    collection: str = ""
    path: str = ""
    fields: Sequence[str] = ()
    created_only: bool = False

    def covers(self, path: str) -> bool:
        """Whether a document is one of those."""
        return path == self.path if self.path else path.rpartition("/")[0] == self.collection


@dataclass(frozen=True, slots=True)
class Trigger:
    """One call of a function that is due; `tries` says how often it has failed."""

    number: int
    function: str
    document: Stored
    tries: int = 0


class TriggerQueue:
    """What is to be done, in the order in which it was set off."""

    def __init__(self, file: SqliteFile, rules: Sequence[Rule]) -> None:
        """Take the file that the documents are in too."""
        self._file = file
        self._rules = rules

    def note(self, path: str, data: Mapping[str, Any], at: int, *, created: bool) -> None:
        """Set off the triggers of one write; called within its transaction."""
        for rule in self._rules:
            if rule.covers(path) and (created or not rule.created_only):
                masked = {name: data[name] for name in rule.fields if name in data}
                self._file.execute(
                    "INSERT INTO triggers (function, path, updated_at, data) VALUES (?, ?, ?, ?)",
                    (rule.function, path, at, encode(masked)),
                )

    def forget(self, path: str, before: int) -> None:
        """Forget what the writes of a document before that time have set off.

        Called within the transaction of a later one, which has set off the same again.
        """
        for rule in self._rules:
            if rule.covers(path) and not rule.created_only:
                self._file.execute(
                    "DELETE FROM triggers WHERE path = ? AND function = ? AND updated_at < ?",
                    (path, rule.function, before),
                )

    def due(self, now: datetime, limit: int, functions: Iterable[str] = ()) -> list[Trigger]:
        """Give the next triggers, of some `functions` alone or of all."""
        wanted = list(functions) or [rule.function for rule in self._rules]
        marks = ", ".join("?" * len(wanted))
        # One that is due later than any wait has waited by a clock that was wrong.
        rows = self._file.execute(
            "SELECT id, function, path, updated_at, data, tries FROM triggers "  # noqa: S608 - marks alone are put in
            f"WHERE (due <= ? OR due > ?) AND function IN ({marks}) ORDER BY id LIMIT ?",
            (microseconds(now), microseconds(now + LONGEST_WAIT), *wanted, limit),
        )
        triggers = []
        for number, function, path, updated_at, data, tries in rows:
            at = time_from_microseconds(updated_at)
            try:
                document = Stored(path, decode(data), at, at)
            except ValueError as error:
                # Damaged by hand: kept, and told, while the others go on.
                broken = Trigger(number, function, Stored(path, {}, at, at), tries)
                self.failed(broken, error, now + LONGEST_WAIT)
            else:
                triggers.append(Trigger(number, function, document, tries))
        return triggers

    def done(self, triggers: Iterable[Trigger]) -> None:
        """Take triggers off the queue; one that is not there any more is done as well."""
        numbers = [trigger.number for trigger in triggers]
        if numbers:
            marks = ", ".join("?" * len(numbers))
            self._file.execute(f"DELETE FROM triggers WHERE id IN ({marks})", numbers)  # noqa: S608 - marks alone are put in

    def failed(self, trigger: Trigger, error: BaseException, again_at: datetime) -> None:
        """Keep a trigger for later."""
        self._file.execute(
            "UPDATE triggers SET tries = tries + 1, due = ?, error = ? WHERE id = ?",
            (microseconds(again_at), str(error), trigger.number),
        )

    def count(self) -> int:
        """Give how many triggers wait, those that have failed included."""
        ((count,),) = self._file.execute("SELECT count(*) FROM triggers")
        return int(count)

    def last_error(self) -> str | None:
        """Give why the last one that failed did so."""
        rows = self._file.execute("SELECT error FROM triggers ORDER BY due DESC LIMIT 1")
        return rows[0][0] if rows else None
