"""The plan of a migration: JSON Lines, one a record, with where it comes from and what it becomes.

The first line is the head: the source, the plan's id (a function of what is planned), counts. Then
in the order of files and positions, for each record

    source sha256 format at    the file, its content, who read it, the place in it
    kind target event_id       what it becomes
    digest                     of the old object
    outcome                    write, superseded or copy (`by`: the file that goes before it), merge
    mapped guessed kept        what was changed, filled in, kept beside
    withheld exposed           secrets: left out; and kept, since only their names are like it
    date                       the file's date, by which what it does not say was guessed
    bytes parts                its size in Firestore

and for each file or place that is refused: source, at, place, reason, advice. At the end
stand notes, of which there is nothing to do: files that hold nothing (`empty`), and warnings.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from firestate.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION = 1

WRITE, SUPERSEDED, COPY, MERGE, REFUSED = "write", "superseded", "copy", "merge", "refused"
EMPTY, WARNING = NOTES = ("empty", "warning")


@dataclass(slots=True)
class PlanLine:
    """One record, or one refusal."""

    source: str
    outcome: str
    sha256: str = ""
    format: str = ""
    at: str = ""
    kind: str = ""
    target: str = ""
    event_id: str = ""
    digest: str = ""
    by: str = ""
    mapped: list[str] = field(default_factory=list)
    guessed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    withheld: list[str] = field(default_factory=list)
    exposed: list[str] = field(default_factory=list)
    date: str = ""
    bytes: int = 0
    parts: int = 0
    place: str = ""
    reason: str = ""
    advice: str = ""

    def text(self) -> str:
        """Give the line, without what is empty."""
        return json.dumps({k: v for k, v in asdict(self).items() if v}, ensure_ascii=True)


_NAMES = frozenset(each.name for each in fields(PlanLine))


@dataclass(frozen=True, slots=True)
class PlanHead:
    """The first line."""

    id: str
    source: str
    files: int
    lines: int
    unseen: dict[str, int]
    listing: str

    def text(self) -> str:
        """Give the line."""
        return json.dumps({"plan": VERSION, **asdict(self)}, ensure_ascii=True)


def read_head(path: Path) -> PlanHead:
    """Read the head; raise ConfigurationError where the file is no plan of this release."""
    try:
        with path.open(encoding="utf-8") as lines:
            raw = json.loads(next(lines))
        version, head = raw.pop("plan"), PlanHead(**raw)
    except (OSError, ValueError, TypeError, KeyError, StopIteration, AttributeError) as error:
        raise ConfigurationError(f"{path} is no plan of a migration: plan anew") from error
    if version != VERSION:
        raise ConfigurationError(f"{path} is a plan of another release: plan anew")
    return head


def read_lines(path: Path, start: int = 0) -> Iterator[tuple[int, PlanLine]]:
    """Give the lines after the head, each with its number, from the one with number `start`."""
    with path.open(encoding="utf-8") as texts:
        next(texts)
        for number, text in enumerate(texts):
            if number < start:
                continue
            try:
                raw: dict[str, Any] = json.loads(text)
                yield number, PlanLine(**{k: v for k, v in raw.items() if k in _NAMES})
            except (ValueError, TypeError, AttributeError) as error:
                message = f"{path}: line {number + 2} is damaged: plan anew"
                raise ConfigurationError(message) from error
