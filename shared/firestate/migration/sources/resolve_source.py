"""Which source a name stands for: a folder, one file, a bucket, a file of the local engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from firestate.errors import ConfigurationError
from firestate.migration.sources.folder import FolderSource

if TYPE_CHECKING:
    from firestate.migration.sources.source import Source

_BUCKET = re.compile(r"gs://([^/]+)/?(.*)")
SQLITE = b"SQLite format 3\0"


def bucket_of(text: str) -> tuple[str, str] | None:
    """Return bucket and prefix of a `gs://` address."""
    match = _BUCKET.fullmatch(text)
    return (match[1], match[2]) if match else None


def open_source(text: str, work: Path | None = None) -> Source:
    """Return the source of this name; raise ConfigurationError where there is none.

    What lies in the folder `work`, plans and receipts, is never taken for old files.
    """
    if bucket := bucket_of(text):
        from firestate.migration.sources.bucket import BucketSource  # noqa: PLC0415 - needs another library

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
            from firestate.migration.sources.engine_file import EngineFile  # noqa: PLC0415 - rarely needed

            return EngineFile(path)
    return FolderSource(path.parent, path.name)
