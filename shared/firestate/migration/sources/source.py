"""What a source of old files is: it lists its files and gives their bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from firestate.migration.formats.detection import LINES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from firestate.migration.formats.detection import OpenedFile
    from firestate.migration.formats.records import Refusal

WORK = ".firestate"
"""Plans and receipts lie in folders of this name: they are never taken for old files."""

_READ = (".json", ".af", ".pkl", ".pickle", *LINES)


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file: its name within the source, its size in bytes, when it was last changed."""

    name: str
    size: int
    date: datetime


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that is not read because of its name."""

    name: str


@dataclass(frozen=True, slots=True)
class UnlistableFile:
    """What cannot be listed, and why."""

    name: str
    refusal: Refusal


class Source(Protocol):
    """What is to be migrated."""

    label: str

    def list(self) -> Iterator[ListedFile | SkippedFile | UnlistableFile]:
        """Return all files, in the order of their names."""
        ...

    def open(self, name: str, date: datetime | None = None) -> OpenedFile:
        """Read a file; `date` stands for its own, as the plan has noted it. Raises Unreadable."""
        ...


def is_read(name: str) -> bool:
    """Whether a file of this name is looked into."""
    return name.lower().endswith(_READ)
