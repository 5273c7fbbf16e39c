"""What Google says is missing is said in words of what to do; all else is none of these faults."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from firebase_admin import auth as firebase_auth
from firebase_admin import exceptions
from google.api_core import exceptions as gcp
from google.auth import exceptions as auth
from google.rpc import error_details_pb2  # type: ignore[import-untyped]

from firestate.auth.role_claims import _translated as translated_accounts
from firestate.client.outgoing import Outgoing
from firestate.client.publisher import Publisher
from firestate.errors import (
    AccountError,
    ConfigurationError,
    FirestateError,
    UnavailableError,
    UnknownAccountError,
)
from firestate.google_errors import (
    AUTHENTICATION,
    FIRESTORE,
    PUBSUB,
    STORAGE,
    Service,
    fault_of_setup,
)
from firestate.migration.sources.cloud_storage import bucket_client, translated_storage

if TYPE_CHECKING:
    from collections.abc import Callable

_ADDRESS = "127.0.0.1:9"
_REFUSED = (
    "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:9: Failed to connect "
    "to remote host: Connection refused"
)


def with_reason(kind: Callable[..., Exception], message: str, reason: str) -> Exception:
    """Return an error with the details that Google's services add."""
    return kind(message, error_info=error_details_pb2.ErrorInfo(reason=reason))


# What Google says, of which service, and what must be said of it.
FAULTS: dict[str, tuple[Service, Exception, tuple[str, ...]]] = {
    "no database": (
        FIRESTORE,
        gcp.NotFound(
            "The database (default) does not exist for project typo Please visit "
            "https://console.cloud.google.com/datastore/setup?project=typo to add a Cloud "
            "Datastore or Cloud Firestore database. "
        ),
        ("project typo has no Firestore database", "make deploy PROJECT=typo", "datastore/setup"),
    ),
    "no database, in older words": (
        FIRESTORE,
        gcp.NotFound(
            "The project typo does not exist or it does not contain an active Cloud Datastore or "
            "Cloud Firestore database. Please visit http://console.cloud.google.com to create a "
            "project"
        ),
        ("project typo has no Firestore database, or does not exist",),
    ),
    "a database in Datastore mode": (
        FIRESTORE,
        gcp.FailedPrecondition(
            "The Cloud Firestore API is not available for Firestore in Datastore Mode database "
            "projects/typo/databases/(default)."
        ),
        ("project typo is in Datastore mode", "Native mode", "take another project"),
    ),
    "no project, by Firestore": (
        FIRESTORE,
        with_reason(
            gcp.PermissionDenied, "Permission denied on resource project typo.", "CONSUMER_INVALID"
        ),
        ("project typo does not exist in Google Cloud", "GOOGLE_CLOUD_PROJECT"),
    ),
    "no project, by Pub/Sub": (
        PUBSUB,
        gcp.NotFound(
            "Requested project not found or user does not have access to it (project=typo). Make "
            "sure to specify the unique project identifier and not the Google Cloud Console "
            "display name."
        ),
        ("project typo does not exist in Google Cloud", "not its display name"),
    ),
    "Firestore's API is not enabled": (
        FIRESTORE,
        with_reason(
            gcp.PermissionDenied,
            "Cloud Firestore API has not been used in project typo before or it is disabled.",
            "SERVICE_DISABLED",
        ),
        (
            "the API of Firestore is not enabled in project typo",
            "gcloud services enable firestore.googleapis.com --project=typo",
        ),
    ),
    "Pub/Sub's API is not enabled, without a reason": (
        PUBSUB,
        gcp.PermissionDenied(
            "Cloud Pub/Sub API has not been used in project typo before or it is disabled."
        ),
        ("gcloud services enable pubsub.googleapis.com --project=typo",),
    ),
    "no billing": (
        PUBSUB,
        with_reason(
            gcp.PermissionDenied,
            "This API method requires billing to be enabled.",
            "BILLING_DISABLED",
        ),
        ("project typo has no billing account",),
    ),
    "no permission on Firestore": (
        FIRESTORE,
        gcp.PermissionDenied("Missing or insufficient permissions."),
        (
            "these credentials may not use Firestore in project typo",
            "roles/datastore.viewer",
            "roles/datastore.user",
        ),
    ),
    "no permission on Pub/Sub": (
        PUBSUB,
        gcp.PermissionDenied("User not authorized to perform this action."),
        (
            "these credentials may not use Pub/Sub in project typo",
            "roles/pubsub.publisher on the topics agent-state and agent-coordination",
        ),
    ),
    "no permission on a bucket": (
        STORAGE,
        gcp.Forbidden("GET https://x: a@b does not have storage.objects.list access"),
        ("may not use Cloud Storage", "roles/storage.objectViewer on the bucket"),
    ),
    "no topic": (
        PUBSUB,
        gcp.NotFound("Resource not found (resource=agent-state)."),
        (
            "Pub/Sub has no topic agent-state in project typo",
            "deploy the functions first, by `make deploy PROJECT=typo`",
        ),
    ),
    "credentials that are not valid": (
        FIRESTORE,
        gcp.Unauthenticated("Request had invalid authentication credentials."),
        ("not valid any more", "gcloud auth application-default login"),
    ),
    "credentials that cannot be refreshed": (
        FIRESTORE,
        gcp.RetryError(
            "Timeout of 300.0s exceeded",
            gcp.ServiceUnavailable(
                "Getting metadata from plugin failed with error: ('invalid_grant: Bad Request', "
                "{'error': 'invalid_grant'})"
            ),
        ),
        ("not valid any more", "gcloud auth application-default login"),
    ),
    "no credentials": (
        PUBSUB,
        auth.DefaultCredentialsError("Your default credentials were not found."),
        (
            "no credentials for Google Cloud",
            "gcloud auth application-default login",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "PUBSUB_EMULATOR_HOST",
        ),
    ),
}
ELSEWHERE: list[tuple[Service, Exception]] = [
    (FIRESTORE, gcp.NotFound("No document to update: projects/typo/databases/(default)/x")),
    (FIRESTORE, gcp.FailedPrecondition("The query requires an index.")),
    (FIRESTORE, gcp.Aborted("Too much contention on these documents.")),
    (FIRESTORE, gcp.ServiceUnavailable(_REFUSED)),  # no emulator is named: the network is away
    (FIRESTORE, gcp.ServiceUnavailable("Getting metadata from plugin failed with error: timeout")),
    (PUBSUB, gcp.InvalidArgument("Request payload size exceeds the limit.")),
    (PUBSUB, gcp.RetryError("Timeout of 60.0s exceeded", None)),
    (PUBSUB, auth.TransportError("Failed to resolve oauth2.googleapis.com")),
    (PUBSUB, auth.RefreshError("the metadata server is busy", retryable=True)),
    (PUBSUB, ValueError("Cannot invoke RPC on closed channel!")),
]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a test names is named."""
    for name in ("FIRESTORE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)


def test_each_service_has_its_own_api_and_emulator() -> None:
    """No text sends anybody to another one."""
    services = [FIRESTORE, PUBSUB, STORAGE, AUTHENTICATION]
    assert len({each.api for each in services}) == len(services)


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_missing_is_named_with_what_to_do(name: str) -> None:
    """It is no passing fault, and Google's own words are kept."""
    service, vendor, expected = FAULTS[name]
    ours = fault_of_setup(vendor, service, "typo", "agent-state")
    assert type(ours) is ConfigurationError
    for part in expected:
        assert part in str(ours)
    cause = vendor.cause if isinstance(vendor, gcp.RetryError) else vendor
    assert str(ours).count(str(getattr(cause, "message", cause)).strip()) == 1


@pytest.mark.parametrize("name", FAULTS)
def test_where_no_project_is_known_none_is_made_up(name: str) -> None:
    """The command then has a word to be replaced."""
    service, vendor, _ = FAULTS[name]
    text = str(fault_of_setup(vendor, service, None, "agent-state")).partition("Google says")[0]
    assert "None" not in text
    assert "{" not in text


@pytest.mark.parametrize(("service", "vendor"), ELSEWHERE)
def test_other_errors_are_left_to_whoever_called(service: Service, vendor: Exception) -> None:
    """Conflicts, refusals, and a network that is away."""
    assert fault_of_setup(vendor, service, "typo") is None


def test_a_key_file_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable that names it."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/key.json")
    vendor = auth.DefaultCredentialsError("File /no/key.json was not found.")
    ours = fault_of_setup(vendor, FIRESTORE, "typo")
    assert isinstance(ours, ConfigurationError)
    assert "GOOGLE_APPLICATION_CREDENTIALS=/no/key.json cannot be used" in str(ours)


@pytest.mark.parametrize("service", [FIRESTORE, PUBSUB])
def test_an_emulator_that_does_not_answer_is_named(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its variable and its address, by an error of a real connection; it may come yet."""
    assert service.emulator is not None
    monkeypatch.setenv(service.emulator, _ADDRESS)
    with grpc.insecure_channel(_ADDRESS) as channel:
        call: Any = channel.unary_unary("/any/Method", None, None)
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=5)
    for vendor in (
        caught.value,
        gcp.ServiceUnavailable(_REFUSED),
        gcp.RetryError("Timeout of 60.0s exceeded", gcp.ServiceUnavailable(_REFUSED)),
    ):
        ours = fault_of_setup(vendor, service, "demo-x")
        assert type(ours) is UnavailableError
        assert f"no emulator answers at {service.emulator}={_ADDRESS}" in str(ours)
        assert "make emulators" in str(ours)
        assert f"unset {service.emulator}" in str(ours)


class FakeClient:
    """Google's publisher, which says what it is told to."""

    def __init__(self, answer: Exception) -> None:
        self._answer = answer

    def topic_path(self, project: str, topic: str) -> str:
        return f"projects/{project}/topics/{topic}"

    def publish(self, *_: Any, **__: Any) -> Future[str]:
        future: Future[str] = Future()
        future.set_exception(self._answer)
        return future


@pytest.mark.parametrize(
    ("vendor", "kind", "part"),
    [
        (FAULTS["no topic"][1], ConfigurationError, "no topic agent-state in project typo"),
        (FAULTS["no permission on Pub/Sub"][1], ConfigurationError, "roles/pubsub.publisher"),
        (FAULTS["no project, by Pub/Sub"][1], ConfigurationError, "project typo does not exist"),
        (gcp.ServiceUnavailable("away"), UnavailableError, "did not confirm a message: 503 away"),
        (gcp.RetryError("late", None), UnavailableError, "did not confirm a message: late"),
        (TimeoutError(), UnavailableError, "did not confirm all messages within 60 s"),
    ],
)
def test_a_publisher_says_what_is_missing(
    vendor: Exception,
    kind: type[FirestateError],
    part: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It names the topic of the message that was not taken."""
    monkeypatch.setattr("google.cloud.pubsub_v1.PublisherClient", lambda: FakeClient(vendor))
    publisher = Publisher("typo")
    publisher.publish(Outgoing("agent-state", b"{}"))
    with pytest.raises(kind) as caught:
        publisher.flush()
    assert part in str(caught.value)


def test_a_publisher_that_waits_in_vain_names_the_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Google's client tries again for minutes, and never says why."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", _ADDRESS)
    monkeypatch.setattr(
        "google.cloud.pubsub_v1.PublisherClient", lambda: FakeClient(TimeoutError())
    )
    publisher = Publisher("demo-x")
    publisher.publish(Outgoing("agent-state", b"{}"))
    with pytest.raises(UnavailableError, match=f"If no emulator answers at .*={_ADDRESS}: start"):
        publisher.flush()


@pytest.mark.parametrize(
    ("client", "made", "said"),
    [
        ("pubsub_v1.PublisherClient", lambda: Publisher("typo"), ""),
        ("storage.Client", lambda: bucket_client("b"), "gs://b: no credentials for Google Cloud"),
    ],
)
def test_what_is_made_without_credentials_says_so(
    client: str, made: Callable[[], object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it is made, with what to do."""

    def refuse() -> None:
        raise auth.DefaultCredentialsError("Your default credentials were not found.")

    monkeypatch.setattr(f"google.cloud.{client}", refuse)
    with pytest.raises(ConfigurationError, match="gcloud auth application-default login") as caught:
        made()
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("vendor", "kind", "part"),
    [
        (
            exceptions.PermissionDeniedError("Insufficient permission (INSUFFICIENT_PERMISSION)."),
            ConfigurationError,
            "roles/firebaseauth.admin and roles/serviceusage.serviceUsageConsumer",
        ),
        (
            exceptions.UnauthenticatedError("no token"),
            ConfigurationError,
            "gcloud auth application-default login",
        ),
        (
            firebase_auth.ConfigurationNotFoundError("No auth provider (CONFIGURATION_NOT_FOUND)."),
            ConfigurationError,
            "Firebase Authentication is not set up in this project: switch on a way to sign in",
        ),
        (
            auth.DefaultCredentialsError("Your default credentials were not found."),
            ConfigurationError,
            "for an emulator, name it in FIREBASE_AUTH_EMULATOR_HOST",
        ),
        (
            firebase_auth.UserNotFoundError("no such user"),
            UnknownAccountError,
            "has to sign in once first",
        ),
        (exceptions.UnavailableError("away"), AccountError, "ada: away"),
        (auth.TransportError("away"), AccountError, "ada: away"),
        (auth.RefreshError("busy", retryable=True), AccountError, "ada: "),
    ],
)
def test_what_the_accounts_lack_is_said(
    vendor: Exception, kind: type[FirestateError], part: str
) -> None:
    """By the same table."""
    with pytest.raises(FirestateError) as caught, translated_accounts("ada"):
        raise vendor
    assert type(caught.value) is kind
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("vendor", "kind", "part"),
    [
        (gcp.NotFound("GET https://x"), ConfigurationError, "gs://b: there is no such bucket"),
        (FAULTS["no permission on a bucket"][1], ConfigurationError, "gs://b: these credentials"),
        (auth.RefreshError("invalid_grant"), ConfigurationError, "not valid any more"),
        (gcp.ServiceUnavailable("away"), UnavailableError, "gs://b: cannot be reached for now"),
        (auth.TransportError("away"), UnavailableError, "gs://b: cannot be reached for now"),
    ],
)
def test_what_a_bucket_lacks_is_said(
    vendor: Exception, kind: type[FirestateError], part: str
) -> None:
    """With its address."""
    with pytest.raises(FirestateError) as caught, translated_storage("gs://b"):
        raise vendor
    assert type(caught.value) is kind
    assert part in str(caught.value)
