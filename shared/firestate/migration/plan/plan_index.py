"""What a plan needs to see as a whole: equal events, events of one name, files of one session.

In a database on disk, so that a gigabyte of old files takes no more memory than a megabyte.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import asdict
from typing import TYPE_CHECKING, Self

from firestate.migration.plan.plan_file import COPY, NOTES, SUPERSEDED, WARNING, PlanLine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -8000;
CREATE TABLE lines (
    n INTEGER PRIMARY KEY, kind TEXT, place TEXT, target TEXT, event_id TEXT, rank TEXT,
    digest TEXT, source TEXT, outcome TEXT, by BLOB, named INTEGER, undated INTEGER, line TEXT
);
CREATE TABLE files (sha256 TEXT PRIMARY KEY, source TEXT);
"""

# Events without an id are named by what is in them. Equal ones are told apart by their number
# alone, whatever file they are in: so it does not matter where a log was cut in two.
_NAME_EVENTS = """
UPDATE lines SET
    event_id = 'm-' || substr(digest, 1, 24) || CASE ordinal WHEN 1 THEN '' ELSE '-' || ordinal END
FROM (
    SELECT n AS m, ROW_NUMBER() OVER (PARTITION BY digest ORDER BY n) AS ordinal FROM lines
    WHERE kind = 'event' AND NOT named
) WHERE n = m;
"""
# Equal events with an id and without a time are one, whatever dates their files have: that of the
# youngest file, which _SETTLE will choose.
_DATE_EVENTS = """
UPDATE lines SET place = youngest FROM (
    SELECT n AS m, FIRST_VALUE(place) OVER (
        PARTITION BY event_id, digest ORDER BY rank DESC, n
    ) AS youngest FROM lines WHERE kind = 'event' AND named AND undated
) WHERE n = m AND place != youngest;
"""
# Events of one name and time that are not the same: all but one get their content into the name.
# Which one does not depend on the order of the files.
_PART_EVENTS = """
UPDATE lines SET event_id = event_id || '-' || substr(digest, 1, 12)
FROM (
    SELECT n AS m, MIN(digest) OVER (PARTITION BY place, event_id) AS least FROM lines
    WHERE kind = 'event' AND named
) WHERE n = m AND digest != least;
UPDATE lines SET target = place || event_id WHERE kind = 'event';
"""
# Of several for one document the newest goes there; of one time, that with the larger digest.
_SETTLE = f"""
UPDATE lines SET by = theirs, outcome = CASE digest WHEN best THEN '{COPY}' ELSE '{SUPERSEDED}' END
FROM (
    SELECT n AS m, FIRST_VALUE(n) OVER newest AS first, FIRST_VALUE(digest) OVER newest AS best,
        FIRST_VALUE(source) OVER newest AS theirs FROM lines
    WHERE rank != '' WINDOW newest AS (PARTITION BY target ORDER BY rank DESC, n)
) WHERE n = m AND first != m;
"""  # noqa: S608 - of our own words


# Equal events without an id in more than one file: by chance, or since a log was copied while it
# grew. Beside MIN(n), `first` is of the same row: https://sqlite.org/lang_select.html#bareagg
_SHARED = """
SELECT source, first, MIN(n), COUNT(*), of_it FROM (
    SELECT n, source, FIRST_VALUE(source) OVER (PARTITION BY digest ORDER BY n) AS first FROM lines
    WHERE kind = 'event' AND NOT named
) JOIN (SELECT source, COUNT(*) AS of_it FROM lines GROUP BY source) USING (source)
WHERE source != first GROUP BY source HAVING COUNT(*) > 1 ORDER BY MIN(n)
"""


class PlanIndex:
    """The lines of a plan in the making."""

    def __init__(self, path: Path) -> None:
        """Begin anew in the file `path`."""
        path.unlink(missing_ok=True)
        self._path = path
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file: the plan has all of it."""
        self._db.close()
        self._path.unlink(missing_ok=True)

    def first_with(self, sha256: str, source: str) -> str:
        """Give the first file of this content: `source` itself, unless there was one before."""
        self._db.execute("INSERT OR IGNORE INTO files VALUES (?, ?)", (sha256, _bytes(source)))
        found = self._db.execute("SELECT source FROM files WHERE sha256 = ?", (sha256,))
        return _text(found.fetchone()[0])

    def add(self, line: PlanLine, *, place: str = "", at: datetime | None = None) -> None:
        """Add a line. `at` is the time of a state or an event.

        `place` is what an event's target begins with, and what controls are sorted by.
        """
        rank = f"{at:%Y-%m-%dT%H:%M:%S.%f} {line.digest}" if at else ""
        self._db.execute(
            "INSERT INTO lines (kind, place, target, event_id, rank, digest, source, outcome, "
            "by, named, undated, line) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                line.kind,
                place,
                line.target,
                line.event_id,
                rank,
                line.digest,
                _bytes(line.source),
                line.outcome,
                _bytes(line.by),
                bool(line.event_id),
                "timestamp" in line.guessed,
                json.dumps(asdict(line)),
            ),
        )

    def settle(self) -> None:
        """Say of each line what becomes of it, now that all are there."""
        for statement in (_NAME_EVENTS, _DATE_EVENTS, *_PART_EVENTS.split(";\n"), _SETTLE):
            self._db.execute(statement)
        for source, first, _, shared, of_it in self._db.execute(_SHARED).fetchall():
            reason = f"{shared:,} of its {of_it:,} records are events that are in other files too"
            reason += f" (the first in {_text(first)}): they are taken for different ones"
            advice = "where one is a copy of the other, leave it out"
            self.add(
                PlanLine(_text(source), WARNING, by=_text(first), reason=reason, advice=advice)
            )

    def id(self) -> str:
        """Give the plan's id: the same wherever the same records were found."""
        found = hashlib.sha256()
        # Not the targets: that of an event without a time has the date of its file.
        rows = "SELECT kind, digest FROM lines WHERE target != '' ORDER BY kind, digest"
        for row in self._db.execute(rows):
            found.update(repr(row).encode())
        return found.hexdigest()[:16]

    def count(self) -> int:
        """Give the number of lines that a migration goes through."""
        (found,) = self._db.execute("SELECT COUNT(*) FROM lines WHERE outcome NOT IN (?, ?)", NOTES)
        return int(found[0])

    def lines(self) -> Iterator[PlanLine]:
        """Give the lines: states and events as they came, controls as merged, at last notes."""
        rows = (
            "SELECT target, event_id, outcome, by, named, line FROM lines "
            "ORDER BY outcome IN (?, ?), kind = 'controls', "
            "CASE kind WHEN 'controls' THEN place END, n"
        )
        for target, event_id, outcome, by, named, text in self._db.execute(rows, NOTES):
            line = PlanLine(**json.loads(text))
            if named and event_id != line.event_id:
                line.mapped.append(f"event_id: another event of that time has {line.event_id} too")
            line.target, line.event_id, line.outcome, line.by = target, event_id, outcome, _text(by)
            yield line


def _bytes(name: str) -> bytes:
    # A file's name need not be UTF-8: then it has halves of surrogate pairs, and is no TEXT.
    return name.encode("utf-8", "surrogatepass")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")
