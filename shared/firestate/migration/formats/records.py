"""What a reader makes of an old file: records in the schema's words, and what it has none for."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from firestate.schema.values import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

NO_SESSION = "legacy"
"""The session of an agent whose file names none. It is the same in each of its files."""

NO_TYPE = "Agent"
"""The type of an agent whose file does not say, or hint at, what it is."""


class RecordKind(StrEnum):
    """What a record becomes."""

    STATE = "state"
    EVENT = "event"
    CONTROLS = "controls"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a reader may know of a file beside its content; never where it lies.

    `name` is its last part. `date` stands in for times that the content lacks; what depends on it
    is marked as guessed.
    """

    name: str
    date: datetime


def session_of(reader: str, value: object) -> str:
    """Name the session of a saved team or conversation that has no name: by what is in it."""
    return f"{reader}-{digest(value)[:12]}"


@dataclass(frozen=True, slots=True)
class Record:
    """One state, event, or set of controls.

    `fields` are named as in the schema, their values as JSON has them, or times; `left` is what
    the schema has no field for, by its old name. `guessed` names fields that the file does not
    have; `mapped` says in words what was changed; `withheld` names secrets that were left out.
    `digest` is of the old object: equal for equal ones, wherever they lie. Of one that Firestate
    itself has `stored` nothing needs to be fitted, and `parts` are the documents that lie below
    it, by their names.
    """

    kind: RecordKind
    position: str
    fields: dict[str, Any]
    left: dict[str, Any]
    guessed: tuple[str, ...]
    mapped: tuple[str, ...]
    digest: str
    stored: bool = False
    parts: dict[str, bytes] = field(default_factory=dict)
    withheld: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """What cannot be taken over: where it is, why, and what its owner can do about it.

    `place` is a line and column, or a path into the JSON.
    """

    place: str
    reason: str
    advice: str


class FormatReader(Protocol):
    """One format: a module of `readers`."""

    NAME: str

    def recognises(self, value: Any, name: str) -> bool:  # noqa: ANN401 - any JSON
        """Whether the content is of this format; the file's name may only confirm that."""
        ...

    def read(self, value: Any, facts: Facts) -> Iterator[Record | Refusal]:  # noqa: ANN401 - any JSON
        """Give the records, always the same ones in the same order."""
        ...


@dataclass(slots=True)
class Draft:
    """A record in the making: what is taken out of `left` goes on in `fields`, the rest is kept."""

    position: str
    left: dict[str, Any]
    fields: dict[str, Any] = field(default_factory=dict)
    guessed: list[str] = field(default_factory=list)
    mapped: list[str] = field(default_factory=list)
    withheld: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, position: str, old: Mapping[str, Any]) -> Draft:
        """Begin with all of an old object left over."""
        return cls(position, dict(old))

    def take(self, name: str, *old_names: str) -> bool:
        """Move the first of these that is there, and not null, into the field `name`."""
        for old in (name, *old_names):
            if self.left.get(old) is not None:
                self.fields[name] = self.left.pop(old)
                if old != name:
                    self.mapped.append(f"{old} is {name}")
                return True
        return False

    def say(self, name: str, old: object, new: object) -> None:
        """Put `new` where `old` was, and keep `old` beside it: nobody should have to guess it."""
        self.fields[name] = new
        self.mapped.append(f"{name}: {str(old)[:60]} is {str(new)[:60]}")
        self.left.setdefault(name, old)

    def guess(self, name: str, value: object) -> None:
        """Fill in what the file does not say."""
        self.fields[name] = value
        self.guessed.append(name)

    def date(self, times: Iterable[datetime | None], facts: Facts) -> None:
        """Put in a state's times: the first and the last of those that its file holds, if any."""
        found = [time for time in times if time is not None]
        first, last = min(found, default=facts.date), max(found, default=facts.date)
        self.fields |= {"created_at": first, "last_updated": last, "last_active": last}
        if not found:
            self.guessed += ["created_at", "last_updated", "last_active"]

    def record(self, kind: RecordKind, old: object) -> Record:
        """Give the record; `old` is what it was made of. A null says nothing: it goes."""
        left = {name: value for name, value in self.left.items() if value is not None}
        return Record(
            kind,
            self.position,
            self.fields,
            left,
            tuple(self.guessed),
            tuple(self.mapped),
            digest(old),
            withheld=tuple(self.withheld),
        )
