"""Roles, with the emulators of Firebase Authentication and Firestore under the project's rules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.rules.client import SECONDS, Person

if TYPE_CHECKING:
    from tests.conftest import Run
    from tools.emulators import Suite

FIRESTATE = Path(sys.executable).parent / "firestate"
PASSWORD = token_urlsafe()


def roles(running: Suite, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `firestate roles` as a user would."""
    return subprocess.run(
        [FIRESTATE, "roles", *arguments],
        env=os.environ | running.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def listed(running: Suite, *more: str) -> dict[str, Any]:
    """Give the role of each account that is listed."""
    told = json.loads(roles(running, "list", "--json", *more).stdout)
    return {each["email"]: each["role"] for each in told}


def call(running: Suite, method: str, body: dict[str, Any], *, owner: bool = False) -> Any:
    """Call Firebase Authentication as an app does; as its owner for what only that may do."""
    answer = httpx.post(
        f"http://{running.hosts['auth']}/identitytoolkit.googleapis.com/v1/{method}",
        params={} if owner else {"key": "any"},
        headers={"Authorization": "Bearer owner"} if owner else {},
        json=body,
        timeout=SECONDS,
    )
    return answer.raise_for_status().json()


def sign_up(running: Suite, email: str, *, verified: bool = True) -> str:
    """Make an account as an app does; give its uid."""
    made = call(running, "accounts:signUp", {"email": email, "password": PASSWORD})
    uid: str = made["localId"]
    if verified:
        change = {"localId": uid, "emailVerified": True}
        call(running, f"projects/{running.project}/accounts:update", change, owner=True)
    return uid


def may_read_and_stop(running: Suite, email: str) -> tuple[bool, bool]:
    """Sign in, and tell whether agents can be read, and the controls be written."""
    credentials = {"email": email, "password": PASSWORD, "returnSecureToken": True}
    token = call(running, "accounts:signInWithPassword", credentials)["idToken"]
    with httpx.Client(base_url=f"http://{running.hosts['firestore']}", timeout=SECONDS) as http:
        owner = Person(http, running.project, "Bearer owner")
        owner.delete("system_state/controls")
        person = Person(http, running.project, f"Bearer {token}")
        return person.find("agent_states/x"), person.create("system_state/controls", {})


def test_a_role_from_its_grant_to_its_end(running: Suite) -> None:
    """It allows what the rules say, from the next sign-in on, and nothing once it is revoked."""
    sign_up(running, "ada@example.com")
    assert may_read_and_stop(running, "ada@example.com") == (False, False)
    assert listed(running) == {}
    assert listed(running, "--all") == {"ada@example.com": None}
    done = roles(running, "grant", "ada@example.com", "viewer")
    assert (done.returncode, done.stderr) == (0, "")
    assert "ada@example.com is viewer" in done.stdout
    assert may_read_and_stop(running, "ada@example.com") == (True, False)
    assert roles(running, "grant", "ada@example.com", "operator").returncode == 0
    assert may_read_and_stop(running, "ada@example.com") == (True, True)
    assert listed(running) == {"ada@example.com": "operator"}
    assert "operator" in roles(running, "list").stdout
    done = roles(running, "revoke", "ada@example.com")
    assert (done.returncode, done.stderr) == (0, "")
    assert "had operator" in done.stdout
    assert may_read_and_stop(running, "ada@example.com") == (False, False)
    assert listed(running) == {}


def test_other_claims_stay(running: Suite) -> None:
    """Whatever else an app keeps in the claims of an account is not touched."""
    uid = sign_up(running, "claims@example.com")
    change = {"localId": uid, "customAttributes": json.dumps({"team": 7})}
    call(running, f"projects/{running.project}/accounts:update", change, owner=True)

    def claims() -> Any:
        found = call(
            running,
            f"projects/{running.project}/accounts:lookup",
            {"localId": [uid]},
            owner=True,
        )
        return json.loads(found["users"][0]["customAttributes"])

    roles(running, "grant", uid, "viewer")
    assert claims() == {"team": 7, "role": "viewer"}
    roles(running, "revoke", uid)
    assert claims() == {"team": 7}


def test_more_claims_than_an_account_can_have(running: Suite) -> None:
    """An app that has used them up leaves no room for a role: that is told, and nothing is lost."""
    uid = sign_up(running, "full@example.com")
    full = json.dumps({"a": "x" * 985})
    change = {"localId": uid, "customAttributes": full}
    call(running, f"projects/{running.project}/accounts:update", change, owner=True)
    done = roles(running, "grant", uid, "viewer")
    assert done.returncode == 3
    assert "1000" in done.stderr
    found = call(
        running, f"projects/{running.project}/accounts:lookup", {"localId": [uid]}, owner=True
    )
    assert found["users"][0]["customAttributes"] == full


def test_an_address_that_anybody_may_have_taken(running: Suite) -> None:
    """A role goes to an unverified address only where that is said; to a uid always."""
    uid = sign_up(running, "eve@example.com", verified=False)
    done = roles(running, "grant", "eve@example.com", "operator")
    assert done.returncode == 1
    assert uid in done.stderr
    assert "eve@example.com" not in listed(running)
    assert roles(running, "grant", uid, "viewer").returncode == 0
    assert roles(running, "grant", "eve@example.com", "operator", "--unverified").returncode == 0
    assert listed(running)["eve@example.com"] == "operator"
    assert "unverified" in roles(running, "list").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["grant", "nobody@example.com", "viewer"], 1, "no account nobody@example.com"),
        (["revoke", "no-uid"], 1, "no account no-uid"),
        (["grant", "x@", "viewer"], 2, "is no e-mail address and no uid"),
        (["grant", "ada@example.com", "father"], 2, "'father' is not one of"),
    ],
)
def test_what_cannot_be_done(running: Suite, arguments: list[str], code: int, said: str) -> None:
    """It is told in one line, with an exit code of its own."""
    done = roles(running, *arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_no_emulator_there(running: Suite) -> None:
    """It is said at once."""
    gone = replace(running, hosts={"auth": "127.0.0.1:1"})
    done = roles(gone, "list")
    assert done.returncode == 3
    assert "FIREBASE_AUTH_EMULATOR_HOST" in done.stderr


def test_without_the_library(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has installed the package for agents alone is told what is missing."""
    monkeypatch.setitem(sys.modules, "firebase_admin", None)
    monkeypatch.delitem(sys.modules, "firestate.auth.role_claims", raising=False)
    code, out, err = run("roles", "list", "--project", "p")
    assert (code, out) == (2, "")
    assert "./shared[roles]" in err
