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

if TYPE_CHECKING:
    from collections.abc import Iterator


def bucket_client(name: str) -> Any:  # noqa: ANN401 - a Bucket, which has no types
    """Return the bucket; raise ConfigurationError where the library or credentials are missing."""
    try:
        from google.cloud import storage  # type: ignore[attr-defined,import-untyped,unused-ignore] # noqa: PLC0415 - an extra
    except ImportError as error:
        message = 'to read a bucket, install the library for it: pip install "./shared[buckets]"'
        raise ConfigurationError(message) from error
    try:
        return storage.Client().bucket(name)
    except (auth.DefaultCredentialsError, OSError) as error:
        message = "no credentials for Google Cloud: run `gcloud auth application-default login`"
        raise ConfigurationError(message) from error


@contextmanager
def translated_storage(what: str) -> Iterator[None]:
    """Turn the library's errors into ours."""
    try:
        yield
    except gcp.NotFound as error:
        raise ConfigurationError(f"{what}: there is no such bucket or object") from error
    except (gcp.Forbidden, gcp.Unauthorized) as error:
        raise ConfigurationError(f"{what}: not allowed: {error.message}") from error
    except (gcp.GoogleAPICallError, auth.TransportError, OSError) as error:
        raise UnavailableError(f"{what}: cannot be reached for now: {error}") from error
