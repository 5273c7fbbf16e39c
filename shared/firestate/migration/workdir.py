"""Where a migration keeps its plan, its progress and its receipts: a folder, or a bucket's.

All work is done in a folder on this machine; with a bucket, files are fetched from there before and
kept there after. Each file is replaced as a whole, so that one cut off is never read.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from firestate.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Workdir(Protocol):
    """A place for the files of one migration."""

    folder: Path

    def fetch(self, name: str) -> Path | None:
        """Give a file as it was kept, or None."""
        ...

    def keep(self, name: str, *, soon: bool = False) -> None:
        """Keep a file of the folder; one that comes again `soon` may be left out now and then."""
        ...

    def shown(self, name: str) -> str:
        """Say where a file is kept, for people."""
        ...


class FolderWorkdir:
    """A folder on this machine."""

    def __init__(self, folder: Path) -> None:
        """Make the folder where it is missing."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"{folder} cannot be a folder: {error.strerror}") from error
        self.folder = folder

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Work in the folder alone; raise ConfigurationError where another process does.

        The plan and the progress are of one run at a time. The lock goes with its process.
        """
        try:
            file = (self.folder / "lock").open("w")
        except OSError as error:
            message = f"{self.folder} cannot be written to: {error.strerror}"
            raise ConfigurationError(message) from error
        with file as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                message = f"another migration is at work in {self.folder}: wait until it has ended"
                raise ConfigurationError(message) from error
            yield

    def fetch(self, name: str) -> Path | None:
        """Give a file, or None."""
        path = self.folder / name
        return path if path.exists() else None

    def keep(self, name: str, *, soon: bool = False) -> None:
        """Do nothing: it is there."""

    def shown(self, name: str) -> str:
        """Give its path."""
        return str(self.folder / name)


def save_json(work: Workdir, name: str, value: dict[str, Any], *, soon: bool = False) -> None:
    """Write a small file so that it is there whole, or as it was before; see `keep`."""
    unfinished = work.folder / f"{name}.{os.getpid()}.part"
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(work.folder / name)
    work.keep(name, soon=soon)


def load_json(work: Workdir, name: str) -> dict[str, Any]:
    """Read a small file; nothing of it where it is missing or damaged."""
    path = work.fetch(name)
    try:
        value = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
