"""The contract on Firestore, and what is Firestore's alone."""

from __future__ import annotations

import pytest
from google.api_core import exceptions as gcp

from firestate.errors import ConflictError, ExistsError, RefusedError, StoreError, UnavailableError
from firestate.stores.firestore import translated
from tests.contract.reads_contract import ReadsContract
from tests.contract.writes_contract import WritesContract


class TestFirestoreStore(WritesContract, ReadsContract):
    """The suite on the emulator."""


@pytest.mark.parametrize(
    ("vendor", "ours"),
    [
        (gcp.FailedPrecondition("x"), ConflictError),
        (gcp.AlreadyExists("x"), ExistsError),
        (gcp.Aborted("x"), ConflictError),
        (gcp.NotFound("x"), ConflictError),
        (gcp.InvalidArgument("x"), RefusedError),
        (gcp.ServiceUnavailable("x"), UnavailableError),
        (gcp.DeadlineExceeded("x"), UnavailableError),
        (gcp.InternalServerError("x"), UnavailableError),
        (gcp.ResourceExhausted("x"), UnavailableError),
        (gcp.Cancelled("x"), UnavailableError),
        (gcp.RetryError("x", None), UnavailableError),
        (gcp.PermissionDenied("x"), StoreError),
    ],
)
def test_errors_are_translated(vendor: Exception, ours: type[StoreError]) -> None:
    """An error of Google's client becomes one of ours that names the document."""
    with pytest.raises(ours, match="things/a") as caught, translated("things/a"):
        raise vendor
    assert type(caught.value) is ours
    assert caught.value.__cause__ is vendor
