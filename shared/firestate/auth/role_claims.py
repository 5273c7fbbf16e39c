"""The roles that people hold: the custom claim `role` of their account, which the rules ask for.

A claim is in the tokens that are issued after it was set: at once on signing in, else when the
present one ends, after an hour (https://firebase.google.com/docs/auth/admin/manage-sessions). So
long at most a role still counts that was taken away. The refresh tokens are revoked with it: no
newer one is issued without signing in again.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import firebase_admin
import google.auth
from firebase_admin import auth, exceptions
from google.api_core import exceptions as gcp
from google.auth import exceptions as credentials

from firestate.errors import AccountError, ConfigurationError, UnknownAccountError
from firestate.google_errors import AUTHENTICATION, fault_of_setup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firestate.schema.enums import Role

CLAIM = "role"
_MOST_ECHOED = 80
_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who can sign in. `role` is as it is stored: an unknown one allows nothing."""

    uid: str
    email: str | None
    verified: bool
    disabled: bool
    role: str | None


class Accounts:
    """The accounts of one project; raises AccountError where Firebase does not do as asked."""

    def __init__(self, project: str) -> None:
        """Take the project; FIREBASE_AUTH_EMULATOR_HOST leads to the emulator instead."""
        self._app = firebase_admin.initialize_app(
            _credential(project), {"projectId": project}, f"firestate-{project}"
        )

    def close(self) -> None:
        """Forget the connection."""
        firebase_admin.delete_app(self._app)

    def find(self, who: str) -> Account:
        """Give the account with this e-mail address or, without an @, this uid."""
        return _account(self._user(who))

    def every(self) -> Iterator[Account]:
        """Yield every account."""
        with _translated("the accounts"):
            for user in auth.list_users(app=self._app).iterate_all():
                yield _account(user)

    def grant(self, uid: str, role: Role) -> None:
        """Set the role; other claims of the account stay."""
        self._set(uid, role.value)

    def revoke(self, uid: str) -> None:
        """Take the role away, and end the sessions in which it was granted."""
        self._set(uid, None)
        with _translated(uid):
            auth.revoke_refresh_tokens(uid, app=self._app)

    def _set(self, uid: str, role: str | None) -> None:
        claims = {
            name: value
            for name, value in (self._user(uid).custom_claims or {}).items()
            if name != CLAIM
        }
        if role is not None:
            claims[CLAIM] = role
        with _translated(uid):
            auth.set_custom_user_claims(uid, claims or None, app=self._app)

    def _user(self, who: str) -> Any:  # noqa: ANN401 - the library has no types
        with _translated(who):
            try:
                if "@" in who:
                    return auth.get_user_by_email(who, app=self._app)
                return auth.get_user(who, app=self._app)
            except ValueError as error:
                message = f"{who[:_MOST_ECHOED]!r} is no e-mail address and no uid: {error}"
                raise ConfigurationError(message) from error


def _credential(project: str) -> Any:  # noqa: ANN401 - the library has no types
    """Give the credentials of this machine, its calls counted for the project itself.

    Identity Toolkit refuses those of a person that name no project to count them for.
    """
    if os.environ.get("FIREBASE_AUTH_EMULATOR_HOST"):
        return None  # the emulator wants none, and there may be none
    with _translated(project):
        found, _ = google.auth.default(scopes=_SCOPES, quota_project_id=project)
    return found


def _account(user: Any) -> Account:  # noqa: ANN401 - the library has no types
    role = (user.custom_claims or {}).get(CLAIM)
    return Account(
        user.uid,
        user.email,
        bool(user.email_verified),
        bool(user.disabled),
        None if role is None else str(role),
    )


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except auth.UserNotFoundError as error:
        message = f"no account {what}: whoever it is has to sign in once first"
        raise UnknownAccountError(message) from error
    except auth.ConfigurationNotFoundError as error:
        message = (
            "Firebase Authentication is not set up in this project: switch on a way to sign in "
            f"(Firebase console, Authentication). Google says: {error}"
        )
        raise ConfigurationError(message) from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        status = 403 if isinstance(error, exceptions.PermissionDeniedError) else 401
        same = gcp.from_http_status(status, str(error))  # type: ignore[no-untyped-call] # Google's
        missing = fault_of_setup(same, AUTHENTICATION, None)
        raise missing or AccountError(f"{what}: {error}") from error
    except (exceptions.FirebaseError, credentials.TransportError) as error:
        raise AccountError(f"{what}: {error}") from error
    except credentials.GoogleAuthError as error:
        missing = fault_of_setup(error, AUTHENTICATION, None)
        raise missing or AccountError(f"{what}: {error}") from error
    except ValueError as error:  # such as more claims than an account can have
        raise AccountError(f"{what}: {error}") from error
