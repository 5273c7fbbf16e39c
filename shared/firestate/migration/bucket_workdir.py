"""A folder of a bucket, where the function keeps the plan, the progress and the receipts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from firestate.migration.sources.cloud_storage import bucket_client, translated_storage

if TYPE_CHECKING:
    from pathlib import Path

_SECONDS = 2.0


class BucketWorkdir:
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
        with translated_storage(self.shown(name)):
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
        with translated_storage(self.shown(name)):
            blob = self._bucket.blob(f"{self._prefix}{name}")
            blob.upload_from_filename(str(self.folder / name), content_type="application/json")

    def shown(self, name: str) -> str:
        """Return its address."""
        return f"gs://{self._bucket.name}/{self._prefix}{name}"
