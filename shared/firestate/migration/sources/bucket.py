"""Old files in a bucket of Cloud Storage."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from firestate.limits import MAX_FILE_BYTES
from firestate.migration.formats.decoding import Unreadable, too_large
from firestate.migration.formats.detection import OpenedFile, open_json
from firestate.migration.sources.cloud_storage import bucket_client, translated_storage
from firestate.migration.sources.source import (
    WORK,
    ListedFile,
    SkippedFile,
    UnlistableFile,
    is_read,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_MTIME = "goog-reserved-file-mtime"


class BucketSource:
    """The objects of a bucket whose names begin with a prefix."""

    def __init__(self, bucket: str, prefix: str) -> None:
        """Name bucket and prefix; raise ConfigurationError where there is no way to them."""
        self._bucket = bucket_client(bucket)
        with translated_storage(f"gs://{bucket}/{prefix}"):
            alone = bool(prefix) and self._bucket.get_blob(prefix) is not None
        # The prefix of a folder ends in a slash: `old` is neither `older` nor `old.json`.
        self._prefix = prefix if alone or not prefix else f"{prefix.rstrip('/')}/"
        self.label = f"gs://{bucket}/{self._prefix}"
        self._only = prefix.rpartition("/")[2] if alone else None

    def list(self) -> Iterator[ListedFile | SkippedFile | UnlistableFile]:
        """Return the objects, in the order of their names; names are shown without the prefix."""
        with translated_storage(self.label):
            for blob in self._bucket.client.list_blobs(self._bucket, prefix=self._prefix):
                name = self._only or blob.name.removeprefix(self._prefix)
                if blob.name.endswith("/") or f"/{WORK}/" in f"/{blob.name}":
                    continue
                if self._only is not None and blob.name != self._prefix:
                    continue
                if self._only is None and not is_read(name):
                    yield SkippedFile(name)
                    continue
                yield ListedFile(name, blob.size or 0, _date(blob))

    def open(self, name: str, date: datetime | None = None) -> OpenedFile:
        """Read an object; raise Unreadable."""
        with translated_storage(f"{self.label} {name}"):
            full = self._prefix if self._only is not None else f"{self._prefix}{name}"
            blob = self._bucket.get_blob(full)
            if blob is None:
                raise Unreadable("line 1 column 1", "is gone", "plan anew")
            if (blob.size or 0) > MAX_FILE_BYTES:
                raise too_large(blob.size)
            data = blob.download_as_bytes()
        return open_json(data, name.rpartition("/")[2], date or _date(blob))


def _date(blob: Any) -> datetime:  # noqa: ANN401 - a Blob, which has no types
    """Return the date of the file that was copied there, where the copying has kept it."""
    kept = (blob.metadata or {}).get(_MTIME)
    if kept is not None and str(kept).isdecimal():
        return datetime.fromtimestamp(int(kept), UTC)
    updated: datetime = blob.updated or datetime.now(UTC)
    return updated.astimezone(UTC).replace(microsecond=0)
