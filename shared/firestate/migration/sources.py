"""Where old files are: a folder, one file, a bucket. Each lists its files and gives their bytes."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from firestate.errors import ConfigurationError
from firestate.limits import MAX_FILE_BYTES
from firestate.migration.decoding import Unreadable, too_large
from firestate.migration.opening import LINES, Opened, open_json
from firestate.migration.records import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

WORK = ".firestate"
"""Plans and receipts lie in folders of this name: they are never taken for old files."""

_READ = (".json", ".af", ".pkl", ".pickle", *LINES)
_LEFT_OUT = frozenset({WORK, ".git", ".venv", "node_modules", "__pycache__"})
_BUCKET = re.compile(r"gs://([^/]+)/?(.*)")
SQLITE = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True)
class Listed:
    """A file: its name within the source, its size in bytes, when it was last changed."""

    name: str
    size: int
    date: datetime


@dataclass(frozen=True, slots=True)
class Unseen:
    """A file that is not read because of its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Unlisted:
    """What cannot be listed, and why."""

    name: str
    refusal: Refusal


class Source(Protocol):
    """What is to be migrated."""

    label: str

    def list(self) -> Iterator[Listed | Unseen | Unlisted]:
        """Give all files, in the order of their names."""
        ...

    def open(self, name: str, date: datetime | None = None) -> Opened:
        """Read a file; `date` stands for its own, as the plan has noted it. Raises Unreadable."""
        ...


def bucket_of(text: str) -> tuple[str, str] | None:
    """Give bucket and prefix of a `gs://` address."""
    match = _BUCKET.fullmatch(text)
    return (match[1], match[2]) if match else None


def open_source(text: str, work: Path | None = None) -> Source:
    """Give the source of this name; raise ConfigurationError where there is none.

    What lies in the folder `work`, plans and receipts, is never taken for old files.
    """
    if bucket := bucket_of(text):
        from firestate.migration.buckets import BucketSource  # noqa: PLC0415 - needs another library

        return BucketSource(*bucket)
    if "://" in text:
        message = f"{text} is no source: name a folder, a file, or gs://bucket/prefix"
        raise ConfigurationError(message)
    path = Path(text)
    if not path.exists():
        raise ConfigurationError(f"there is no file or folder {text}")
    if path.is_dir():
        if work is not None and work.exists() and work.samefile(path):
            message = f"{work} is the source itself: keep plan and receipts in another folder"
            raise ConfigurationError(message)
        return FolderSource(path, work=work)
    with path.open("rb") as file:
        if file.read(len(SQLITE)) == SQLITE:
            from firestate.migration.engine_file import EngineFile  # noqa: PLC0415 - rarely needed

            return EngineFile(path)
    return FolderSource(path.parent, path.name)


class FolderSource:
    """The files below a folder, or one of them."""

    def __init__(self, folder: Path, only: str | None = None, work: Path | None = None) -> None:
        """Name the folder, the one file where there is one, and a folder below to leave out."""
        self.label = str((folder / only if only else folder).resolve())
        self._folder = folder
        self._only = only
        self._work = _place(work) if work is not None and work.exists() else None

    def list(self) -> Iterator[Listed | Unseen | Unlisted]:
        """Give the files, in the order of their names; links are followed, but not in circles."""
        if self._only is not None:
            yield self._listed(self._only)
        else:
            yield from self._below(self._folder, "", (_place(self._folder),))

    def open(self, name: str, date: datetime | None = None) -> Opened:
        """Read a file; raise Unreadable."""
        path = self._folder / name
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                raise _no_file()
            if found.st_size > MAX_FILE_BYTES:
                raise too_large(found.st_size)
            data = path.read_bytes()
        except OSError as error:
            raise unreadable(error) from error
        return open_json(data, path.name, date or _date(found.st_mtime))

    def _below(
        self, folder: Path, prefix: str, around: tuple[tuple[int, int], ...]
    ) -> Iterator[Listed | Unseen | Unlisted]:
        try:
            entries = sorted(os.scandir(folder), key=lambda each: each.name)
        except OSError as error:
            yield Unlisted(prefix or ".", unreadable(error).refusal)
            return
        for entry in entries:
            name = f"{prefix}{entry.name}"
            try:
                if not entry.is_dir():
                    yield self._listed(name)
                elif entry.name not in _LEFT_OUT:
                    place = _place(Path(entry.path))
                    if place in around:
                        yield Unlisted(name, _CIRCLE)
                    elif place != self._work:
                        yield from self._below(Path(entry.path), f"{name}/", (*around, place))
            except OSError as error:
                yield Unlisted(name, unreadable(error).refusal)

    def _listed(self, name: str) -> Listed | Unseen | Unlisted:
        if self._only is None and not is_read(name):
            return Unseen(name)
        try:
            found = (self._folder / name).stat()
        except OSError as error:
            return Unlisted(name, unreadable(error).refusal)
        if not stat.S_ISREG(found.st_mode):
            return Unlisted(name, _no_file().refusal)  # to read a pipe could take for ever
        return Listed(name, found.st_size, _date(found.st_mtime))


_CIRCLE = Refusal(
    "line 1 column 1", "is a link to a folder that it lies in", "remove the link, it holds no file"
)


def _no_file() -> Unreadable:
    return Unreadable("line 1 column 1", "is no file: a pipe, a socket or a device", "remove it")


def is_read(name: str) -> bool:
    """Whether a file of this name is looked into."""
    return name.lower().endswith(_READ)


def unreadable(error: OSError) -> Unreadable:
    """Give the refusal of a file that the system does not give."""
    reason = error.strerror or type(error).__name__
    return Unreadable(
        "line 1 column 1", f"cannot be read: {reason}", "give the right to read it, or leave it out"
    )


def _place(path: Path) -> tuple[int, int]:
    found = path.stat()
    return (found.st_dev, found.st_ino)


def _date(seconds: float) -> datetime:
    # Whole seconds, as buckets and archives keep it: a copy has the same.
    return datetime.fromtimestamp(int(seconds), UTC)
