"""Errors of Google's clients that last until somebody does something: what is missing, what to do.

Whoever calls one of Google's services asks here first. What is no such fault is for the caller, who
knows what was read or written: a conflict, a refusal, a network that is away.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import grpc
from google.api_core import exceptions as gcp
from google.auth import exceptions as auth

from firestate.errors import ConfigurationError, FirestateError, UnavailableError

_KEY_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
_LOG_IN = "`gcloud auth application-default login`"


@dataclass(frozen=True, slots=True)
class Service:
    """A service of Google: its API, who may use it, and the variable that names an emulator."""

    name: str
    api: str
    roles: str
    emulator: str | None = None


FIRESTORE = Service(
    "Firestore",
    "firestore.googleapis.com",
    "roles/datastore.viewer on the project to read, as agents do, or roles/datastore.user to write",
    "FIRESTORE_EMULATOR_HOST",
)
PUBSUB = Service(
    "Pub/Sub",
    "pubsub.googleapis.com",
    "roles/pubsub.publisher on the topics agent-state and agent-coordination",
    "PUBSUB_EMULATOR_HOST",
)
STORAGE = Service(
    "Cloud Storage",
    "storage.googleapis.com",
    "roles/storage.objectViewer on the bucket to read, or roles/storage.objectUser to write",
)
AUTHENTICATION = Service(
    "Firebase Authentication",
    "identitytoolkit.googleapis.com",
    "roles/firebaseauth.admin and roles/serviceusage.serviceUsageConsumer on the project",
    "FIREBASE_AUTH_EMULATOR_HOST",
)


@dataclass(frozen=True, slots=True)
class _Fault:
    """How to know a fault, and what to say of it.

    By Google's reason or by how the message begins: further on it may quote the name of a document.
    Where both are left out, each error of this kind is one.
    """

    kind: type[gcp.GoogleAPICallError]
    text: str
    reason: str = ""
    message: str = ""
    service: Service | None = None

    def fits(self, error: gcp.GoogleAPICallError, service: Service) -> bool:
        """Return whether an error of a service is this fault."""
        if not isinstance(error, self.kind) or self.service not in {None, service}:
            return False
        if not self.reason and not self.message:
            return True
        is_the_reason = bool(self.reason) and error.reason == self.reason
        begins_so = bool(self.message) and re.match(self.message, str(error.message)) is not None
        return is_the_reason or begins_so


_NO_PROJECT = (
    "{where} does not exist in Google Cloud, or these credentials may not see it: check the "
    "project's id, which is not its display name, in GOOGLE_CLOUD_PROJECT or where it is passed"
)
_INVALID_CREDENTIALS = (
    f"the credentials for Google Cloud are not valid any more: run {_LOG_IN}, or name a key file "
    f"in {_KEY_FILE}"
)
_FAULTS = (  # the first that fits is taken
    _Fault(
        gcp.NotFound,
        "{where} has no Firestore database, or does not exist: create the database by `make deploy "
        "PROJECT={project}`, or check the project's id in GOOGLE_CLOUD_PROJECT or where it is "
        "passed",
        message=r"The (database|project) \S+ does not exist",
        service=FIRESTORE,
    ),
    _Fault(
        gcp.FailedPrecondition,
        "the Firestore database of {where} is in Datastore mode, and Firestate needs one "
        "in Native mode: take another project",
        message=r"The Cloud Firestore API is not available for",
        service=FIRESTORE,
    ),
    _Fault(gcp.NotFound, _NO_PROJECT, message=r"Requested project not found", service=PUBSUB),
    _Fault(
        gcp.NotFound,
        "Pub/Sub has no topic {what} in {where}: deploy the functions first, by `make deploy "
        "PROJECT={project}`; emulators have the topics where `make emulators` has started them",
        service=PUBSUB,
    ),
    _Fault(
        gcp.Forbidden,
        _NO_PROJECT,
        reason="CONSUMER_INVALID",
        message=r"Permission denied on resource project",
    ),
    _Fault(
        gcp.Forbidden,
        "the API of {service} is not enabled in {where}: run `gcloud services enable {api} "
        "--project={project}`, and wait some minutes",
        reason="SERVICE_DISABLED",
        message=r"[\w/ ]+ API has not been used in project",
    ),
    _Fault(
        gcp.Forbidden,
        "{where} has no billing account, which {service} needs: link one in the console of Google "
        "Cloud",
        reason="BILLING_DISABLED",
        message=r"This API method requires billing",
    ),
    _Fault(
        gcp.Forbidden,
        "these credentials may not use {service} in {where}: grant their account {roles}",
    ),
    _Fault(gcp.Unauthorized, _INVALID_CREDENTIALS),
    _Fault(
        gcp.ServiceUnavailable,
        _INVALID_CREDENTIALS,
        message=r"(?s)Getting metadata from plugin failed.*(invalid_grant|[Rr]eauth)",
    ),
)
_NO_CONNECTION = re.compile(r"(?i)failed to connect|connection refused|dns resolution failed")


def fault_of_setup(
    error: Exception, service: Service, project: str | None, what: str = ""
) -> FirestateError | None:
    """Return our error for one that lasts until somebody does something; None for any other.

    Args:
        error: An error of Google's clients, of gRPC, or of Google's credentials.
        service: What was called.
        project: Where it was called; None where only Google's message names it.
        what: The topic or bucket that was asked for.

    Returns:
        A ConfigurationError, or an UnavailableError where an emulator does not answer.
    """
    if isinstance(error, auth.GoogleAuthError):
        # A TransportError: the network is away while a token is fetched.
        passes = isinstance(error, auth.TransportError) or error.retryable
        return None if passes else _no_credentials(error, service)
    if isinstance(error, gcp.RetryError):
        error = error.cause or error
    if isinstance(error, grpc.RpcError):
        error = gcp.from_grpc_error(error)  # type: ignore[no-untyped-call] # Google's
    if not isinstance(error, gcp.GoogleAPICallError):
        return None
    if is_emulated(service) and _NO_CONNECTION.search(str(error.message)):
        return UnavailableError(no_emulator_text(str(service.emulator)))
    for fault in _FAULTS:
        if fault.fits(error, service):
            text = fault.text.format(
                where=f"project {project}" if project else "the project",
                project=project or "PROJECT",
                service=service.name,
                api=service.api,
                roles=service.roles,
                what=what,
            )
            return ConfigurationError(f"{text}. Google says: {str(error.message).strip()}")
    return None


def is_emulated(service: Service) -> bool:
    """Return whether the environment names an emulator for a service."""
    return service.emulator is not None and bool(os.environ.get(service.emulator))


def no_emulator_text(variable: str) -> str:
    """Return what to say where the emulator that a variable names does not answer."""
    return (
        f"no emulator answers at {variable}={os.environ.get(variable, '')}: start it, such as by "
        f"`make emulators`, or unset {variable} to go to Google Cloud"
    )


def _no_credentials(error: auth.GoogleAuthError, service: Service) -> ConfigurationError:
    if isinstance(error, auth.RefreshError):
        text = _INVALID_CREDENTIALS
    elif named := os.environ.get(_KEY_FILE):
        text = (
            f"the credentials for Google Cloud in {_KEY_FILE}={named} cannot be used: name a key "
            f"file that can, or unset it and run {_LOG_IN}"
        )
    else:
        text = f"no credentials for Google Cloud: run {_LOG_IN}, or name a key file in {_KEY_FILE}"
        if service.emulator is not None:
            text += f"; for an emulator, name it in {service.emulator}"
    return ConfigurationError(f"{text}. Google says: {error}")
