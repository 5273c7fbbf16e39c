"""Cloud Storage: old files in a bucket, and a bucket's folder for the work of a migration.

google-cloud-storage is an extra: `pip install "firestate[buckets]"`; the deployed functions
have it.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions as gcp
from google.auth import exceptions as auth

from firestate.errors import ConfigurationError, UnavailableError
from firestate.limits import MAX_FILE_BYTES
from firestate.migration.decoding import Unreadable, too_large
from firestate.migration.opening import Opened, open_json
from firestate.migration.sources import WORK, Listed, Unlisted, Unseen, is_read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SECONDS = 2.0
_MTIME = "goog-reserved-file-mtime"


class BucketSource:
    """The objects of a bucket whose names begin with a prefix."""

    def __init__(self, bucket: str, prefix: str) -> None:
        """Name bucket and prefix; raise ConfigurationError where there is no way to them."""
        self._bucket = bucket_client(bucket)
        with translated(f"gs://{bucket}/{prefix}"):
            alone = bool(prefix) and self._bucket.get_blob(prefix) is not None
        # The prefix of a folder ends in a slash: `old` is neither `older` nor `old.json`.
        self._prefix = prefix if alone or not prefix else f"{prefix.rstrip('/')}/"
        self.label = f"gs://{bucket}/{self._prefix}"
        self._only = prefix.rpartition("/")[2] if alone else None

    def list(self) -> Iterator[Listed | Unseen | Unlisted]:
        """Give the objects, in the order of their names; names are shown without the prefix."""
        with translated(self.label):
            for blob in self._bucket.client.list_blobs(self._bucket, prefix=self._prefix):
                name = self._only or blob.name.removeprefix(self._prefix)
                if blob.name.endswith("/") or f"/{WORK}/" in f"/{blob.name}":
                    continue
                if self._only is not None and blob.name != self._prefix:
                    continue
                if self._only is None and not is_read(name):
                    yield Unseen(name)
                    continue
                yield Listed(name, blob.size or 0, _date(blob))

    def open(self, name: str, date: datetime | None = None) -> Opened:
        """Read an object; raise Unreadable."""
        with translated(f"{self.label} {name}"):
            full = self._prefix if self._only is not None else f"{self._prefix}{name}"
            blob = self._bucket.get_blob(full)
            if blob is None:
                raise Unreadable("line 1 column 1", "is gone", "plan anew")
            if (blob.size or 0) > MAX_FILE_BYTES:
                raise too_large(blob.size)
            data = blob.download_as_bytes()
        return open_json(data, name.rpartition("/")[2], date or _date(blob))


class BucketWork:
    """A folder of a bucket for the plan, the progress and the receipts."""

    def __init__(self, bucket: str, prefix: str, folder: Path) -> None:
        """Name bucket and prefix, and a folder on this machine to work in."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._bucket = bucket_client(bucket)
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._kept_at = 0.0

    def fetch(self, name: str) -> Path | None:
        """Bring a file here; None where there is none."""
        path = self.folder / name
        with translated(self.shown(name)):
            blob = self._bucket.blob(f"{self._prefix}{name}")
            if not blob.exists():
                return None
            blob.download_to_filename(str(path))
        return path

    def keep(self, name: str, *, soon: bool = False) -> None:
        """Put a file of the folder there; what comes again soon, at most every two seconds.

        Cloud Storage takes one write a second of an object.
        """
        if soon and time.monotonic() - self._kept_at < _SECONDS:
            return
        self._kept_at = time.monotonic()
        with translated(self.shown(name)):
            blob = self._bucket.blob(f"{self._prefix}{name}")
            blob.upload_from_filename(str(self.folder / name), content_type="application/json")

    def shown(self, name: str) -> str:
        """Give its address."""
        return f"gs://{self._bucket.name}/{self._prefix}{name}"


def bucket_client(name: str) -> Any:  # noqa: ANN401 - a Bucket, which has no types
    """Give the bucket; raise ConfigurationError where the library or credentials are missing."""
    try:
        from google.cloud import storage  # type: ignore[attr-defined,import-untyped,unused-ignore] # noqa: PLC0415 - an extra
    except ImportError as error:
        message = 'to read a bucket, install the library for it: pip install "firestate[buckets]"'
        raise ConfigurationError(message) from error
    try:
        return storage.Client().bucket(name)
    except (auth.DefaultCredentialsError, OSError) as error:
        message = "no credentials for Google Cloud: run `gcloud auth application-default login`"
        raise ConfigurationError(message) from error


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the library's errors into ours."""
    try:
        yield
    except gcp.NotFound as error:
        raise ConfigurationError(f"{what}: there is no such bucket or object") from error
    except (gcp.Forbidden, gcp.Unauthorized) as error:
        raise ConfigurationError(f"{what}: not allowed: {error.message}") from error
    except (gcp.GoogleAPICallError, auth.TransportError, OSError) as error:
        raise UnavailableError(f"{what}: cannot be reached for now: {error}") from error


def _date(blob: Any) -> datetime:  # noqa: ANN401 - a Blob, which has no types
    """Give the date of the file that was copied there, where the copying has kept it."""
    kept = (blob.metadata or {}).get(_MTIME)
    if kept is not None and str(kept).isdecimal():
        return datetime.fromtimestamp(int(kept), UTC)
    updated: datetime = blob.updated or datetime.now(UTC)
    return updated.astimezone(UTC).replace(microsecond=0)
