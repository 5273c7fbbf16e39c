"""The contract on Firestore, and what is Firestore's alone."""

from __future__ import annotations

import pytest
from google.api_core import exceptions as gcp
from google.auth import exceptions as auth

from firestate.errors import (
    ConfigurationError,
    ConflictError,
    ExistsError,
    RefusedError,
    StoreError,
    UnavailableError,
)
from firestate.stores.firestore import translated
from tests.contract.reads_contract import ReadsContract
from tests.contract.writes_contract import WritesContract


class TestFirestoreStore(WritesContract, ReadsContract):
    """The suite on the emulator."""


@pytest.mark.parametrize(
    ("vendor", "written", "read"),
    [
        (gcp.FailedPrecondition("x"), ConflictError, StoreError),
        (gcp.NotFound("No document to update: projects/p"), ConflictError, StoreError),
        (gcp.NotFound("no entity to update: app"), ConflictError, StoreError),
        (
            gcp.NotFound("No document to update: a/The database x does not exist for project y"),
            ConflictError,
            StoreError,
        ),
        (gcp.AlreadyExists("x"), ExistsError, ExistsError),
        (gcp.Aborted("x"), ConflictError, ConflictError),
        (gcp.InvalidArgument("x"), RefusedError, RefusedError),
        (gcp.ServiceUnavailable("x"), UnavailableError, UnavailableError),
        (gcp.DeadlineExceeded("x"), UnavailableError, UnavailableError),
        (gcp.InternalServerError("x"), UnavailableError, UnavailableError),
        (gcp.ResourceExhausted("x"), UnavailableError, UnavailableError),
        (gcp.Cancelled("x"), UnavailableError, UnavailableError),
        (gcp.RetryError("x", None), UnavailableError, UnavailableError),
        (auth.TransportError("x"), UnavailableError, UnavailableError),
        (gcp.MethodNotImplemented("x"), UnavailableError, UnavailableError),
        (gcp.GoogleAPICallError("x"), StoreError, StoreError),
    ],
)
def test_errors_are_translated(
    vendor: Exception, written: type[StoreError], read: type[StoreError]
) -> None:
    """An error of Google's client becomes one of ours that names the document."""
    for commits, ours in ((True, written), (False, read)):
        with (
            pytest.raises(ours, match="things/a") as caught,
            translated("things/a", commits=commits),
        ):
            raise vendor
        assert type(caught.value) is ours
        assert caught.value.__cause__ is vendor


@pytest.mark.parametrize("commits", [True, False])
def test_a_missing_database_is_no_conflict(commits: bool) -> None:  # noqa: FBT001 - a parameter
    """Trying again does not make it: the operator is told what does."""
    said = "The database (default) does not exist for project typo Please visit https://x"
    with (
        pytest.raises(ConfigurationError, match="project typo has no Firestore database") as caught,
        translated("system_state/global_config", "typo", commits=commits),
    ):
        raise gcp.NotFound(said)
    assert said in str(caught.value)
