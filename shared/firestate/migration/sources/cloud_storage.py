"""Google's client for Cloud Storage, and what its errors mean.

google-cloud-storage is an extra: `pip install "./shared[buckets]"`; the deployed functions
have it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions as gcp
from google.auth import exceptions as auth

from firestate.errors import ConfigurationError, UnavailableError
from firestate.extras import required_extra
from firestate.google_errors import STORAGE, fault_of_setup

if TYPE_CHECKING:
    from collections.abc import Iterator


def bucket_client(name: str) -> Any:  # noqa: ANN401 - a Bucket, which has no types
    """Return the bucket; raise ConfigurationError where the library or credentials are missing."""
    with required_extra("buckets", f"gs://{name}"):
        from google.cloud import storage  # type: ignore[attr-defined,import-untyped,unused-ignore] # noqa: PLC0415 - an extra
    try:
        return storage.Client().bucket(name)
    except (auth.GoogleAuthError, OSError) as error:  # OSError: nothing names a project
        missing = fault_of_setup(error, STORAGE, None) or error
        raise ConfigurationError(f"gs://{name}: {missing}") from error


@contextmanager
def translated_storage(what: str) -> Iterator[None]:
    """Turn the library's errors into ours."""
    try:
        yield
    except gcp.NotFound as error:
        raise ConfigurationError(f"{what}: there is no such bucket or object: check it") from error
    except (gcp.GoogleAPICallError, gcp.RetryError, auth.GoogleAuthError, OSError) as error:
        if missing := fault_of_setup(error, STORAGE, None):
            raise ConfigurationError(f"{what}: {missing}") from error
        raise UnavailableError(f"{what}: cannot be reached for now: {error}") from error
