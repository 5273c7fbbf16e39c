"""Old files in a folder of this machine, or one of them."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from firestate.limits import MAX_FILE_BYTES
from firestate.migration.formats.decoding import Unreadable, too_large
from firestate.migration.formats.detection import OpenedFile, open_json
from firestate.migration.formats.records import Refusal
from firestate.migration.sources.source import (
    WORK,
    ListedFile,
    SkippedFile,
    UnlistableFile,
    is_read,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEFT_OUT = frozenset({WORK, ".git", ".venv", "node_modules", "__pycache__"})


class FolderSource:
    """The files below a folder, or one of them."""

    def __init__(self, folder: Path, only: str | None = None, work: Path | None = None) -> None:
        """Name the folder, the one file where there is one, and a folder below to leave out."""
        self.label = str((folder / only if only else folder).resolve())
        self._folder = folder
        self._only = only
        self._work = _place(work) if work is not None and work.exists() else None

    def list(self) -> Iterator[ListedFile | SkippedFile | UnlistableFile]:
        """Return the files, in the order of their names; links are followed, but not in circles."""
        if self._only is not None:
            yield self._listed(self._only)
        else:
            yield from self._below(self._folder, "", (_place(self._folder),))

    def open(self, name: str, date: datetime | None = None) -> OpenedFile:
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
    ) -> Iterator[ListedFile | SkippedFile | UnlistableFile]:
        try:
            entries = sorted(os.scandir(folder), key=lambda each: each.name)
        except OSError as error:
            yield UnlistableFile(prefix or ".", unreadable(error).refusal)
            return
        for entry in entries:
            name = f"{prefix}{entry.name}"
            try:
                if not entry.is_dir():
                    yield self._listed(name)
                elif entry.name not in _LEFT_OUT:
                    place = _place(Path(entry.path))
                    if place in around:
                        yield UnlistableFile(name, _CIRCLE)
                    elif place != self._work:
                        yield from self._below(Path(entry.path), f"{name}/", (*around, place))
            except OSError as error:
                yield UnlistableFile(name, unreadable(error).refusal)

    def _listed(self, name: str) -> ListedFile | SkippedFile | UnlistableFile:
        if self._only is None and not is_read(name):
            return SkippedFile(name)
        try:
            found = (self._folder / name).stat()
        except OSError as error:
            return UnlistableFile(name, unreadable(error).refusal)
        if not stat.S_ISREG(found.st_mode):
            return UnlistableFile(name, _no_file().refusal)  # to read a pipe could take for ever
        return ListedFile(name, found.st_size, _date(found.st_mtime))


_CIRCLE = Refusal(
    "line 1 column 1", "is a link to a folder that it lies in", "remove the link, it holds no file"
)


def _no_file() -> Unreadable:
    return Unreadable("line 1 column 1", "is no file: a pipe, a socket or a device", "remove it")


def unreadable(error: OSError) -> Unreadable:
    """Return the refusal of a file that the system does not give."""
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
